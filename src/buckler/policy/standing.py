"""Where things stand in a pool that is kept change by change: a network with its table, an interface in it. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.bundle import Endpoint, Segment
from buckler.model.ids import Digest, IdentityNumber, VmId
from buckler.model.pool import Network
from buckler.policy.pool import Singled, Station
from buckler.policy.trie import Shelf, Trie

NO_PROGRAM = Digest("")
"""The place of a digest that is put in when the endpoint is written."""


class Net:
    """A network with its table. ``users`` counts the interfaces of each identity."""

    def __init__(self, network: Network, shelf: Shelf) -> None:
        self.network = network
        self.table = Trie(shelf)
        self.vms: set[VmId] = set()
        self.head = Digest("")


class Stand(msgspec.Struct, frozen=True):
    """Where one interface of a VM stands."""

    network: str
    mac: str
    identity: IdentityNumber


def facts_of(network: Network) -> Segment:
    return Segment(
        network=network.name,
        zone=network.zone,
        tenant=network.tenant,
        bridge=network.bridge,
        vlan=network.vlan,
        cidrs=network.cidrs,
        dhcp_servers=network.dhcp_servers,
        routers=network.routers,
        gateway=network.gateway,
        endpoints=(),
        identities={},
        resolvers=network.resolvers,
        names=network.names,
    )


def endpoint_of(station: Station, number: IdentityNumber) -> Endpoint:
    vm = station.vm
    return Endpoint(
        vm.id,
        vm.number,
        vm.name,
        vm.tenant,
        vm.uuid,
        station.interface.mac,
        station.addresses,
        number,
        NO_PROGRAM,
        vm.mode,
        vm.connections or station.network.connections,
    )


def all_together(named: Iterable[Singled]) -> Singled:
    every = tuple(named)
    return Singled(
        frozenset().union(*(each.names for each in every)),
        frozenset().union(*(each.ids for each in every)),
        any(each.everyone for each in every),
    )
