"""The pool as policy sees it: interfaces with their full label sets, and who owns an address in a network.

Owns the implicit labels and addresses, not the documents they are declared in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IdentityNumber, RuleNumber, VmId, VmNumber, Zone
from buckler.model.label import (
    LABEL_ENDPOINT,
    LABEL_ID,
    LABEL_NAME,
    LABEL_NETWORK,
    LABEL_QUARANTINE,
    LABEL_TENANT,
    Selector,
)
from buckler.model.pool import Host, Interface, Network, Outsider, ServiceAddress, ShieldMode, Vm
from buckler.policy.language import (
    PROTOCOLS,
    Document,
    EndpointSpec,
    ExceptionSpec,
    FlowSpec,
    NetworkSpec,
    Peer,
    PolicySpec,
    ServiceSpec,
    VmSpec,
)


class Pool(msgspec.Struct, frozen=True):
    """Everything that is judged, and the hosts that no guest may reach: revoked ones too."""

    networks: tuple[Network, ...] = ()
    vms: tuple[Vm, ...] = ()
    hosts: tuple[Host, ...] = ()
    outsiders: tuple[Outsider, ...] = ()
    services: tuple[ServiceAddress, ...] = ()
    """Those with a virtual address."""


class Numbers(msgspec.Struct, frozen=True):
    """Pool-wide numbers, allocated once by the store and never used for anything else.

    ``identities``: identity key (``identity_key``) → number; ``cidrs``: prefix → number; ``rules``: rule key → number;
    ``services``: a virtual address in its zone (``serving.service_key``) → number.
    """

    identities: Mapping[str, IdentityNumber] = {}
    cidrs: Mapping[str, IdentityNumber] = {}
    rules: Mapping[str, RuleNumber] = {}
    services: Mapping[str, int] = {}


class Singled(msgspec.Struct, frozen=True):
    """The names and ids that selectors ask for. ``everyone``: some selector asks whether there is a name at all."""

    names: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    everyone: bool = False


class Station(msgspec.Struct, frozen=True):
    """One interface of one VM in its network, with everything that selectors may look at."""

    vm: Vm
    interface: Interface
    network: Network
    labels: dict[str, str]
    addresses: tuple[str, ...]
    """Declared ones, and the EUI-64 link-local one where its network has such."""


class Visitor(msgspec.Struct, frozen=True):
    """An outsider in its network, with everything that selectors may look at."""

    outsider: Outsider
    network: Network
    labels: dict[str, str]


@lru_cache(maxsize=262144)
def link_local_address(mac: str) -> str:
    """Derive the IPv6 link-local address that SLAAC makes of a MAC (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    raw = bytes.fromhex("fe80000000000000") + bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return str(ipaddress.IPv6Address(raw))


def vm_from_document(document: Document, vm: VmId, number: VmNumber, *, quarantine: str = "") -> Vm:
    """Make the pool's value of a VM document; id and number come from the store, and what its quarantine allows.

    A shield that observes would let pass what quarantine denies: in quarantine every VM's enforces.
    """
    spec = document.spec
    if not isinstance(spec, VmSpec):
        raise TypeError(f"{document.key} is no VM")
    labels = dict(document.labels) | ({LABEL_QUARANTINE: quarantine} if quarantine else {})
    return Vm(
        id=vm,
        number=number,
        name=document.name,
        tenant=document.tenant,
        uuid=spec.uuid,
        labels=labels,
        interfaces=tuple(
            Interface(mac=card.mac, network=card.network, addresses=card.addresses, labels=dict(card.labels))
            for card in spec.interfaces
        ),
        mode=ShieldMode.ENFORCE if quarantine else spec.mode,
        connections=spec.connections or 0,
    )


def network_from_document(document: Document, zone: Zone) -> Network:
    """Make the pool's value of a Network document; the zone comes from the store."""
    spec = document.spec
    if not isinstance(spec, NetworkSpec):
        raise TypeError(f"{document.key} is no Network")
    return Network(
        name=document.name,
        zone=zone,
        tenant=document.tenant,
        bridge=spec.bridge,
        vlan=spec.vlan,
        cidrs=spec.cidrs,
        dhcp_servers=spec.dhcp_servers,
        routers=spec.routers,
        gateway=spec.gateway,
        labels=dict(document.labels),
        resolvers=spec.resolvers,
        detected=spec.address_claims.limit,
        connections=spec.connections or 0,
        link_local=spec.link_local,
    )


def outsider_from_document(document: Document) -> Outsider:
    """Make the pool's value of an Endpoint document."""
    spec = document.spec
    if not isinstance(spec, EndpointSpec):
        raise TypeError(f"{document.key} is no Endpoint")
    return Outsider(document.name, document.tenant, spec.network, spec.addresses, dict(document.labels))


def service_addresses(documents: Iterable[Document]) -> tuple[ServiceAddress, ...]:
    """Make the pool's values of the Service documents that have a virtual address."""
    return tuple(
        ServiceAddress(
            name=document.name,
            tenant=document.tenant,
            network=spec.network,
            address=spec.virtual_address,
            selector=spec.selector,
            ports=tuple((PROTOCOLS[each.protocol], *each.span()) for each in spec.ports),
        )
        for document in documents
        if isinstance(spec := document.spec, ServiceSpec) and spec.virtual_address
    )


def singled_out(documents: Iterable[Document]) -> Singled:
    """Find the VMs that selectors name, by name or id: only they need an identity of their own."""
    named: dict[str, set[str]] = {LABEL_NAME: set(), LABEL_ID: set()}
    everyone = False
    for selector in chain.from_iterable(map(selectors_of, documents)):
        for key, values in _wanted(selector):
            if key in named:
                named[key].update(values)
                everyone = everyone or not values
    return Singled(frozenset(named[LABEL_NAME]), frozenset(named[LABEL_ID]), everyone)


def stations(pool: Pool, singled: Singled) -> tuple[Station, ...]:
    """List every interface that stands in a known network of its own tenant; others stay closed."""
    networks = {network.name: network for network in pool.networks}
    return tuple(station for vm in pool.vms for station in stations_of(vm, networks, singled))


def stations_of(vm: Vm, networks: Mapping[str, Network], singled: Singled) -> Iterator[Station]:
    """List the interfaces of one VM that may open."""
    for card in vm.interfaces:
        network = networks.get(card.network)
        if network is not None and network.tenant == vm.tenant:
            yield _station(vm, card, network, singled)


def visitors(pool: Pool, singled: Singled) -> tuple[Visitor, ...]:
    """List the outsiders that stand in a known network of their own tenant."""
    networks = {network.name: network for network in pool.networks}
    found = (visitor_of(each, networks, singled) for each in pool.outsiders)
    return tuple(each for each in found if each is not None)


def visitor_of(outsider: Outsider, networks: Mapping[str, Network], singled: Singled) -> Visitor | None:
    """Place an outsider in its network. Its labels are never those of a VM: they say that it is none."""
    network = networks.get(outsider.network)
    if network is None or network.tenant != outsider.tenant:
        return None
    labels = {**network.labels, **outsider.labels, LABEL_ENDPOINT: "true"}
    labels[LABEL_TENANT], labels[LABEL_NETWORK] = outsider.tenant, network.name
    if singled.everyone or outsider.name in singled.names:
        labels[LABEL_NAME] = outsider.name
    return Visitor(outsider, network, labels)


def identity_key(labels: Mapping[str, str]) -> str:
    """Name a label set by its canonical JSON: what an identity number is allocated for."""
    return canonical_bytes(dict(labels)).decode()


def selectors_of(document: Document) -> Iterator[Selector]:
    """List every selector of a Policy, Flow, Service or Exception."""
    spec = document.spec
    peers: tuple[Peer, ...] = ()
    if isinstance(spec, PolicySpec):
        yield spec.subject
        peers = tuple(peer for rule in (*spec.ingress, *spec.egress) for peer in rule.peers)
    elif isinstance(spec, FlowSpec | ExceptionSpec):
        if isinstance(spec, ExceptionSpec) and spec.subject is not None:
            yield spec.subject
        peers = (*spec.sources, *spec.destinations)
    elif isinstance(spec, ServiceSpec):
        yield spec.selector
    yield from (peer.vm for peer in peers if peer.vm is not None)


def _station(vm: Vm, card: Interface, network: Network, singled: Singled) -> Station:
    labels = {**network.labels, **vm.labels, **card.labels}
    labels[LABEL_TENANT], labels[LABEL_NETWORK] = vm.tenant, network.name
    if singled.everyone or vm.name in singled.names:
        labels[LABEL_NAME] = vm.name
    if singled.everyone or vm.id in singled.ids:
        labels[LABEL_ID] = vm.id
    implied = (link_local_address(card.mac),) if network.link_local else ()
    addresses = tuple(dict.fromkeys((*card.addresses, *implied)))
    return Station(vm=vm, interface=card, network=network, labels=labels, addresses=addresses)


def _wanted(selector: Selector) -> Iterator[tuple[str, tuple[str, ...]]]:
    """List each key with the values that a selector tells apart; none: it asks whether there is one at all."""
    yield from ((key, (value,)) for key, value in selector.match_labels.items())
    yield from ((each.key, each.values) for each in selector.match_expressions)
