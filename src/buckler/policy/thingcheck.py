"""Check endpoints, groups and services against the other documents, and what policies name. Owns no check of a VM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from buckler.policy.compose import NAMED_KINDS, UnknownName, key_of_named
from buckler.policy.language import (
    DEFAULT_TENANT,
    AddressGroupSpec,
    Document,
    EndpointSpec,
    Kind,
    NetworkSpec,
    VmSpec,
)
from buckler.policy.pool import link_local_address
from buckler.policy.prefix import address_of, is_within, network_of
from buckler.policy.problem import Problem, Severity, guess
from buckler.policy.referring import list_named
from buckler.policy.vmcheck import CheckedVms


def check_things(
    documents: Sequence[Document], networks: Mapping[str, Document], checked: CheckedVms
) -> Iterator[Problem]:
    """Note every name that nothing has, and every address that two things have. ``checked``: it checked these VMs last."""
    rest = [each for each in documents if each.kind is not Kind.VM]
    named = {each.key: each for each in rest if each.kind in NAMED_KINDS}
    owners = _addresses(rest)
    if any(checked.has(*each) for each in owners):
        owners = _addresses(documents)
    names = {each.name for each in rest if isinstance(each.spec, EndpointSpec)}
    vms = (
        {(each.tenant, each.name) for each in documents if each.kind is Kind.VM and each.name in names} if names else {}
    )
    for document in rest:
        if isinstance(document.spec, EndpointSpec):
            if (document.tenant, document.name) in vms:
                yield _problem(
                    document, "metadata.name", f"a VM is called {document.name!r}", "explain means one by it"
                )
            yield from _endpoint(document, document.spec, networks, owners)
        elif isinstance(document.spec, AddressGroupSpec):
            yield from _group(document, document.spec, networks)
        else:
            yield from _names(document, named)


def _problem(
    document: Document, path: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
) -> Problem:
    line = document.lines.get(path, document.line)
    return Problem(document.file, line, path, f"{document.kind} {document.name}: {message}", hint, severity)


def _addresses(documents: Sequence[Document]) -> dict[tuple[str, str], list[Document]]:
    owners: dict[tuple[str, str], list[Document]] = {}
    for document in documents:
        spec = document.spec
        if isinstance(spec, VmSpec):
            for card in spec.interfaces:
                for address in (*card.addresses, link_local_address(card.mac)):
                    owners.setdefault((card.network, address), []).append(document)
        elif isinstance(spec, EndpointSpec):
            for address in spec.addresses:
                owners.setdefault((spec.network, address), []).append(document)
    return owners


def _endpoint(
    document: Document,
    spec: EndpointSpec,
    networks: Mapping[str, Document],
    owners: Mapping[tuple[str, str], list[Document]],
) -> Iterator[Problem]:
    network = networks.get(spec.network)
    if network is None:
        hint = guess(spec.network, networks) if networks else "apply a Network document with it"
        yield _problem(document, "spec.network", f"network {spec.network!r} is not known", hint)
    elif network.tenant != document.tenant:
        yield _problem(
            document,
            "spec.network",
            f"network {network.name} belongs to tenant {network.tenant}, the endpoint to {document.tenant}",
            "a network serves one tenant",
        )
    for index, address in enumerate(spec.addresses):
        path = f"spec.addresses[{index}]"
        others = [each for each in owners.get((spec.network, address), ()) if each is not document]
        if others:
            other = others[0]
            yield _problem(document, path, f"{address} is {other.kind} {other.name}'s in network {spec.network}")
        if address in spec.addresses[:index]:
            yield _problem(document, path, f"{address} is written twice")
        if network is not None and isinstance(network.spec, NetworkSpec):
            yield from _within(document, path, address, network, network.spec)


def _within(document: Document, path: str, address: str, network: Document, spec: NetworkSpec) -> Iterator[Problem]:
    """An endpoint may lie outside the network's prefixes: behind its router."""
    if address in spec.gateway:
        yield _problem(
            document, path, f"{address} is the gateway of network {network.name}", "use the peer {host: true}"
        )
    for cidr in map(network_of, spec.cidrs):
        if cidr.version == 4 and cidr.prefixlen < 31 and address_of(address) == cidr.broadcast_address:
            yield _problem(
                document, path, f"{address} is the broadcast address of {cidr}", "use the peer {group: true}"
            )


def _group(document: Document, spec: AddressGroupSpec, networks: Mapping[str, Document]) -> Iterator[Problem]:
    for index, prefix in enumerate(spec.cidrs):
        for network in networks.values():
            if document.tenant not in (DEFAULT_TENANT, network.tenant):
                continue  # only its own tenant can name it
            for cidr in network.spec.cidrs if isinstance(network.spec, NetworkSpec) else ():
                if is_within(cidr, prefix) or is_within(prefix, cidr):
                    yield _problem(
                        document,
                        f"spec.cidrs[{index}]",
                        f"{prefix} overlaps {cidr} of network {network.name}",
                        "a group never matches a VM or endpoint: select them by label",
                        Severity.WARNING,
                    )


def _names(document: Document, named: Mapping[str, Document]) -> Iterator[Problem]:
    for kind, name, path in list_named(document):
        try:
            key_of_named(kind, document.tenant, name, named)
        except UnknownName:
            known = [each.name for each in named.values() if each.kind is kind]
            word = "address group" if kind is Kind.ADDRESS_GROUP else "service"
            hint = guess(name, known) if known else f"apply {'an' if word[0] == 'a' else 'a'} {kind} document with it"
            yield _problem(document, path, f"{word} {name!r} is not known", hint)
