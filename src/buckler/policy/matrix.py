"""Everything that may talk, as one list: VMs with VMs, VMs with blocks of the world's addresses. Owns the form of the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, reduce

import msgspec

from buckler.model.ids import IdentityNumber
from buckler.model.operatorapi.answers import PortRange
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.draft import Draft, vm_title
from buckler.policy.meet import DENY_ALL, join, meet
from buckler.policy.pool import Station, identity_key, singled_out, stations
from buckler.policy.reach import ALLOW_ALL, allowed_ranges
from buckler.policy.resolve import Table
from buckler.policy.space import Range, outside_ranges, write_ranges

ICMP = frozenset({"ICMP", "ICMPv6"})


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A VM, or addresses outside the pool that all have the same answer."""

    vm: str = ""
    blocks: tuple[str, ...] = ()


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of one protocol may be sent. ``types`` are ICMP's; ``codes`` only where not all codes of the type may."""

    protocol: str
    ports: tuple[tuple[int, int], ...] = ()
    types: tuple[tuple[int, int], ...] = ()
    codes: tuple[tuple[int, int], ...] = ()


class Talk(msgspec.Struct, frozen=True):
    """One ordered pair that may talk. ``connections`` is ``all`` or a list that is not empty."""

    origin: Place = msgspec.field(name="from")
    to: Place
    connections: str | tuple[Connection, ...]


_End = tuple[IdentityNumber, ShieldMode]
_Ends = tuple[tuple[int, IdentityNumber, ShieldMode], ...]
"""Of each interface of a VM: zone, identity, mode. VMs with equal ends have equal answers."""


def list_talks(draft: Draft) -> tuple[Talk, ...]:
    """List every ordered pair of different VMs, and of each VM with the world's addresses, that may talk."""
    resolved = resolve_pool(draft.pool, draft.documents, draft.numbers)
    ends = _ends_by_vm(draft)
    ranges = outside_ranges({prefix: draft.numbers.cidrs[prefix] for prefix in resolved.prefixes})
    judge = _Judge(resolved)
    talks: list[Talk] = []
    for origin in sorted(ends):
        for to in sorted(ends):
            allowed = judge.between(ends[origin], ends[to]) if origin != to else ()
            if allowed:
                talks.append(Talk(Place(origin), Place(to), write_connections(allowed)))
        talks += judge.with_world(origin, ends[origin], ranges)
    return tuple(talks)


def write_connections(allowed: tuple[PortRange, ...]) -> str | tuple[Connection, ...]:
    """Write ranges by protocol."""
    if allowed == (PortRange("any"),):
        return "all"
    by_protocol: dict[str, list[tuple[int, int]]] = {}
    for each in allowed:
        by_protocol.setdefault(each.protocol, []).append((each.port, each.end_port))
    return tuple(
        connection
        for protocol, ports in by_protocol.items()
        for connection in (_icmp(protocol, ports) if protocol in ICMP else [Connection(protocol, tuple(ports))])
    )


def _icmp(protocol: str, numbers: Iterable[tuple[int, int]]) -> Iterator[Connection]:
    """Tell types of which every code may be sent from single codes."""
    whole: list[tuple[int, int]] = []
    parts: list[Connection] = []
    for low, high in numbers:
        first, last = (low + 255) >> 8, ((high + 1) >> 8) - 1
        if first <= last:
            whole.append((first, last))
        for kind in sorted({low >> 8, high >> 8} - set(range(first, last + 1))):
            codes = (max(low, kind << 8) & 255, min(high, kind << 8 | 255) & 255)
            parts.append(Connection(protocol, types=((kind, kind),), codes=(codes,)))
    if whole:
        yield Connection(protocol, types=tuple(whole))
    yield from parts


def _ends_by_vm(draft: Draft) -> dict[str, _Ends]:
    ends: dict[str, list[tuple[int, IdentityNumber, ShieldMode]]] = {vm_title(vm): [] for vm in draft.pool.vms}
    for station in stations(draft.pool, singled_out(draft.documents)):
        ends[vm_title(station.vm)].append(_end(station, draft.numbers.identities))
    return {title: tuple(found) for title, found in ends.items()}


def _end(station: Station, numbers: Mapping[str, IdentityNumber]) -> tuple[int, IdentityNumber, ShieldMode]:
    return station.network.zone, numbers[identity_key(station.labels)], station.vm.mode


class _Judge:
    """Answers by the ends' identities, each pair worked out once."""

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved
        self.between = lru_cache(maxsize=None)(self._between)
        self._world = lru_cache(maxsize=None)(self._with_class)

    def with_world(self, title: str, ends: _Ends, ranges: Mapping[IdentityNumber, tuple[Range, ...]]) -> Iterator[Talk]:
        """Give what a VM may send out, then what it may be sent; blocks with the same answer together."""
        for direction in Direction:
            blocks: dict[tuple[PortRange, ...], list[Range]] = {}
            for number, parts in ranges.items():
                allowed = self._world(ends, number, direction)
                if allowed and parts:
                    blocks.setdefault(allowed, []).extend(parts)
            for allowed, parts_ in sorted(blocks.items(), key=lambda item: min(item[1])):
                here, there = Place(title), Place(blocks=write_ranges(parts_))
                pair = (here, there) if direction is Direction.EGRESS else (there, here)
                yield Talk(*pair, write_connections(allowed))

    def _between(self, origin: _Ends, to: _Ends) -> tuple[PortRange, ...]:
        tables = [
            meet(self._side(one[1:], other[1], Direction.EGRESS), self._side(other[1:], one[1], Direction.INGRESS))
            for one in origin
            for other in to
            if one[0] == other[0]
        ]
        return allowed_ranges(reduce(join, tables, DENY_ALL))

    def _with_class(self, ends: _Ends, number: IdentityNumber, direction: Direction) -> tuple[PortRange, ...]:
        return allowed_ranges(reduce(join, (self._side(end[1:], number, direction) for end in ends), DENY_ALL))

    def _side(self, end: _End, peer: IdentityNumber, direction: Direction) -> Table:
        number, mode = end
        if mode is ShieldMode.OBSERVE:
            return ALLOW_ALL
        return self._resolved.programs[number].table(peer, direction)
