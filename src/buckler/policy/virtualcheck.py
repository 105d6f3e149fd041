"""Check virtual addresses of services against everything that may own an address, and count who serves. Owns no check of a host's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from buckler.model.bundle import MOST_MEMBERS, MOST_SERVICES
from buckler.model.label import LABEL_ID, Selector
from buckler.policy.language import Document, EndpointSpec, Kind, NetworkSpec, ServiceSpec, VmSpec
from buckler.policy.membercount import Count
from buckler.policy.pool import link_local_address
from buckler.policy.prefix import address_of, network_of
from buckler.policy.problem import Problem, Severity, guess
from buckler.policy.vmcheck import CheckedVms, is_inside

Found = tuple[str, str]
"""What is wrong, and what to do about it."""


def check_virtual_addresses(
    documents: Sequence[Document], networks: Mapping[str, Document], checked: CheckedVms
) -> Iterator[Problem]:
    """Note every virtual address that somebody has, and every service that more serve than a shield can choose among.

    ``checked``: it checked these VMs last.
    """
    services = [each for each in documents if isinstance(each.spec, ServiceSpec) and each.spec.virtual_address]
    if not services:
        return
    for document in services[MOST_SERVICES:]:
        words = f"the pool has more than {MOST_SERVICES} virtual addresses"
        yield _problem(document, "spec.virtualAddress", (words, "no host has room for more"))
    vms = [each for each in documents if each.kind is Kind.VM]
    owners = _owners(each for each in documents if each.kind is not Kind.VM)
    if any(checked.has(*place) for place in owners):
        owners = _owners(documents)
    counts = checked.members.look(vms, services, networks)
    for document in services:
        assert isinstance(document.spec, ServiceSpec)  # noqa: S101 - as they were found
        yield from _service(document, document.spec, networks, owners, counts[document.key])


def _service(
    document: Document,
    spec: ServiceSpec,
    networks: Mapping[str, Document],
    owners: Mapping[tuple[str, str], list[Document]],
    count: Count,
) -> Iterator[Problem]:
    network = networks.get(spec.network)
    if network is None or not isinstance(network.spec, NetworkSpec):
        hint = guess(spec.network, networks) if networks else "apply a Network document with it"
        yield _problem(document, "spec.network", (f"network {spec.network!r} is not known", hint))
        return
    if network.tenant != document.tenant:
        words = f"network {network.name} belongs to tenant {network.tenant}, the service to {document.tenant}"
        yield _problem(document, "spec.network", (words, "a network serves one tenant"))
        return
    others = [each for each in owners.get((spec.network, spec.virtual_address), ()) if each is not document]
    for each in others[:1]:
        words = f"{spec.virtual_address} is {each.kind} {each.name}'s in network {spec.network}"
        yield _problem(document, "spec.virtualAddress", (words, "a virtual address is nobody else's: choose another"))
    for found in _reserved(spec.virtual_address, network.name, network.spec):
        yield _problem(document, "spec.virtualAddress", found)
    cidrs = network.spec.cidrs
    if cidrs and not is_inside(spec.virtual_address, cidrs):
        words = f"{spec.virtual_address} lies in no prefix of network {network.name}"
        hint = "VMs reach it only by a route, or through their default router"
        yield _problem(document, "spec.virtualAddress", (words, hint), Severity.WARNING)
    yield from _members(document, spec, count)


def _members(document: Document, spec: ServiceSpec, count: Count) -> Iterator[Problem]:
    where = f"in network {spec.network} {'serve' if count.meant else 'serves'} at {spec.virtual_address}"
    if count.serving > MOST_MEMBERS:
        words = f"{count.serving} interfaces {where}, which at most {MOST_MEMBERS} can"
        yield _problem(document, "spec.selector", (words, "choose fewer, or give a second service the others"))
    elif not count.meant and not _asks_for_ids(spec.selector):
        hint = "label VMs so that the selector means them"
        yield _problem(document, "spec.selector", (f"no VM {where}: nothing answers there", hint), Severity.WARNING)


def _asks_for_ids(selector: Selector) -> bool:
    """Ids are given when VMs are registered: whom they mean is not known from documents."""
    return LABEL_ID in selector.match_labels or any(each.key == LABEL_ID for each in selector.match_expressions)


def _reserved(address: str, name: str, spec: NetworkSpec) -> Iterator[Found]:
    for word, taken in (
        ("the gateway", spec.gateway),
        ("a router", spec.routers),
        ("a DHCP server", spec.dhcp_servers),
        ("a resolver", spec.resolvers),
    ):
        if address in taken:
            yield f"{address} is {word} of network {name}", "a virtual address is nobody else's: choose another"
    for cidr in map(network_of, spec.cidrs):
        ends = {cidr.network_address, *([cidr.broadcast_address] if cidr.version == 4 else [])}
        if cidr.prefixlen < cidr.max_prefixlen - 1 and address_of(address) in ends:
            yield f"{address} stands for all of {cidr} in network {name}", "choose another"


def _owners(documents: Iterable[Document]) -> dict[tuple[str, str], list[Document]]:
    owners: dict[tuple[str, str], list[Document]] = {}
    for document in documents:
        spec = document.spec
        held: list[tuple[str, str]] = []
        if isinstance(spec, VmSpec):
            cards = ((card.network, (*card.addresses, link_local_address(card.mac))) for card in spec.interfaces)
            held = [(network, each) for network, addresses in cards for each in addresses]
        elif isinstance(spec, EndpointSpec):
            held = [(spec.network, each) for each in spec.addresses]
        elif isinstance(spec, ServiceSpec) and spec.virtual_address:
            held = [(spec.network, spec.virtual_address)]
        for place in held:
            owners.setdefault(place, []).append(document)
    return owners


def _problem(document: Document, path: str, found: Found, severity: Severity = Severity.ERROR) -> Problem:
    line = document.lines.get(path, document.line)
    return Problem(document.file, line, path, f"{document.kind} {document.name}: {found[0]}", found[1], severity)
