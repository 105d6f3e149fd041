"""Check documents against each other: references, duplicates, overlaps. Owns what one document alone cannot show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from buckler.model.label import LABEL_TENANT, Operator, Selector
from buckler.model.pool import Host
from buckler.policy.exceptioncheck import check_exceptions
from buckler.policy.instances import check_instances
from buckler.policy.language import (
    Document,
    EndpointSpec,
    FlowSpec,
    Kind,
    NetworkSpec,
    Peer,
    PolicySpec,
    ServiceSpec,
    Tier,
    VmSpec,
)
from buckler.policy.prefix import address_of, is_within
from buckler.policy.problem import Problem, Severity
from buckler.policy.space import range_of
from buckler.policy.subjects import check_askers
from buckler.policy.thingcheck import check_things
from buckler.policy.unpoliced import is_somewhere
from buckler.policy.virtualcheck import check_virtual_addresses
from buckler.policy.vmcheck import CheckedVms, is_inside


def merge_documents(
    present: Mapping[str, Document], applied: Sequence[Document], deleted: Iterable[str] = ()
) -> tuple[Document, ...]:
    """Put ``applied`` in place of their namesakes and take ``deleted`` keys away: the pool's documents afterwards."""
    merged = dict(present)
    for key in deleted:
        merged.pop(key, None)
    merged.update({document.key: document for document in applied})
    return tuple([merged[key] for key in sorted(merged)])


def check_documents(
    documents: Sequence[Document], applied: Sequence[Document] | None = None, checked: CheckedVms | None = None
) -> tuple[Problem, ...]:
    """Check a pool's whole set of documents. ``applied`` (default: all) are checked for being given twice.

    ``checked``: what need not be looked at again. A set has no document twice then.
    """
    checked = checked or CheckedVms()
    problems = [*_twice(documents if applied is None else applied)]
    rest = [each for each in documents if each.kind is not Kind.VM]
    networks = {each.name: each for each in rest if each.kind is Kind.NETWORK}
    problems += _same_network_name(rest)
    problems += _bridges(list(networks.values()))
    for network in networks.values():
        problems += _network(network)
    vms = _newcomers_last(documents, applied or ())
    problems += checked.check(vms, networks)  # what is there already comes first: a clash is told of the newcomer
    for document in rest:
        problems += _policy(document, networks)
    problems += check_things(documents, networks, checked)
    problems += check_virtual_addresses(documents, networks, checked)
    problems += check_exceptions(rest)
    problems += check_askers(rest)
    problems += check_instances(rest)
    return tuple(sorted(problems, key=lambda each: (each.file, each.line, each.path)))


def _newcomers_last(documents: Sequence[Document], applied: Sequence[Document]) -> list[Document]:
    news = {each.key for each in applied}
    names = {each.name for each in applied}
    vms = [each for each in documents if each.kind is Kind.VM]
    late = [each for each in vms if each.name in names and each.key in news]
    if not late:
        return vms
    named = {id(each) for each in late}
    return [*(each for each in vms if id(each) not in named), *late]


def check_hosts(
    documents: Sequence[Document], hosts: Iterable[Host], checked: CheckedVms | None = None
) -> tuple[Problem, ...]:
    """Check that no document claims what is a host's, revoked ones too: nothing may open it, and no VM may speak as it.

    ``checked``: what need not be looked at again.
    """
    hosts = tuple(hosts)
    fabric = {address_of(host.fabric): host.name for host in hosts if host.fabric}
    owners = fabric | {address_of(each): host.name for host in hosts for each in host.addresses}
    if checked is not None and not checked.declare([each for each in documents if each.kind is Kind.VM], owners):
        documents = [each for each in documents if each.kind is not Kind.VM]
    problems = []
    for document in documents:
        spec = document.spec
        if isinstance(spec, NetworkSpec):
            claims = [(f"spec.gateway[{index}]", each, fabric) for index, each in enumerate(spec.gateway)]
        elif isinstance(spec, VmSpec):
            claims = [
                (f"spec.interfaces[{index}].addresses[{place}]", each, owners)
                for index, card in enumerate(spec.interfaces)
                for place, each in enumerate(card.addresses)
            ]
        elif isinstance(spec, EndpointSpec):
            claims = [(f"spec.addresses[{index}]", each, owners) for index, each in enumerate(spec.addresses)]
        elif isinstance(spec, ServiceSpec) and spec.virtual_address:
            claims = [("spec.virtualAddress", spec.virtual_address, owners)]
        else:
            continue
        problems += [
            _problem(
                document, path, f"{each} is host {taken[address_of(each)]}'s", "no guest's peer, whatever is declared"
            )
            for path, each, taken in claims
            if address_of(each) in taken
        ]
    return tuple(problems)


def _problem(
    document: Document, path: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
) -> Problem:
    line = document.lines.get(path, document.line)
    return Problem(document.file, line, path, f"{document.kind} {document.name}: {message}", hint, severity)


def _twice(documents: Sequence[Document]) -> Iterator[Problem]:
    seen: dict[str, Document] = {}
    for document in documents:
        first = seen.setdefault(document.key, document)
        if first is not document:
            yield _problem(document, "metadata.name", "given twice", f"first in {first.file} line {first.line}")


def _same_network_name(documents: Sequence[Document]) -> Iterator[Problem]:
    seen: dict[str, Document] = {}
    for document in documents:
        if document.kind is Kind.NETWORK:
            first = seen.setdefault(document.name, document)
            if first.tenant != document.tenant:
                yield _problem(
                    document, "metadata.name", f"tenant {first.tenant} has a network of this name", "rename one"
                )


def _bridges(networks: Sequence[Document]) -> Iterator[Problem]:
    seen: dict[tuple[str, int], Document] = {}
    for document in networks:
        spec = document.spec
        if isinstance(spec, NetworkSpec):
            first = seen.setdefault((spec.bridge, spec.vlan), document)
            if first is not document:
                where = f"bridge {spec.bridge}" + (f" VLAN {spec.vlan}" if spec.vlan else "")
                yield _problem(document, "spec.bridge", f"{where} is network {first.name} already")


def _network(document: Document) -> Iterator[Problem]:
    spec = document.spec
    if not isinstance(spec, NetworkSpec):
        return
    for field, addresses in (("dhcpServers", spec.dhcp_servers), ("routers", spec.routers), ("gateway", spec.gateway)):
        for index, address in enumerate(addresses):
            if spec.cidrs and not is_inside(address, spec.cidrs) and not address_of(address).is_link_local:
                yield _problem(
                    document,
                    f"spec.{field}[{index}]",
                    f"{address} lies in none of the network's prefixes",
                    ", ".join(spec.cidrs),
                    Severity.WARNING,
                )


def _policy(document: Document, networks: dict[str, Document]) -> Iterator[Problem]:
    spec = document.spec
    if isinstance(spec, PolicySpec):
        if spec.tier is Tier.TENANT:
            yield from _within_tenant(document, "spec.subject", spec.subject)
        for side, rules in (("ingress", spec.ingress), ("egress", spec.egress)):
            for index, rule in enumerate(rules):
                word = "from" if side == "ingress" else "to"
                yield from _peers(document, spec.tier, f"spec.{side}[{index}].{word}", rule.peers, networks)
    elif isinstance(spec, FlowSpec):
        yield from _peers(document, spec.tier, "spec.from", spec.sources, networks)
        yield from _peers(document, spec.tier, "spec.to", spec.destinations, networks)


def _peers(
    document: Document, tier: Tier, path: str, peers: Sequence[Peer], networks: dict[str, Document]
) -> Iterator[Problem]:
    for index, peer in enumerate(peers):
        at = f"{path}[{index}]"
        if peer.vm is not None and tier is Tier.TENANT:
            yield from _within_tenant(document, f"{at}.vm", peer.vm)
        if peer.dns and _nobody_answers(document, tier, networks):
            why = "state spec.resolvers of the network: whose answers are believed"
            yield _problem(
                document, f"{at}.dns", f"no network has a resolver that could answer {peer.dns}", why, Severity.WARNING
            )
        if not peer.cidr:
            continue
        if not is_somewhere((range_of(peer.cidr),)):
            why = "no packet passes with such an address, whatever policies say"
            yield _problem(document, f"{at}.cidr", f"{peer.cidr} is nobody's", why, Severity.WARNING)
        for network in networks.values():
            if tier is Tier.TENANT and network.tenant != document.tenant:
                continue  # it binds its own tenant's VMs only, and is told of no other tenant's networks
            spec = network.spec
            cidrs = spec.cidrs if isinstance(spec, NetworkSpec) else ()
            for cidr in cidrs:
                if is_within(cidr, peer.cidr) or is_within(peer.cidr, cidr):
                    yield _problem(
                        document,
                        f"{at}.cidr",
                        f"{peer.cidr} overlaps {cidr} of network {network.name}",
                        "a CIDR never matches a VM of the pool: select VMs by label",
                        Severity.WARNING,
                    )


def _nobody_answers(document: Document, tier: Tier, networks: Mapping[str, Document]) -> bool:
    """Say whether there are networks where it may stand, and none of them says whom to believe."""
    mine = [each.spec for each in networks.values() if tier is not Tier.TENANT or each.tenant == document.tenant]
    return bool(mine) and not any(isinstance(spec, NetworkSpec) and spec.resolvers for spec in mine)


def _within_tenant(document: Document, path: str, selector: Selector) -> Iterator[Problem]:
    named = {selector.match_labels[LABEL_TENANT]} if LABEL_TENANT in selector.match_labels else set()
    for expression in selector.match_expressions:
        if expression.key == LABEL_TENANT:
            named |= set(expression.values) if expression.operator is Operator.IN else {f"{expression.operator} …"}
    if named - {document.tenant}:
        yield _problem(
            document,
            path,
            f"the tenant tier selects within tenant {document.tenant} only, not {', '.join(sorted(named))}",
            "a policy across tenants belongs to the security tier",
        )
