"""NSX services → ports. Owns the entries of a service; those of NSX itself that an export may leave out by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buckler.policy.field import Place
from buckler.policy.importers.nsx.known import check_fields
from buckler.policy.importers.nsx.objects import Objects, by_path
from buckler.policy.importers.unclear import Unclear, items, mapping, number, text
from buckler.policy.language import Port

_BUILT_IN = {
    "HTTP": (Port("TCP", 80),),
    "HTTPS": (Port("TCP", 443),),
    "SSH": (Port("TCP", 22),),
    "RDP": (Port("TCP", 3389),),
    "DNS": (Port("TCP", 53),),
    "DNS-UDP": (Port("UDP", 53),),
    "NTP": (Port("UDP", 123),),
    "SMTP": (Port("TCP", 25),),
}
_PREFIX = "/infra/services/"
_MOST_PORTS = 1000
_SPAN = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_WHOLE = {6: "TCP", 17: "UDP", 132: "SCTP", 1: "ICMP", 58: "ICMPv6"}


class Services:
    """All services of an export."""

    def __init__(self, objects: Objects) -> None:
        self._items = by_path(objects.all("Service"), _PREFIX)
        self._known: dict[str, list[Port] | Unclear] = {}

    def ports(self, place: Place, depth: int = 0) -> list[Port]:
        """Find the ports of one service by its path."""
        path = text(place)
        item = self._items.get(path)
        if item is None and path.removeprefix(_PREFIX) in _BUILT_IN:
            return list(_BUILT_IN[path.removeprefix(_PREFIX)])
        if item is None or depth > 8:
            raise Unclear(place, f"the service {path} is not in the input")
        if path not in self._known:
            self._known[path] = Unclear(place, f"the service {path} refers to itself")
            try:
                check_fields("Service", item.fields)
                self._known[path] = self.entries(items(item.fields.get("service_entries")), item.place, depth)
            except Unclear as unclear:
                self._known[path] = unclear
        known = self._known[path]
        if isinstance(known, Unclear):
            raise known
        return list(known)

    def entries(self, places: Sequence[Place], service: Place, depth: int = 0) -> list[Port]:
        """Take the entries of a service, or those that a rule has of its own."""
        if not places:
            raise Unclear(service, "a service without entries")
        found = dict.fromkeys(port for each in places for port in self._entry(each, depth))
        if len(found) > _MOST_PORTS:
            raise Unclear(service, f"a service of more than {_MOST_PORTS} ports and ranges")
        return list(found)

    def _entry(self, place: Place, depth: int) -> list[Port]:
        taken = mapping(place)
        kind = text(taken.get("resource_type"), "")
        check_fields(kind, taken)
        if kind == "L4PortSetServiceEntry":
            return _ported(taken, place)
        if kind == "ICMPTypeServiceEntry":
            word = text(taken.get("protocol"), "")
            if word not in {"ICMPv4", "ICMPv6"}:
                raise Unclear(place, f"the protocol {word!r} is not known")
            shape = number(taken["icmp_type"], 0, 255) if _given(taken, "icmp_type") else None
            code = number(taken["icmp_code"], 0, 255) if _given(taken, "icmp_code") else None
            if code is not None and shape is None:
                raise Unclear(place, "an ICMP code without a type")
            return [Port("ICMP" if word == "ICMPv4" else word, type=shape, code=code)]
        if kind == "IPProtocolServiceEntry" and _given(taken, "protocol_number"):
            value = number(taken["protocol_number"], 0, 255)
            if value in _WHOLE:
                return [Port(_WHOLE[value])]
        if kind == "NestedServiceServiceEntry" and _given(taken, "nested_service_path"):
            return self.ports(taken["nested_service_path"], depth + 1)
        raise Unclear(place, f"a service entry {kind or 'of no kind'} cannot be named here")


def _given(taken: dict[str, Place], key: str) -> bool:
    return key in taken and taken[key].raw.value is not None


def _ported(taken: dict[str, Place], place: Place) -> list[Port]:
    protocol = text(taken.get("l4_protocol"), "")
    if protocol not in {"TCP", "UDP"}:
        raise Unclear(place, f"the protocol {protocol!r} is not known")
    if items(taken.get("source_ports")):
        raise Unclear(place, "source ports cannot be named here")
    places = items(taken.get("destination_ports"))
    return [_span(each, protocol) for each in places] or [Port(protocol)]


def _span(place: Place, protocol: str) -> Port:
    word = str(place.raw.value)
    found = _SPAN.fullmatch(word)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last <= 65535:
        raise Unclear(place, f"{word[:40]!r} is no range of ports")
    return Port(protocol, first, last if found and found[2] else None)
