"""Who serves at a virtual address: interfaces of one network that its service means. Owns no check, and no choice between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from buckler.model.bundle import MOST_MEMBERS, ServiceMember, ServicePort, VirtualService
from buckler.model.ids import Digest, Zone
from buckler.model.label import LABEL_ID, LABEL_NAME, LABEL_QUARANTINE, Selector
from buckler.model.pool import Network, ServiceAddress
from buckler.policy.pieces import hold_services
from buckler.policy.pool import Station
from buckler.policy.prefix import address_of
from buckler.policy.trie import Shelf

Members = Mapping[str, ServiceMember]
"""Those of one service by MAC."""


def service_key(zone: Zone, address: str) -> str:
    """Name what a number is allocated for: one address of one network, whichever document gives it to a service."""
    return f"{zone}/{address}"


def member_at(station: Station, address: str) -> ServiceMember | None:
    """Give what an interface would serve with at a virtual address: its first address of that family, none link-local."""
    version = address_of(address).version
    for each in station.addresses:
        parsed = address_of(each)
        if parsed.version == version and not (version == 6 and parsed.is_link_local):
            return ServiceMember(each, station.interface.mac)
    return None


def is_meant(selector: Selector, station: Station) -> bool:
    """Say whether a service's selector means an interface, by name or id too. In quarantine a VM serves nobody."""
    if LABEL_QUARANTINE in station.labels:
        return False
    return selector.matches({**station.labels, LABEL_NAME: station.vm.name, LABEL_ID: station.vm.id})


def list_members(service: ServiceAddress, stations: Iterable[Station]) -> dict[str, ServiceMember]:
    """Find who serves among the interfaces of a network."""
    found = ((each, member_at(each, service.address)) for each in stations if is_meant(service.selector, each))
    return {station.interface.mac: member for station, member in found if member is not None}


def in_order(members: Iterable[ServiceMember]) -> list[ServiceMember]:
    """Put members in the order in which the first ones are told to hosts."""
    return sorted(members, key=lambda each: (address_of(each.address).packed, each.mac))


def services_in(
    network: Network, found: Mapping[str, tuple[ServiceAddress, Members]], number_of: Callable[[str], int]
) -> tuple[VirtualService, ...]:
    """Write a network's services for hosts, by number. Of two with one address, which no check lets in, the first by name holds."""
    told: dict[str, VirtualService] = {}
    for key in sorted(found):
        service, members = found[key]
        if service.tenant != network.tenant or service.address in told:
            continue
        told[service.address] = VirtualService(
            number=number_of(service_key(network.zone, service.address)),
            name=service.name,
            tenant=service.tenant,
            address=service.address,
            ports=tuple(ServicePort(*each) for each in sorted(set(service.ports))),
            members=tuple(in_order(members.values())[:MOST_MEMBERS]),
        )
    return tuple(sorted(told.values(), key=lambda each: each.number))


def key_of(service: ServiceAddress) -> str:
    """Name a service as its document does."""
    return f"{service.tenant}/{service.name}"


class Serving:
    """Who serves at all virtual addresses of a pool, kept change by change; a network's are one object on the shelf."""

    def __init__(self, shelf: Shelf, number_of: Callable[[str], int]) -> None:
        self._shelf, self._number_of = shelf, number_of
        self._found: dict[str, tuple[ServiceAddress, dict[str, ServiceMember]]] = {}
        self._here: dict[str, set[str]] = {}
        self._held: dict[str, Digest] = {}
        self._changed: set[str] = set()

    def put(self, service: ServiceAddress, stations: Iterable[Station]) -> None:
        """Take a service in, in place of what it was; ``stations``: all of its network."""
        key = key_of(service)
        if key in self._found and self._found[key][0] == service:
            return
        self.drop(key)
        self._found[key] = service, list_members(service, stations)
        self._here.setdefault(service.network, set()).add(key)
        self._changed.add(service.network)

    def drop(self, key: str) -> None:
        """Leave a service out."""
        if key in self._found:
            network = self._found.pop(key)[0].network
            self._here[network].discard(key)
            self._changed.add(network)

    def enter(self, station: Station) -> None:
        """Take an interface in, in place of what it was."""
        for key in self._here.get(station.network.name, ()):
            service = self._found[key][0]
            member = member_at(station, service.address) if is_meant(service.selector, station) else None
            self._place(key, station.interface.mac, member)

    def leave(self, network: str, mac: str) -> None:
        """Leave an interface out."""
        for key in self._here.get(network, ()):
            self._place(key, mac, None)

    def turn(self, network: str) -> None:
        """Take note that a network is another in some way."""
        self._changed.add(network)

    def close(self, network: str) -> None:
        """Take note that a network is gone, with all interfaces in it."""
        for key in self._here.get(network, ()):
            self._found[key][1].clear()
        self._changed.add(network)
        if held := self._held.pop(network, None):
            self._shelf.release(held)

    def write(self, network: Network) -> Digest:
        """Put what hosts are told of a network on the shelf in place of what was there, and name it; empty: nothing."""
        if network.name in self._changed:
            self._changed.discard(network.name)
            before = self._held.pop(network.name, None)
            here = {key: self._found[key] for key in self._here.get(network.name, ())}
            if digest := hold_services(services_in(network, here, self._number_of), self._shelf):
                self._held[network.name] = digest
            if before:
                self._shelf.release(before)
        return self._held.get(network.name, Digest(""))

    def _place(self, key: str, mac: str, member: ServiceMember | None) -> None:
        service, members = self._found[key]
        if members.get(mac) == member:
            return
        self._changed.add(service.network)
        if member is None:
            del members[mac]
        else:
            members[mac] = member
