"""Ports and networks of the Networking API v2.0 → interfaces of VMs. Owns which networks are one room, not their rules."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.addressed import Holder
from buckler.policy.importers.naming import document_name, made_mac
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, flag, items, mapping, text

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


class CloudPort(msgspec.Struct, frozen=True):
    """One port. ``spare``: it may have addresses that nobody lists."""

    id: str
    vm: str
    uuid: str
    network: str
    mac: str
    addresses: tuple[str, ...]
    groups: tuple[str, ...]
    is_open: bool
    spare: bool
    place: Place
    card: str = ""
    """Its interface's label value, where its VM has several."""

    @property
    def families(self) -> set[int]:
        """Give the families of its addresses; both when they are not all known."""
        return (
            {4, 6}
            if self.spare or not self.addresses
            else {ipaddress.ip_address(each).version for each in self.addresses}
        )

    def holder(self) -> Holder:
        """Give it as one that may have addresses."""
        return Holder(self.vm, self.vm, () if self.spare else self.addresses, self.card, self.network)


def read_ports(fields: dict[str, Place], book: LossBook) -> list[CloudPort]:
    """Read all ports that are of VMs. A port that cannot be read is left out, so nothing is allowed to it."""
    raw = []
    for place in items(fields.get("ports")):
        try:
            taken = mapping(place)
            if text(taken.get("device_owner"), "").startswith("network:"):
                continue
            raw.append((place, taken, _port(place, taken)))
        except Unclear as unclear:
            Teller(book, "port").tell(unclear.place, unclear.what, "the port is left out", Effect.OMITTED)
    names = _names(raw, fields)
    rooms = _rooms(fields, [port for _place, _taken, port in raw])
    devices = [port.uuid or port.id for _place, _taken, port in raw]
    return [
        msgspec.structs.replace(
            port,
            vm=names[port.id],
            network=rooms[port.network],
            card=port.id if devices.count(port.uuid or port.id) > 1 else "",
        )
        for _place, _taken, port in raw
    ]


def _port(place: Place, taken: dict[str, Place]) -> CloudPort:
    number = text(taken.get("id"), "")
    if not number:
        raise Unclear(place, "a port without id")
    addresses, spare = [], False
    for each in items(taken.get("fixed_ips")):
        addresses.append(_address(mapping(each).get("ip_address", each), each))
    for each in items(taken.get("allowed_address_pairs")):
        word = text(mapping(each).get("ip_address"), "")
        try:
            addresses.append(str(ipaddress.ip_address(word)))
        except ValueError:
            spare = True  # a prefix: any of it may be the port's
    mac = text(taken.get("mac_address"), "").lower()
    return CloudPort(
        number,
        "",
        text(taken.get("device_id"), ""),
        text(taken.get("network_id"), ""),
        mac if _MAC.match(mac) and not int(mac[:2], 16) & 1 else made_mac(number),
        tuple(dict.fromkeys(addresses)),
        tuple(text(each) for each in items(taken.get("security_groups"))),
        not flag(taken.get("port_security_enabled"), default=True),
        spare,
        place,
    )


def _address(place: Place, port: Place) -> str:
    try:
        return str(ipaddress.ip_address(text(place)))
    except ValueError:
        raise Unclear(port, "an address of the port cannot be read") from None


def _names(raw: Sequence[tuple[Place, dict[str, Place], CloudPort]], fields: dict[str, Place]) -> dict[str, str]:
    """Name each port's VM: by its server's name, its only port's name, or its id; names that are not one VM's are ids."""
    servers = {}
    for each in items(fields.get("servers")):
        taken = mapping(each)
        servers[text(taken.get("id"), "")] = text(taken.get("name"), "")
    cards: dict[str, list[tuple[dict[str, Place], CloudPort]]] = {}
    for _place, taken, port in raw:
        cards.setdefault(port.uuid or port.id, []).append((taken, port))
    wanted = {}
    for device, group in cards.items():
        own = text(group[0][0].get("name"), "") if len(group) == 1 else ""
        wanted[device] = document_name(servers.get(device) or own or device)
    count: dict[str, int] = {}
    for name in wanted.values():
        count[name] = count.get(name, 0) + 1
    return {
        port.id: wanted[device] if count[wanted[device]] == 1 else document_name(device)
        for device, group in cards.items()
        for _taken, port in group
    }


def _rooms(fields: dict[str, Place], ports: Sequence[CloudPort]) -> dict[str, str]:
    """Name the room of each network: networks that a router joins, and whose addresses differ, are one."""
    names = {
        text(mapping(each).get("id"), ""): text(mapping(each).get("name"), "") for each in items(fields.get("networks"))
    }
    networks = sorted({port.network for port in ports})
    rooms = {each: each for each in networks}
    for joined in _joined(fields):
        known = [each for each in joined if each in rooms]
        owned = [address for port in ports if port.network in known for address in port.addresses]
        if len(known) > 1 and len(owned) == len(set(owned)):
            chosen = min(rooms[each] for each in known)
            old = {rooms[each] for each in known}
            rooms = {each: chosen if room in old else room for each, room in rooms.items()}
    spoken = {room: names.get(room) or room or "network" for room in set(rooms.values())}
    unique = len(set(spoken.values())) == len(spoken)
    return {each: document_name(spoken[room] if unique else room or "network") for each, room in rooms.items()}


def _joined(fields: dict[str, Place]) -> Iterable[list[str]]:
    routers: dict[str, list[str]] = {}
    for each in items(fields.get("ports")):
        taken = mapping(each)
        owner = taken.get("device_owner")
        if owner is not None and str(owner.raw.value) in {
            "network:router_interface",
            "network:router_interface_distributed",
            "network:ha_router_replicated_interface",
        }:
            routers.setdefault(text(taken.get("device_id"), ""), []).append(text(taken.get("network_id"), ""))
    return [sorted(set(each)) for router, each in sorted(routers.items()) if router]
