"""May an interface have the address that it claims, and may it keep it? Pure; owns no storing and no telling.

The first claimant in the pool wins; what documents declare wins over every later claim.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from buckler.model.agentapi import AddressSource
from buckler.model.ids import VmId
from buckler.model.pool import Network, Vm
from buckler.policy.pool import Pool, link_local_address
from buckler.policy.prefix import network_of

MAX_DETECTED = 16
"""The highest limit that a network may set."""
MAX_LEASES = 8
"""Leases per interface."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Owners = Mapping[tuple[str, str], tuple[VmId, str]]
"""(network, address) → whose it is: VM and MAC."""


class Grant(msgspec.Struct, frozen=True):
    """An address that an interface has, or would have, by a claim. ``expires_at`` 0: until it is released."""

    vm: VmId
    mac: str
    network: str
    address: str
    source: AddressSource
    server: str = ""
    expires_at: float = 0.0


class Ground(msgspec.Struct, frozen=True):
    """The pool as claims are held against it: networks by name, each interface's network, addresses of hosts."""

    networks: Mapping[str, Network]
    cards: Mapping[tuple[VmId, str], str]
    infra: frozenset[str]
    endpoints: frozenset[tuple[str, str]] = frozenset()
    """(network, address) of things that are no VMs."""
    services: frozenset[tuple[str, str]] = frozenset()
    """(network, virtual address) of services: they are nobody's."""
    controllers: frozenset[str] = frozenset()
    """Addresses of the machines that controllers run on, which need not be hosts."""


def ground_of(pool: Pool, controllers: Iterable[str] = ()) -> Ground:
    """Index a pool once for many claims."""
    return Ground(
        networks={network.name: network for network in pool.networks},
        cards={(vm.id, card.mac): card.network for vm in pool.vms for card in vm.interfaces},
        infra=frozenset(address for host in pool.hosts for address in (host.fabric, *host.addresses)),
        endpoints=frozenset((each.network, address) for each in pool.outsiders for address in each.addresses),
        services=frozenset((each.network, each.address) for each in pool.services),
        controllers=frozenset(controllers),
    )


class Stale(msgspec.Struct, frozen=True):
    """A grant that must end, and why."""

    grant: Grant
    why: str


def owners_of(vms: Iterable[Vm]) -> dict[tuple[str, str], tuple[VmId, str]]:
    """Say whose each address is that VMs have, the implied ones too."""
    owners: dict[tuple[str, str], tuple[VmId, str]] = {}
    for vm in vms:
        for card in vm.interfaces:
            for address in (*card.addresses, link_local_address(card.mac)):
                owners.setdefault((card.network, address), (vm.id, card.mac))
    return owners


def with_grants(vm: Vm, grants: Iterable[Grant]) -> Vm:
    """Give a VM's interfaces what was granted to them, behind what is declared."""
    held = list(grants)
    if not held:
        return vm
    cards = []
    for card in vm.interfaces:
        mine = (each.address for each in held if (each.mac, each.network) == (card.mac, card.network))
        cards.append(msgspec.structs.replace(card, addresses=tuple(dict.fromkeys((*card.addresses, *mine)))))
    return msgspec.structs.replace(vm, interfaces=tuple(cards))


def refuse_claim(ground: Ground, owners: Owners, held: Sequence[Grant], wanted: Grant, now: float) -> str:
    """Say why a claim is refused; empty: it is granted. ``held`` are all grants of the pool."""
    why = unfitness(ground, wanted)
    if why:
        return why
    owner = owners.get((wanted.network, wanted.address))
    if owner is not None and owner != (wanted.vm, wanted.mac):
        return "it is another interface's"
    if wanted.expires_at and wanted.expires_at <= now:
        return "the lease is over"
    mine = [each for each in held if (each.vm, each.mac, each.source) == (wanted.vm, wanted.mac, wanted.source)]
    limit = _limit(ground.networks.get(wanted.network), wanted.source)
    if sum(each.address != wanted.address for each in mine) >= limit:
        return _over(limit, wanted.source)
    return ""


def unfitness(ground: Ground, wanted: Grant) -> str:
    """Say what speaks against an address whoever else claims it; empty: nothing."""
    network = ground.networks.get(wanted.network)
    if network is None or ground.cards.get((wanted.vm, wanted.mac)) != wanted.network:
        return "the VM has no such interface in this network"
    address = ipaddress.ip_address(wanted.address)
    why = _wrong_place(network, address) or _reserved(network, ground.infra, str(address))
    if not why and (network.name, str(address)) in ground.endpoints:
        why = "it is an endpoint's"
    if not why and (network.name, str(address)) in ground.services:
        why = "it is the virtual address of a service"
    if not why and wanted.source is AddressSource.DHCP and wanted.server not in network.dhcp_servers:
        why = f"{wanted.server or 'nobody'} is no DHCP server of network {network.name}"
    return why


def list_stale(
    ground: Ground, declared: Owners, held: Sequence[Grant], stopped: Collection[VmId], now: float
) -> tuple[Stale, ...]:
    """Say which grants must end. ``held`` oldest first, ``declared`` owners by documents alone.

    A detected address ends when its VM has stopped (it probes again when it starts), a leased one with its lease.
    """
    found: list[Stale] = []
    counts: Counter[tuple[VmId, str, AddressSource]] = Counter()
    for grant in held:
        why = _staleness(ground, declared, grant, stopped, now)
        place = (grant.vm, grant.mac, grant.source)
        limit = _limit(ground.networks.get(grant.network), grant.source)
        if not why and counts[place] >= limit:
            why = _over(limit, grant.source)
        if why:
            found.append(Stale(grant, why))
        else:
            counts[place] += 1
    return tuple(found)


def _staleness(ground: Ground, declared: Owners, grant: Grant, stopped: Collection[VmId], now: float) -> str:
    if grant.expires_at and grant.expires_at <= now:
        return "the lease is over"
    if grant.source is AddressSource.DETECTED and grant.vm in stopped:
        return "the VM has stopped"
    if (grant.network, grant.address) in declared:
        return "it is declared"
    return unfitness(ground, grant)


def _wrong_place(network: Network, address: _Address) -> str:
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return "it is no interface's address"
    inside = [cidr for cidr in map(network_of, network.cidrs) if address.version == cidr.version and address in cidr]
    if not inside:
        return f"it lies in no prefix of network {network.name}"
    for cidr in inside:
        # All zeros are the network, and with IPv6 the subnet's routers (RFC 4291, 2.6.1); all ones IPv4's broadcast.
        if cidr.prefixlen < cidr.max_prefixlen - 1:
            if address == cidr.network_address:
                return f"it is the network address of {cidr}"
            if address.version == 4 and address == cidr.broadcast_address:
                return f"it is the broadcast address of {cidr}"
    return ""


def _reserved(network: Network, infra: frozenset[str], address: str) -> str:
    for word, reserved in (
        ("gateway", network.gateway),
        ("router", network.routers),
        ("DHCP server", network.dhcp_servers),
    ):
        if address in reserved:
            return f"it is the {word} of network {network.name}"
    return "it is a hypervisor host's" if address in infra else ""


def _limit(network: Network | None, source: AddressSource) -> int:
    if network is None:
        return 0
    if source is AddressSource.DHCP:
        return MAX_LEASES if network.dhcp_servers else 0
    return network.detected if source is AddressSource.DETECTED else 0


def _over(limit: int, source: AddressSource) -> str:
    if not limit:
        return "the network grants no address by detection: spec.addressClaims.limit is 0"
    return f"the interface has {limit} addresses by {source.value} already"
