"""The addresses of the world, cut where policies name prefixes: which of them each outside class stands for."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping

from buckler.model.ids import IDENTITY_WORLD, IdentityNumber
from buckler.policy.prefix import Network, network_of

Range = tuple[int, int, int]
"""Version, first and last address."""
WHOLE: tuple[Range, ...] = ((4, 0, 2**32 - 1), (6, 0, 2**128 - 1))


def outside_ranges(prefixes: Mapping[str, IdentityNumber]) -> dict[IdentityNumber, tuple[Range, ...]]:
    """Give each class the addresses for which no longer named prefix stands; WORLD has what none names."""
    tree: dict[str, list[Range]] = {prefix: [] for prefix in prefixes}
    world: list[Range] = []
    above: list[str] = []
    for prefix in sorted(prefixes, key=_order):
        while above and not _holds(above[-1], prefix):
            above.pop()
        (tree[above[-1]] if above else world).append(_range(network_of(prefix)))
        above.append(prefix)
    found = {prefixes[prefix]: without((_range(network_of(prefix)),), inner) for prefix, inner in tree.items()}
    return {**found, IDENTITY_WORLD: without(WHOLE, world)}


def longest_holders(prefixes: Iterable[str], named: Collection[str]) -> dict[str, str]:
    """Find for each prefix the longest of ``named`` that contains it; empty: none. ``named`` are among ``prefixes``."""
    found: dict[str, str] = {}
    above: list[str] = []
    for prefix in sorted(prefixes, key=_order):
        while above and not _holds(above[-1], prefix):
            above.pop()
        if prefix in named:
            above.append(prefix)
        found[prefix] = above[-1] if above else ""
    return found


def within(ranges: Iterable[Range], room: Iterable[Range]) -> tuple[Range, ...]:
    """Give what of some addresses lies in ``room``."""
    room = tuple(room)
    return tuple(
        (version, max(first, low), min(last, high))
        for version, first, last in ranges
        for other, low, high in room
        if version == other and first <= high and low <= last
    )


def range_of(prefix: str) -> Range:
    """Give the addresses of a prefix, or of an address alone. Raises ValueError."""
    return _range(network_of(prefix))


def write_ranges(ranges: Iterable[Range]) -> tuple[str, ...]:
    """Write addresses as the fewest prefixes, IPv4 first."""
    written: list[str] = []
    for version, first, last in _joined(ranges):
        if version == 4:
            v4 = ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last))
            written += [str(each) for each in v4]
        else:
            v6 = ipaddress.summarize_address_range(ipaddress.IPv6Address(first), ipaddress.IPv6Address(last))
            written += [str(each) for each in v6]
    return tuple(written)


def _joined(ranges: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for version, first, last in sorted(ranges):
        if joined and joined[-1][0] == version and joined[-1][2] + 1 >= first:
            joined[-1] = (version, joined[-1][1], max(joined[-1][2], last))
        else:
            joined.append((version, first, last))
    return joined


def without(whole: Iterable[Range], holes: Iterable[Range]) -> tuple[Range, ...]:
    """Give the addresses that lie in no hole."""
    left: list[Range] = []
    holes = sorted(holes)
    for version, first, last in whole:
        start = first
        for other, low, high in holes:
            if other != version or high < start or low > last:
                continue
            if low > start:
                left.append((version, start, low - 1))
            start = high + 1
        if start <= last:
            left.append((version, start, last))
    return tuple(left)


def _order(prefix: str) -> tuple[int, int, int]:
    network = network_of(prefix)
    return network.version, int(network.network_address), network.prefixlen


def _holds(outer: str, inner: str) -> bool:
    version, first, last = _range(network_of(outer))
    of, start, end = _range(network_of(inner))
    return version == of and first <= start and end <= last


def _range(network: Network) -> Range:
    return network.version, int(network.network_address), int(network.broadcast_address)
