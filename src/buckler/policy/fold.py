"""One table → longest-prefix entries, as the kernel looks them up. Owns no rule and no peer."""

from __future__ import annotations

from buckler.model.ids import IdentityNumber
from buckler.model.program import Direction, Entry
from buckler.policy.language import PROTOCOL_ANY
from buckler.policy.resolve import LAST_PORT, Interval, Table


def fold_table(peer: IdentityNumber, direction: Direction, table: Table) -> list[Entry]:
    """Fold one table: an entry for the direction, one per protocol that differs, and prefixes within it."""
    base = next(each for each in table if each.protocol == PROTOCOL_ANY)
    entries = [_entry(peer, direction, base, 0, 0, 8)]
    by_protocol: dict[int, list[Interval]] = {}
    for each in table:
        by_protocol.setdefault(each.protocol, []).append(each)
    for protocol, intervals in by_protocol.items():
        if protocol == PROTOCOL_ANY:
            continue
        widest = max(intervals, key=lambda each: each.high - each.low)
        if widest.said != base.said:
            entries.append(_entry(peer, direction, widest, protocol, 0, 16))
        for each in intervals:
            if each.said != widest.said:
                entries += [
                    _entry(peer, direction, each, protocol, port, 16 + length)
                    for port, length in port_prefixes(each.low, each.high)
                ]
    return entries


def port_prefixes(low: int, high: int) -> list[tuple[int, int]]:
    """Cover a port range by the fewest aligned prefixes: (first port, bits that count)."""
    prefixes = []
    while low <= high:
        size = low & -low or LAST_PORT + 1
        while size > high - low + 1:
            size //= 2
        prefixes.append((low, 17 - size.bit_length()))
        low += size
    return prefixes


def _entry(
    peer: IdentityNumber, direction: Direction, interval: Interval, protocol: int, port: int, prefix: int
) -> Entry:
    return Entry(peer, direction, protocol, port, prefix, *interval.said)
