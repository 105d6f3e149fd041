"""Check documents against each other: references, duplicates, overlaps. Owns what one document alone cannot show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from buckler.model.label import LABEL_TENANT, Operator, Selector
from buckler.model.pool import Host
from buckler.policy.exceptioncheck import check_exceptions
from buckler.policy.instances import check_instances
from buckler.policy.language import Document, EndpointSpec, FlowSpec, Kind, NetworkSpec, Peer, PolicySpec, Tier, VmSpec
from buckler.policy.pool import link_local_address
from buckler.policy.prefix import address_of, is_within, network_of
from buckler.policy.problem import Problem, Severity, guess
from buckler.policy.thingcheck import check_things

_PEER_WORDS = frozenset({"world", "host", "group", "infra"})


def merge_documents(
    present: Iterable[Document], applied: Sequence[Document], deleted: Iterable[str] = ()
) -> tuple[Document, ...]:
    """Put ``applied`` in place of their namesakes and take ``deleted`` keys away: the pool's documents afterwards."""
    merged = {document.key: document for document in present}
    for key in deleted:
        merged.pop(key, None)
    merged.update({document.key: document for document in applied})
    return tuple(merged[key] for key in sorted(merged))


def check_documents(documents: Sequence[Document], applied: Sequence[Document] | None = None) -> tuple[Problem, ...]:
    """Check a pool's whole set of documents. ``applied`` (default: all) are checked for being given twice."""
    problems = [*_twice(documents if applied is None else applied)]
    networks = {each.name: each for each in documents if each.kind is Kind.NETWORK}
    problems += _same_network_name(documents)
    problems += _bridges(list(networks.values()))
    for network in networks.values():
        problems += _network(network)
    news = {each.key for each in applied or ()}
    vms = sorted((each for each in documents if each.kind is Kind.VM), key=lambda each: each.key in news)
    problems += _vms(vms, networks)  # what is there already comes first: a clash is told of the newcomer
    for document in documents:
        problems += _policy(document, networks)
    problems += check_things(documents, networks)
    problems += check_exceptions(documents)
    problems += check_instances(documents)
    return tuple(sorted(problems, key=lambda each: (each.file, each.line, each.path)))


def check_hosts(documents: Iterable[Document], hosts: Iterable[Host]) -> tuple[Problem, ...]:
    """Check that no document claims what is a host's, revoked ones too: nothing may open it, and no VM may speak as it."""
    hosts = tuple(hosts)
    fabric = {address_of(host.fabric): host.name for host in hosts if host.fabric}
    owners = fabric | {address_of(each): host.name for host in hosts for each in host.addresses}
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
            if spec.cidrs and not _inside(address, spec.cidrs) and not address_of(address).is_link_local:
                yield _problem(
                    document,
                    f"spec.{field}[{index}]",
                    f"{address} lies in none of the network's prefixes",
                    ", ".join(spec.cidrs),
                    Severity.WARNING,
                )


def _inside(address: str, cidrs: Iterable[str]) -> bool:
    parsed = address_of(address)
    return any(parsed.version == network_of(cidr).version and parsed in network_of(cidr) for cidr in cidrs)


def _vms(vms: Sequence[Document], networks: dict[str, Document]) -> Iterator[Problem]:
    uuids: dict[str, Document] = {}
    macs: dict[tuple[str, str], Document] = {}
    addresses: dict[tuple[str, str], tuple[Document, int]] = {}
    for document in vms:
        spec = document.spec
        if not isinstance(spec, VmSpec):
            continue
        if document.name in _PEER_WORDS:
            hint = "flows and explain mean another peer by it"
            yield _problem(document, "metadata.name", f"{document.name!r} cannot be a VM's name", hint)
        first = uuids.setdefault(spec.uuid, document)
        if first is not document:
            yield _problem(document, "spec.uuid", f"{spec.uuid} is VM {first.name}'s", "a domain is one VM")
        for index, card in enumerate(spec.interfaces):
            path = f"spec.interfaces[{index}]"
            yield from _card_network(document, path, card.network, networks)
            owner = macs.setdefault((card.network, card.mac), document)
            if owner is not document or any(other.mac == card.mac for other in spec.interfaces[:index]):
                yield _problem(document, f"{path}.mac", f"{card.mac} is VM {owner.name}'s", "a MAC occurs once")
            network = networks.get(card.network)
            for place, address in enumerate((*card.addresses, link_local_address(card.mac))):
                at = f"{path}.addresses[{place}]" if place < len(card.addresses) else f"{path}.mac"
                holder, other = addresses.setdefault((card.network, address), (document, index))
                twice = address in card.addresses[:place] and place < len(card.addresses)
                if holder is not document or other != index or twice:
                    yield _problem(document, at, f"{address} is VM {holder.name}'s in network {card.network}")
                if network is not None and place < len(card.addresses):
                    yield from _address(document, at, address, network)


def _card_network(document: Document, path: str, name: str, networks: dict[str, Document]) -> Iterator[Problem]:
    network = networks.get(name)
    if network is None:
        hint = guess(name, networks) if networks else "apply a Network document with it"
        yield _problem(document, f"{path}.network", f"network {name!r} is not known", hint)
    elif network.tenant != document.tenant:
        yield _problem(
            document,
            f"{path}.network",
            f"network {name} belongs to tenant {network.tenant}, the VM to {document.tenant}",
            "a network serves one tenant",
        )


def _address(document: Document, path: str, address: str, network: Document) -> Iterator[Problem]:
    spec = network.spec
    if not isinstance(spec, NetworkSpec):
        return
    if address in spec.gateway:
        yield _problem(document, path, f"{address} is the gateway of network {network.name}")
    if any(address in _reserved(cidr) for cidr in spec.cidrs):
        yield _problem(document, path, f"{address} stands for all of network {network.name}", "no VM can have it")
    for word, trusted in (("router", spec.routers), ("DHCP server", spec.dhcp_servers)):
        if address in trusted:
            message = f"{address} is a {word} of network {network.name}: the others believe this VM"
            yield _problem(document, path, message, severity=Severity.WARNING)
    if spec.cidrs and not _inside(address, spec.cidrs) and not address_of(address).is_link_local:
        yield _problem(document, path, f"{address} lies in no prefix of network {network.name}", ", ".join(spec.cidrs))


def _reserved(cidr: str) -> tuple[str, ...]:
    """Name a prefix's own address (a router's anycast address in IPv6) and its broadcast address."""
    network = network_of(cidr)
    if network.prefixlen >= network.max_prefixlen - 1:
        return ()
    return (str(network.network_address), *([str(network.broadcast_address)] if network.version == 4 else []))


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
        if not peer.cidr:
            continue
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
