"""Policies that name groups and services → policies that say what those are. Owns the look-up of names, no meaning of a rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.policy.language import (
    DEFAULT_TENANT,
    AddressGroupSpec,
    Document,
    ExceptionSpec,
    FlowSpec,
    Kind,
    Peer,
    PolicySpec,
    RuleSpec,
    ServiceSpec,
)
from buckler.policy.learned import learned_peers, name_group
from buckler.policy.prefix import is_within

NAMED_KINDS = frozenset({Kind.ADDRESS_GROUP, Kind.SERVICE})


class UnknownName(KeyError):
    """A policy names a group or service that is not there. ``check_documents`` tells it before."""


def compose_documents(documents: Iterable[Document]) -> tuple[Document, ...]:
    """Compose every document. What names nothing stays as it is; composing twice is composing once."""
    documents = tuple(documents)
    named = {each.key: each for each in documents if each.kind in NAMED_KINDS}
    exceptions: dict[str, list[Document]] = {}
    for each in documents:
        if isinstance(each.spec, ExceptionSpec):
            exceptions.setdefault(key_of_excepted(each), []).append(each)
    return tuple(compose_document(each, named, exceptions.get(each.key, ())) for each in documents)


def key_of_excepted(exception: Document) -> str:
    """Name the document whose rule yields: always one of the exception's own tenant."""
    spec = exception.spec
    assert isinstance(spec, ExceptionSpec)  # noqa: S101 - by its kind
    kind, name = (Kind.POLICY, spec.policy) if spec.policy else (Kind.FLOW, spec.flow)
    return f"{kind}/{exception.tenant}/{name}"


def compose_document(
    document: Document, named: Mapping[str, Document], exceptions: Iterable[Document] = ()
) -> Document:
    """Compose one document; ``named`` are groups and services by key, ``exceptions`` those to it. Raises UnknownName."""
    written = tuple(compose_document(each, named) for each in sorted(exceptions, key=lambda each: each.key))
    if written:
        document = msgspec.structs.replace(document, exceptions=written)
    if not names_of(document):
        return document
    spec = document.spec
    if isinstance(spec, ExceptionSpec):
        there = _composed(document, spec.destinations, named)
        changed = msgspec.structs.replace(spec, sources=_composed(document, spec.sources, named), destinations=there)
        return msgspec.structs.replace(document, spec=changed)
    if isinstance(spec, PolicySpec):
        ingress = tuple(_composed_rule(document, rule, named) for rule in spec.ingress)
        egress = tuple(_composed_rule(document, rule, named) for rule in spec.egress)
        return msgspec.structs.replace(document, spec=msgspec.structs.replace(spec, ingress=ingress, egress=egress))
    assert isinstance(spec, FlowSpec)  # noqa: S101 - nothing else names anything
    flow = msgspec.structs.replace(spec, sources=_composed(document, spec.sources, named))
    flow = msgspec.structs.replace(flow, destinations=_composed(document, spec.destinations, named))
    if spec.service:
        service = find_service(document.tenant, spec.service, named)
        flow = msgspec.structs.replace(flow, destinations=(Peer(vm=service.selector),), ports=service.ports, service="")
    return msgspec.structs.replace(document, spec=flow)


def names_of(document: Document) -> frozenset[tuple[Kind, str]]:
    """Name the groups and services that a document asks for."""
    spec = document.spec
    if isinstance(spec, PolicySpec):
        rules = (*spec.ingress, *spec.egress)
        peers = [peer for rule in rules for peer in rule.peers]
        services = [rule.service for rule in rules]
    elif isinstance(spec, FlowSpec):
        peers, services = [*spec.sources, *spec.destinations], [spec.service]
    elif isinstance(spec, ExceptionSpec):
        peers, services = [*spec.sources, *spec.destinations], []
    else:
        return frozenset()
    groups = {(Kind.ADDRESS_GROUP, peer.addresses) for peer in peers if peer.addresses}
    groups |= {(Kind.ADDRESS_GROUP, name_group(peer.dns)) for peer in peers if peer.dns}
    return frozenset(groups | {(Kind.SERVICE, name) for name in services if name})


def key_of_named(kind: Kind, tenant: str, name: str, named: Mapping[str, Document]) -> str:
    """Find a name in the policy's own tenant, else in the default one. Raises UnknownName."""
    for place in (tenant, DEFAULT_TENANT):
        if (key := f"{kind}/{place}/{name}") in named:
            return key
    raise UnknownName(f"{kind}/{tenant}/{name}")


def find_service(tenant: str, name: str, named: Mapping[str, Document]) -> ServiceSpec:
    """Give what a service is. Raises UnknownName."""
    spec = named[key_of_named(Kind.SERVICE, tenant, name, named)].spec
    assert isinstance(spec, ServiceSpec)  # noqa: S101 - by its kind
    return spec


def find_group(tenant: str, name: str, named: Mapping[str, Document]) -> AddressGroupSpec:
    """Give what a group is. Raises UnknownName."""
    spec = named[key_of_named(Kind.ADDRESS_GROUP, tenant, name, named)].spec
    assert isinstance(spec, AddressGroupSpec)  # noqa: S101 - by its kind
    return spec


def _composed_rule(document: Document, rule: RuleSpec, named: Mapping[str, Document]) -> RuleSpec:
    rule = msgspec.structs.replace(rule, peers=_composed(document, rule.peers, named))
    if not rule.service:
        return rule
    service = find_service(document.tenant, rule.service, named)
    return msgspec.structs.replace(rule, peers=(Peer(vm=service.selector),), ports=service.ports, service="")


def _composed(document: Document, peers: tuple[Peer, ...], named: Mapping[str, Document]) -> tuple[Peer, ...]:
    found: list[Peer] = []
    for peer in peers:
        if peer.addresses:
            found += _members(find_group(document.tenant, peer.addresses, named))
        elif peer.dns:
            found += learned_peers(peer.dns, named)
        else:
            found.append(peer)
    return tuple(found)


def _members(group: AddressGroupSpec) -> tuple[Peer, ...]:
    """Write a group out. It names at least one prefix, so that no rule comes to mean everyone."""
    return tuple(
        Peer(
            cidr=cidr, excluded=tuple(part for part in group.excluded if is_within(part, cidr) or is_within(cidr, part))
        )
        for cidr in group.cidrs
    )
