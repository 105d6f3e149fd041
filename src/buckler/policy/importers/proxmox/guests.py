"""A guest's configuration file and IP filters → its interfaces and addresses (qm.conf(5), pct.conf(5)). Owns no rule."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import msgspec

from buckler.policy.importers.outcome import Effect
from buckler.policy.importers.proxmox.files import FirewallFile, Line, Teller
from buckler.policy.importers.proxmox.rules import Names, Unclear
from buckler.policy.source import Source

_NET = re.compile(r"(net[0-9]{1,3}|ipconfig[0-9]{1,3}):\s*(.+)\Z")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")
_CARD = re.compile(r"-i(?:face)?\s+(net[0-9]{1,3})\b")
_NO = {"0", "off", "no", "false"}
"""Words for no; whatever else stands there may mean yes."""
_FILTER = re.compile(r"ipfilter-(net[0-9]{1,3})\Z")


class Card(msgspec.Struct, frozen=True):
    """One interface. ``is_filtered``: the firewall is on for it; None: nobody says."""

    name: str
    mac: str = ""
    bridge: str = "vmbr0"
    vlan: int = 0
    addresses: tuple[str, ...] = ()
    is_filtered: bool | None = None
    is_unclear: bool = False
    """Nobody knows in which network it is."""


def read_cards(config: Source | None, firewall: FirewallFile | None, names: Names, tell: Teller) -> list[Card]:
    """List a guest's interfaces; without a configuration file those that the firewall's file names."""
    if config is not None:
        cards = _configured(config, tell)
    else:
        named = {"net0"}
        for line in firewall.rules if firewall else []:
            named |= set(_CARD.findall(line.text))
        named |= {found[1] for each in (firewall.sets if firewall else ()) if (found := _FILTER.match(each))}
        cards = [Card(each) for each in sorted(named, key=lambda each: (len(each), each))]
    return [_with_filter(card, firewall, names, tell) for card in cards]


def _configured(config: Source, tell: Teller) -> list[Card]:
    found: dict[str, dict[str, str]] = {}
    for number, text in enumerate(re.split(r"\r?\n", config.text), start=1):
        if text.startswith("["):
            break  # snapshots follow
        match = _NET.match(text.rstrip())
        if match:
            given = [part.partition("=")[::2] for part in match[2].split(",")]
            said = {value.lower() for key, value in given if key == "firewall"} - _NO
            before = found.get(match[1], {}).get("filtered", "")
            found[match[1]] = dict(given) | {"line": str(number), "filtered": "yes" if said else before}
    return [
        _card(name, parts, found.get(f"ipconfig{name[3:]}", {}), config, tell)
        for name, parts in sorted(found.items())
        if name.startswith("net")
    ]


def _card(name: str, parts: dict[str, str], cloud: dict[str, str], config: Source, tell: Teller) -> Card:
    mac = next((each.lower() for each in parts.values() if _MAC.match(each)), "")
    addresses = [part.get(key, "").partition("/")[0] for part in (parts, cloud) for key in ("ip", "ip6")]
    line = Line(config.name, int(parts["line"]), f"{name}: …")
    vlan, is_unclear = parts.get("tag", "0"), False
    if not re.match(r"[0-9]{1,4}\Z", vlan) or int(vlan) > 4094:
        tell.tell(line, f"the VLAN tag {vlan!r} is none", "the interface is denied everything")
        vlan, is_unclear = "0", True
    return Card(
        name,
        mac,
        parts.get("bridge", "vmbr0"),
        int(vlan),
        tuple(each for each in dict.fromkeys(addresses) if _is_address(each)),
        bool(parts["filtered"]),
        is_unclear,
    )


def _with_filter(card: Card, firewall: FirewallFile | None, names: Names, tell: Teller) -> Card:
    """Addresses that the interface's IP filter permits are all that it can have, if each of them is single."""
    entries = firewall.sets.get(f"ipfilter-{card.name}", []) if firewall else []
    if not entries:
        return card
    try:
        blocks = names.blocks(f"+guest/ipfilter-{card.name}")
    except Unclear as unclear:
        tell.tell(entries[0], str(unclear), "the interface has the addresses of its configuration only")
        return card
    single = [ipaddress.ip_network(each) for each in blocks.within]
    if blocks.without or any(each.num_addresses != 1 for each in single):
        means = "the interface has the addresses of its configuration only"
        tell.tell(entries[0], "an IP filter of prefixes", means, Effect.NOTE)
        return card
    return msgspec.structs.replace(card, addresses=tuple(_unique(card.addresses, (str(each[0]) for each in single))))


def _unique(*groups: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(each for group in groups for each in group)


def _is_address(word: str) -> bool:
    try:
        parsed = ipaddress.ip_address(word)
    except ValueError:
        return False
    return not (parsed.is_multicast or parsed.is_loopback or parsed.is_unspecified)
