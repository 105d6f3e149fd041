"""Security group rules of the Networking API v2.0 → what each allows. Owns the words of a rule; knows no port.

A pair of rules that differ in ``ethertype`` only is one rule of both families: our rules name VMs, not families.
"""

from __future__ import annotations

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.unclear import Unclear, flag, mapping, need, number, prefix, text
from buckler.policy.language import Port

FAMILIES = {"IPv4": 4, "IPv6": 6}
_PORTED = {"tcp": "TCP", "6": "TCP", "udp": "UDP", "17": "UDP", "sctp": "SCTP", "132": "SCTP"}
_ICMP = {"icmp", "1", "icmpv6", "ipv6-icmp", "58"}
_KNOWN = {
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
}
_IDLE = {
    "id",
    "security_group_id",
    "description",
    "name",
    "project_id",
    "tenant_id",
    "created_at",
    "updated_at",
    "revision_number",
    "tags",
    "standard_attr_id",
    "shared",
    "normalized_cidr",
    "belongs_to_default_sg",
    "used_in_default_sg",
    "used_in_non_default_sg",
}


class GroupRule(msgspec.Struct, frozen=True):
    """One rule: it allows. ``families`` 4, 6 or both; at most one of the remotes is set."""

    direction: str
    families: tuple[int, ...]
    place: Place
    port: Port | None = None
    prefix: str = ""
    group: str = ""
    addresses: str = ""

    @property
    def names_family(self) -> bool:
        """Say whether what it matches shows the family by itself."""
        return bool(self.prefix) or (self.port is not None and self.port.protocol.startswith("ICMP"))


def read_rule(place: Place) -> GroupRule:
    """Take one rule. Raises Unclear."""
    taken = mapping(place)
    for key, inner in taken.items():
        if key not in _KNOWN | _IDLE and inner.raw.value is not None:
            raise Unclear(inner, f"the field {key!r} is not known here")
    given = {key: inner for key, inner in taken.items() if inner.raw.value is not None}
    direction = need(given, "direction", place)
    if text(direction) not in {"ingress", "egress"}:
        raise Unclear(direction, f"the direction {text(direction)!r} is not known")
    ethertype = text(given.get("ethertype"), "IPv4")
    if ethertype not in FAMILIES:
        raise Unclear(given["ethertype"], f"the ethertype {ethertype!r} is not known")
    remotes = [key for key in ("remote_ip_prefix", "remote_group_id", "remote_address_group_id") if key in given]
    if len(remotes) > 1:
        raise Unclear(place, "more than one remote")
    family = FAMILIES[ethertype]
    cidr = prefix(given["remote_ip_prefix"]) if "remote_ip_prefix" in given else ""
    if cidr and (":" in cidr) != (family == 6):
        raise Unclear(given["remote_ip_prefix"], f"{cidr} is not of {ethertype}")
    return GroupRule(
        text(direction),
        (family,),
        place,
        _port(given, family, place),
        cidr,
        text(given.get("remote_group_id"), ""),
        text(given.get("remote_address_group_id"), ""),
    )


def join_families(rules: list[GroupRule]) -> list[GroupRule]:
    """Make one rule of those that say the same of both families; it stands where the first of them does."""
    found: dict[tuple[object, ...], GroupRule] = {}
    for each in rules:
        said = (each.direction, each.port, each.prefix, each.group, each.addresses)
        first = found.setdefault(said, each)
        found[said] = msgspec.structs.replace(first, families=tuple(sorted({*first.families, *each.families})))
    return list(found.values())


def is_stateless(fields: dict[str, Place]) -> bool:
    """Say whether a group wants rules for answers too."""
    return "stateful" in fields and not flag(fields["stateful"], default=True)


def _port(given: dict[str, Place], family: int, place: Place) -> Port | None:
    low, high = given.get("port_range_min"), given.get("port_range_max")
    word = str(given["protocol"].raw.value).lower() if "protocol" in given else "any"
    if word in {"any", "0"}:
        if low or high:
            raise Unclear(place, "ports without a protocol")
        return None
    if word in _ICMP:
        if (family == 4 and word not in {"icmp", "1"}) or (word == "1" and family == 6):
            raise Unclear(given["protocol"], f"the protocol {word!r} is not of this ethertype")
        protocol = "ICMP" if family == 4 else "ICMPv6"
        if high and not low:
            raise Unclear(high, "an ICMP code without a type")
        kind = number(low, 0, 255) if low else None
        return Port(protocol=protocol, type=kind, code=number(high, 0, 255) if high else None)
    if word not in _PORTED:
        raise Unclear(given["protocol"], f"the protocol {word!r} cannot be named here")
    if bool(low) != bool(high):
        raise Unclear(place, "one end of a range of ports")
    if low is None or high is None:
        return Port(protocol=_PORTED[word])
    first = number(low, 0, 65535)
    return Port(protocol=_PORTED[word], port=first, end_port=number(high, first, 65535))
