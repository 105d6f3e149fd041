"""One line of rules → what it matches (pve-firewall(8), "Firewall Rules"). Owns the words of a line; knows no VM."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from buckler.policy.importers.addressed import Blocks, read_blocks
from buckler.policy.importers.proxmox.files import FirewallFile, Line
from buckler.policy.importers.proxmox.macros import ICMP_TYPES, ICMPV6_TYPES, PORTS, SERVICES
from buckler.policy.language import Action, Port

ACTIONS = {"ACCEPT": Action.ALLOW, "DROP": Action.DENY, "REJECT": Action.REJECT}
_PROTOCOLS = {
    "tcp": "TCP",
    "6": "TCP",
    "udp": "UDP",
    "17": "UDP",
    "sctp": "SCTP",
    "132": "SCTP",
    "icmp": "ICMP",
    "1": "ICMP",
    "icmpv6": "ICMPv6",
    "ipv6-icmp": "ICMPv6",
    "58": "ICMPv6",
}
NO_LOG = "nolog"
MANAGEMENT, LOCAL_NETWORK = "management", "dc/local_network"
"""The cluster's set to which every host adds its own network: known only where the cluster says which that is."""
_ICMP = re.compile(r"([0-9]{1,3})(?:/([0-9]{1,3}))?\Z")
_ACTION = re.compile(r"(?:(\S+)\()?(ACCEPT|DROP|REJECT)(\))?\Z")
_PAIR = re.compile(r"--?([^\s-]\S*) (\S+)")
_PAIRS = re.compile(r"(--?[^\s-]\S* \S+(\s+|\Z))*\Z")
_OPTIONS = {
    "i": "iface",
    "iface": "iface",
    "p": "proto",
    "proto": "proto",
    "dport": "dport",
    "sport": "sport",
    "source": "source",
    "dest": "dest",
    "icmp-type": "icmp",
    "log": "log",
}


class Unclear(Exception):
    """A line that is not understood. ``allows`` says whether it would have allowed something."""

    def __init__(self, what: str, *, allows: bool = False) -> None:
        super().__init__(what)
        self.allows = allows


class Matched(msgspec.Struct, frozen=True):
    """Ports that a rule covers. ``widened``: it also looks at what cannot be said here, and covers more than it should."""

    ports: tuple[Port, ...] | None
    widened: str = ""


class FirewallRule(msgspec.Struct, frozen=True):
    """One rule. A ``group`` is a name to look up; else ``direction`` is ``in``, ``out`` or ``forward``."""

    line: Line
    direction: str
    action: Action = Action.DENY
    log: bool = False
    group: str = ""
    iface: str = ""
    source: Blocks | None = None
    dest: Blocks | None = None
    matched: tuple[Matched, ...] = ()


class Names(msgspec.Struct, frozen=True):
    """Aliases and IP sets that a file may name: its own before the cluster's."""

    guest: FirewallFile | None
    cluster: FirewallFile | None

    def blocks(self, word: str) -> Blocks:
        """Read a source or dest: ``+set``, an alias, or a list of addresses, prefixes and ranges."""
        if word.startswith("+"):
            return self._set(word[1:].lower())
        parts = [self._alias(part) for part in word.split(",")]
        if len(parts) > 1 and len({":" in each for each in parts}) > 1:
            raise Unclear(f"{word[:80]!r} lists addresses of both families")
        return read_blocks(parts, Unclear, strict=True)

    def _files(self, name: str) -> tuple[str, list[FirewallFile]]:
        scope, slash, rest = name.partition("/")
        if slash and scope in {"dc", "guest"}:
            chosen = self.cluster if scope == "dc" else self.guest
            return rest, [chosen] if chosen else []
        return name, [each for each in (self.guest, self.cluster) if each]

    def _alias(self, word: str) -> str:
        if re.match(r"[0-9]|[0-9a-fA-F]*:", word):
            return word
        name, files = self._files(word.lower())
        for each in files:
            if name in each.aliases:
                return each.aliases[name][0]
        raise Unclear(f"no alias named {word!r} is in the input")

    def _set(self, word: str) -> Blocks:
        name, files = self._files(word)
        for each in files:
            is_managing = each is self.cluster and name == MANAGEMENT
            if ("ipset", name) in each.twice:
                raise Unclear(f"the IP set {name!r} is given twice")
            if name in each.sets or is_managing:
                within = list(read_blocks([self._alias(LOCAL_NETWORK)], Unclear).within) if is_managing else []
                without: list[str] = []
                for line in each.sets.get(name, []):
                    entry = line.text.partition("#")[0].strip()
                    chosen = without if entry.startswith("!") else within
                    chosen += read_blocks([self._alias(entry.removeprefix("!").strip())], Unclear, strict=True).within
                return Blocks(tuple(within), tuple(without))
        raise Unclear(f"no IP set named {word!r} is in the input")


def read_rule(line: Line, names: Names) -> FirewallRule | None:
    """Read one line; None for a disabled one. Raises Unclear."""
    text = line.text.partition("#")[0].rstrip()
    if text.startswith("|"):
        return None
    words = text.split()
    if len(words) < 2 or text[:1].isspace():
        raise Unclear("a rule has a direction and an action, and nothing before them")
    direction, rest = words[0].lower(), text.split(maxsplit=2)[2] if len(words) > 2 else ""
    if direction == "group":
        if words[1] != words[1].lower():
            raise Unclear(f"the group {words[1]!r} is not written as groups are")
        options = _options(rest, Action.DENY)
        if options.keys() - {"iface"}:
            raise Unclear("a group takes no option but its interface")
        return FirewallRule(line, direction, group=words[1].lower(), iface=options.get("iface", ""))
    found = _ACTION.match(words[1])
    if direction not in {"in", "out", "forward"} or not found or bool(found[1]) != bool(found[3]):
        raise Unclear(f"{' '.join(words[:2])!r} is not understood")
    action = ACTIONS[found[2]]
    try:
        options = _options(rest, action)
        return FirewallRule(
            line,
            direction,
            action,
            options.get("log", NO_LOG) != NO_LOG,
            iface=options.get("iface", ""),
            source=names.blocks(options["source"]) if "source" in options else None,
            dest=names.blocks(options["dest"]) if "dest" in options else None,
            matched=_macro(found[1], options) if found[1] else (_matched(options),),
        )
    except Unclear as unclear:
        raise Unclear(str(unclear), allows=action is Action.ALLOW) from None


def _options(rest: str, action: Action) -> dict[str, str]:
    """Take pairs with one blank between key and value: any others pve-firewall does not take."""
    if not _PAIRS.match(rest):
        raise Unclear(f"the options {rest[:80]!r} are not pairs", allows=action is Action.ALLOW)
    found = {}
    for key, value in _PAIR.findall(rest):
        name = _OPTIONS.get(key)
        if name is None or name in found:
            raise Unclear(f"the option {key!r} is not understood", allows=action is Action.ALLOW)
        found[name] = value
    return found


def _macro(name: str, options: Mapping[str, str]) -> tuple[Matched, ...]:
    known = {each.lower(): words for each, words in PORTS.items()}
    if name.lower() not in known:
        raise Unclear(f"no macro is named {name!r}")
    if options.keys() & {"proto", "dport", "sport", "icmp"}:
        raise Unclear("a macro with protocol or ports of its own")
    found = []
    for word in known[name.lower()].split():
        aim, _arrow, sport = word.partition("<")
        proto, _slash, ports = aim.partition("/")
        own = {"proto": proto} | ({"icmp" if proto.startswith("icmp") else "dport": ports} if ports else {})
        found.append(_matched(own | ({"sport": sport} if sport else {})))
    return tuple(found)


def _matched(options: Mapping[str, str]) -> Matched:
    widened = "source ports" if "sport" in options else ""
    if "proto" not in options:
        if options.keys() & {"dport", "sport", "icmp"}:
            raise Unclear("ports without a protocol")
        return Matched(None)
    word = options["proto"].lower()
    protocol = _PROTOCOLS.get(word)
    if protocol is None:
        if options.keys() & {"dport", "sport", "icmp"}:
            raise Unclear(f"ports of the protocol {word!r}")
        return Matched(None, f"the protocol {word}")
    if protocol in {"ICMP", "ICMPv6"}:
        if "sport" in options:
            raise Unclear("source ports of ICMP")
        return Matched(_icmp(protocol, options.get("icmp") or options.get("dport")))
    if "icmp" in options:
        raise Unclear(f"an ICMP type with {protocol}")
    if "dport" not in options:
        return Matched((Port(protocol=protocol),), widened)
    return Matched(tuple(_port(protocol, each) for each in options["dport"].split(",")), widened)


def _icmp(protocol: str, word: str | None) -> tuple[Port, ...]:
    if word is None or word == "any":
        return (Port(protocol=protocol),)
    types = ICMP_TYPES if protocol == "ICMP" else ICMPV6_TYPES
    if found := _ICMP.match(word):
        kind, code = int(found[1]), int(found[2]) if found[2] else None
        if kind <= 255 and (code or 0) <= 255:
            return (Port(protocol=protocol, type=kind, code=code),)
    if word.lower() not in types:
        raise Unclear(f"the {protocol} type {word!r} is not known")
    return (Port(protocol=protocol, type=types[word.lower()]),)


def _port(protocol: str, word: str) -> Port:
    first, colon, last = word.partition(":") if word[:1].isdigit() else (word, "", "")
    numbers = [_number(each) for each in ((first, last) if colon else (first,))]
    if numbers[0] > numbers[-1]:
        raise Unclear(f"the range {word!r} is empty")
    return Port(protocol=protocol, port=numbers[0], end_port=numbers[1] if colon else None)


def _number(word: str) -> int:
    if re.match(r"[0-9]{1,5}\Z", word) and int(word) <= 65535:
        return int(word)
    if word.lower() in SERVICES:
        return SERVICES[word.lower()]
    raise Unclear(f"the port {word!r} is not known")
