"""Permits → an nftables ruleset for a router between the VMs (nft(8), table family inet, hook forward). Owns its words.

Connections are followed by conntrack: permits judge the first packet. What has no VM at either end is left alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from buckler.policy.exporters.permits import Permit, Permits
from buckler.policy.matrix import Connection

TABLE = "buckler"
_MATCHES = {"TCP": "tcp dport", "UDP": "udp dport", "SCTP": "sctp dport"}
_NAMED = "{ tcp, udp, sctp, icmp, ipv6-icmp }"


def nftables_ruleset(permits: Permits) -> str:
    """Write the whole ruleset. Loading it again replaces what it loaded before."""
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for version in (4, 6):
        members = [each for each in permits.members if ipaddress.ip_address(each).version == version]
        elements = f"elements = {{ {', '.join(members)} }}; " if members else ""
        lines.append(f"  set members{version} {{ type {'ipv4' if version == 4 else 'ipv6'}_addr; {elements}}}")
    lines += [
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        "    ct state established,related accept",
        "    ct state invalid ip saddr @members4 drop",
        "    ct state invalid ip daddr @members4 drop",
        "    ct state invalid ip6 saddr @members6 drop",
        "    ct state invalid ip6 daddr @members6 drop",
    ]
    lines += [f"    {line}" for permit in permits.between for line in _lines(permit)]
    lines += [f"    {line}" for permit in permits.refused_between for line in _refusals(permit)]
    lines += ["    ip saddr @members4 ip daddr @members4 drop", "    ip6 saddr @members6 ip6 daddr @members6 drop"]
    lines += [f"    {line}" for line in _closed(permits.closed)]
    lines += [f"    {line}" for permit in permits.outside for line in _lines(permit)]
    lines += [f"    {line}" for permit in permits.refused_outside for line in _refusals(permit)]
    for word in ("saddr", "daddr"):
        lines += [f"    ip {word} @members4 drop", f"    ip6 {word} @members6 drop"]
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _closed(blocks: tuple[str, ...]) -> Iterator[str]:
    """Drop what VMs may send and be sent that declare no address."""
    for family, word in (("ip", "."), ("ip6", ":")):
        mine, whole = tuple(each for each in blocks if word in each), f"meta nfproto ipv{4 if family == 'ip' else 6} "
        for end in ("saddr", "daddr") if mine else ():
            yield f"{_end(family, end, mine) or whole}drop"


def _lines(permit: Permit) -> Iterator[str]:
    yield f"# {permit.words}"
    for match in _matches(permit):
        yield f"{match}accept"


def _refusals(permit: Permit) -> Iterator[str]:
    """Answer as a shield does: TCP by a reset, the rest by ICMP."""
    yield f"# {permit.words}: refused with an answer"
    for match in _matches(permit):
        if "tcp dport" in match or "l4proto tcp" in match:
            yield f"{match}reject with tcp reset"
        elif "l4proto" in match or " dport" in match or "type" in match:
            yield f"{match}reject with icmpx type admin-prohibited"
        else:
            yield f"{match}meta l4proto tcp reject with tcp reset"
            yield f"{match}reject with icmpx type admin-prohibited"


def _matches(permit: Permit) -> Iterator[str]:
    version = 6 if ":" in permit.sources[0] else 4
    family = "ip6" if version == 6 else "ip"
    ends = f"{_end(family, 'saddr', permit.sources)}{_end(family, 'daddr', permit.destinations)}"
    if not ends:
        ends = f"meta nfproto ipv{version} "
    for match in _connections(permit, version):
        yield f"{ends}{match}"


def _end(family: str, word: str, blocks: tuple[str, ...]) -> str:
    if any(each.endswith("/0") for each in blocks):
        return ""
    return f"{family} {word} {{ {', '.join(blocks)} }} "


def _connections(permit: Permit, version: int) -> Iterable[str]:
    if isinstance(permit.connections, str):
        return [""]
    return [match for each in permit.connections for match in _connection(each, version)]


def _connection(each: Connection, version: int) -> Iterator[str]:
    if each.protocol in _MATCHES:
        whole = each.ports == ((0, 65535),)
        yield f"meta l4proto {each.protocol.lower()} " if whole else f"{_MATCHES[each.protocol]} {_ranges(each.ports)} "
    elif each.protocol == "other":
        yield f"meta l4proto != {_NAMED} "
    elif each.types == ((0, 255),):
        yield f"meta l4proto {'icmp' if each.protocol == 'ICMP' else 'ipv6-icmp'} "
    elif (each.protocol == "ICMP") == (version == 4):
        word = "icmp" if version == 4 else "icmpv6"
        codes = f"{word} code {_ranges(each.codes)} " if each.codes else ""
        yield f"{word} type {_ranges(each.types)} {codes}"


def _ranges(ranges: tuple[tuple[int, int], ...]) -> str:
    return f"{{ {', '.join(str(low) if low == high else f'{low}-{high}' for low, high in ranges)} }}"
