"""One rule of a network filter → what it matches (libvirt, "Network Filters"). Owns attributes; knows no VM."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from buckler.policy.importers.addressed import Blocks, read_blocks
from buckler.policy.importers.nwfilter.tree import Node
from buckler.policy.language import Port

_LAYER_FOUR = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "icmp": "ICMP", "icmpv6": "ICMPv6", "all": "any"}
_NUMBERS = {
    "6": "TCP",
    "tcp": "TCP",
    "17": "UDP",
    "udp": "UDP",
    "132": "SCTP",
    "sctp": "SCTP",
    "1": "ICMP",
    "icmp": "ICMP",
    "58": "ICMPv6",
    "icmpv6": "ICMPv6",
}
_FRAMES = {"ipv4": 4, "0x800": 4, "0x0800": 4, "2048": 4, "ipv6": 6, "0x86dd": 6, "34525": 6}
_NOT_IP = {"arp", "rarp", "stp"}
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
_ADDRESSES = {"srcipaddr", "srcipmask", "srcipfrom", "srcipto", "dstipaddr", "dstipmask", "dstipfrom", "dstipto"}
_PORTS = {"dstportstart", "dstportend", "type", "code", "protocol"}
_NO_MATTER = {"comment"}
_NUMBER = re.compile(r"-?(0x[0-9a-fA-F]{1,8}|0|[1-9][0-9]{0,9})\Z")


class Unclear(Exception):
    """What stands there cannot be carried over."""


class FilterRule(msgspec.Struct, frozen=True):
    """One rule. ``family`` 0: both, -1: none. ``frames``: asked before and beside the others, of every single packet."""

    node: Node
    action: str
    direction: str
    priority: int
    frames: bool
    family: int = 0
    source: Blocks | None = None
    dest: Blocks | None = None
    ports: tuple[Port, ...] = ()
    own_source: bool = False
    """It only asks whether the guest's own source is right: what every shield does."""
    answers: bool = False
    """It only matches packets of connections that stand."""
    stands: bool = False
    """Of these it matches all, not only what is related to others."""
    begins: bool = False
    """It only matches packets that begin connections: that these go on is another rule's."""
    stateless: bool = False
    """It matches every packet for itself."""

    @property
    def families(self) -> frozenset[int]:
        """Give the families of IP that it may match."""
        return frozenset({4, 6}) if self.family == 0 else frozenset({self.family})

    @property
    def is_whole(self) -> bool:
        """Say whether it matches all of its families."""
        return self.own_source or (self.source is None and self.dest is None and not self.ports)


def is_about_frames_only(node: Node) -> bool:
    """Say whether a rule never meets an IP packet."""
    return bool(node.children) and all(each.tag in _NOT_IP for each in node.children)


def layer_of(node: Node) -> bool:
    """Say whether a rule is one on frames (True) or one that follows connections."""
    return not any(
        each.tag.removesuffix("-ipv6") in _LAYER_FOUR or each.tag in {"esp", "ah", "udplite", "igmp"}
        for each in node.children
    )


def read_rule(node: Node, variables: Mapping[str, tuple[str, ...]]) -> FilterRule:
    """Take one rule. Raises Unclear."""
    action, direction = node.attributes.get("action", ""), node.attributes.get("direction", "")
    priority = _integer(node.attributes.get("priority", "500"), -1000, 1000)
    if action not in {"accept", "drop", "reject", "return", "continue"} or direction not in {"in", "out", "inout"}:
        raise Unclear("the action or direction is not known")
    stateless = node.attributes.get("statematch", "true") in {"false", "0"}
    rule = FilterRule(node, action, direction, priority, layer_of(node), stateless=stateless)
    if not node.children:
        return rule
    if len(node.children) > 1:
        raise Unclear("more than one protocol in a rule")
    return _protocol(rule, node.children[0], variables)


def _protocol(rule: FilterRule, part: Node, variables: Mapping[str, tuple[str, ...]]) -> FilterRule:
    given = {key: value for key, value in part.attributes.items() if key not in _NO_MATTER}
    if sum(len(variables.get(value[1:], ())) > 1 for value in given.values() if value.startswith("$")) > 1:
        raise Unclear("several variables of several values, which libvirt takes side by side")
    if _is_own_source(rule, given):
        return msgspec.structs.replace(rule, own_source=True, family={"ip": 4, "ipv6": 6}.get(part.tag, 0))
    if "match" in given and given.pop("match") not in {"yes", "true", "1"}:
        raise Unclear("match='no' cannot be named here")
    states = set(given.pop("state", "NEW").replace(" ", "").split(","))
    if not states <= {"NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE"}:
        raise Unclear("the state cannot be named here")
    if states == {"NONE"}:
        rule = msgspec.structs.replace(rule, stateless=True)
    elif "NEW" not in states:
        return _of_standing(rule, states)
    elif "state" in part.attributes and "ESTABLISHED" not in states:
        rule = msgspec.structs.replace(rule, begins=True)
    bare = part.tag.removesuffix("-ipv6")
    if part.tag == "mac":
        word = given.pop("protocolid", "")
        if given or word.startswith("$"):
            raise Unclear("addresses of frames cannot be named here")
        return msgspec.structs.replace(rule, family=_FRAMES.get(word.lower(), -1) if word else 0)
    if part.tag in {"ip", "ipv6"}:
        family, protocol = (4 if part.tag == "ip" else 6), _NUMBERS.get(given.get("protocol", "").lower(), "")
        if "protocol" in given and not protocol:
            raise Unclear(f"the protocol {given['protocol']!r} cannot be named here")
    elif bare in _LAYER_FOUR:
        family, protocol = (6 if part.tag != bare or bare == "icmpv6" else 4), _LAYER_FOUR[bare]
        if part.tag == "icmp":
            family = 4
    else:
        raise Unclear(f"the protocol {part.tag!r} cannot be named here")
    if unknown := sorted(given.keys() - _ADDRESSES - _PORTS):
        raise Unclear(f"the attribute {unknown[0]!r} cannot be named here")
    if rule.direction == "inout" and given.keys() - {"protocol"}:
        raise Unclear("addresses or ports of both directions in one rule")
    source, dest = (_blocks(side, given, variables) for side in ("src", "dst"))
    return msgspec.structs.replace(
        rule, family=family, source=source, dest=dest, ports=_ports(protocol, given, variables)
    )


def _of_standing(rule: FilterRule, states: set[str]) -> FilterRule:
    """Take a rule without NEW. What it drops of a connection that stands cannot be told apart here from its first packet."""
    if rule.action in {"drop", "reject"}:
        word = ", ".join(sorted(states))
        raise Unclear(f"packets of state {word} are dropped, which keeps connections of either direction from standing")
    return msgspec.structs.replace(rule, answers=True, stands="ESTABLISHED" in states)


def _is_own_source(rule: FilterRule, given: Mapping[str, str]) -> bool:
    """``drop out`` unless the source is the guest's own, or ``return out`` when it is: spoofing, and nothing else."""
    sources = {"srcipaddr", "srcmacaddr", "srcipmask", "srcmacmask"}
    own = given.get("srcipaddr", given.get("srcmacaddr", "")) in {"$IP", "$MAC", "$IPV6"}
    return (
        rule.direction == "out"
        and own
        and (rule.action == "drop" or (rule.action == "return" and rule.frames))
        and given.keys() <= {"match", *sources}
        and ((given.get("match") == "no") == (rule.action == "drop"))
    )


def _blocks(side: str, given: Mapping[str, str], variables: Mapping[str, tuple[str, ...]]) -> Blocks | None:
    values = [given.get(f"{side}ip{part}", "") for part in ("addr", "mask", "from", "to")]
    address, mask, first, last = values
    if first or last:
        if not (first and last) or address:
            raise Unclear("half a range of addresses")
        words = [f"{one}-{two}" for one in _values(first, variables) for two in _values(last, variables)]
    elif address:
        words = [f"{one}/{mask}" if mask else one for one in _values(address, variables)]
    elif mask:
        raise Unclear("a mask without an address")
    else:
        return None
    return read_blocks(words, Unclear)


def _values(word: str, variables: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not word.startswith("$"):
        return (word,)
    if word[1:] not in variables:
        raise Unclear(f"the variable {word} has no value here")
    return variables[word[1:]]


def _ports(protocol: str, given: Mapping[str, str], variables: Mapping[str, tuple[str, ...]]) -> tuple[Port, ...]:
    start, end = given.get("dstportstart"), given.get("dstportend")
    if protocol in {"", "any"}:
        if start or end or "type" in given or "code" in given:
            raise Unclear("ports without a protocol")
        return ()
    if protocol.startswith("ICMP"):
        if start or end or ("code" in given and "type" not in given):
            raise Unclear("ports of ICMP")
        kind = _integer(given["type"], 0, 255) if "type" in given else None
        return (Port(protocol, type=kind, code=_integer(given["code"], 0, 255) if "code" in given else None),)
    if "type" in given or "code" in given or (end and not start):
        raise Unclear("a type of ICMP, or half a range of ports")
    if not start:
        return (Port(protocol),)
    found = []
    for word in _values(start, variables):
        low = _integer(word, 0, 65535)
        found.append(Port(protocol, low, _integer(end, low, 65535) if end else None))
    return tuple(found)


def _integer(word: str, low: int, high: int) -> int:
    if not _NUMBER.match(word):
        raise Unclear(f"{word[:80]!r} is no number")
    value = int(word, 0) if word.lstrip("-").startswith("0x") else int(word)
    if not low <= value <= high:
        raise Unclear(f"{value} is out of range")
    return value
