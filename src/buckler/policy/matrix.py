"""Everything that may talk, as one list: VMs with VMs, VMs with blocks of the world's addresses. Owns the form of the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.operatorapi.answers import PortRange
from buckler.model.program import Direction
from buckler.policy.compile import resolve_pool
from buckler.policy.draft import Draft, vm_title
from buckler.policy.outside import Outsides
from buckler.policy.party import endpoint_key
from buckler.policy.reach import Ends, Judge, list_ends, shields
from buckler.policy.space import write_ranges

ICMP = frozenset({"ICMP", "ICMPv6"})


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A VM, an endpoint, or addresses outside the pool that all have the same answer."""

    vm: str = ""
    blocks: tuple[str, ...] = ()
    endpoint: str = ""

    @property
    def title(self) -> str:
        """What lists are sorted by."""
        return self.vm or self.endpoint


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


def list_talks(draft: Draft) -> tuple[Talk, ...]:
    """List every ordered pair of different VMs, and of each VM with the world's addresses, that may talk."""
    resolved = resolve_pool(draft.pool, draft.documents, draft.numbers)
    ends = list_ends(draft.pool, draft.documents, draft.numbers)
    places = {str(vm.id): Place(vm=vm_title(vm)) for vm in draft.pool.vms}
    places |= {endpoint_key(each): Place(endpoint=f"{each.tenant}/{each.name}") for each in draft.pool.outsiders}
    judge = Judge(resolved)
    outsides = Outsides(resolved, judge, draft.numbers)
    talks: list[Talk] = []
    for origin in sorted(ends, key=lambda key: places[key].title):
        for to in sorted(ends, key=lambda key: places[key].title):
            allowed = judge.between(ends[origin], ends[to]) if origin != to else ()
            if allowed:
                talks.append(Talk(places[origin], places[to], write_connections(allowed)))
        if shields(ends[origin]):
            talks += _with_world(outsides, places[origin], ends[origin])
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


def _with_world(outsides: Outsides, here: Place, ends: Ends) -> Iterator[Talk]:
    """Give what a VM may send out, then what it may be sent; blocks with the same answer together."""
    for direction in Direction:
        blocks = outsides.ranges(ends, direction)
        for allowed, found in sorted(blocks.items(), key=lambda item: min(item[1])):
            if allowed:
                there = Place(blocks=write_ranges(found))
                pair = (here, there) if direction is Direction.EGRESS else (there, here)
                yield Talk(*pair, write_connections(allowed))
