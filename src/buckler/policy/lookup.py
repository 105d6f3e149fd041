"""Read programs as the kernel does: longest prefix below the peer, else below ANY. Owns no compiling."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache

from buckler.model.ids import IDENTITY_ANY, IdentityNumber, RuleNumber
from buckler.model.program import Direction, Entry, Program, Verdict
from buckler.policy.compile import ResolvedProgram, Side
from buckler.policy.language import PROTOCOL_ANY
from buckler.policy.resolve import LAST_PORT, PROTOCOL_ORDER, Interval, Table, join_neighbours

_DIRECTIONS = {int(each): each for each in Direction}
_NOTHING = Entry(IDENTITY_ANY, Direction.EGRESS, 0, 0, 8, Verdict.DENY, RuleNumber(0))


def look_up(program: Program, peer: IdentityNumber, direction: Direction, protocol: int, port: int) -> Entry | None:
    """Give the entry that decides, None where there is none (which is denied)."""
    for wanted in (peer, IDENTITY_ANY):
        found = [
            entry
            for entry in program.entries
            if entry.peer == wanted and entry.direction == direction and _covers(entry, protocol, port)
        ]
        if found:
            return max(found, key=lambda entry: entry.prefix)
    return None


def read_program(program: Program) -> ResolvedProgram:
    """Unfold a program into the tables that it stands for."""
    sides: dict[Side, list[Entry]] = {}
    for entry in program.entries:
        sides.setdefault((entry.peer, Direction(entry.direction)), []).append(entry)
    any_tables = {each: _unfold(sides.pop((IDENTITY_ANY, each), [_NOTHING])) for each in Direction}
    return ResolvedProgram(any_tables, {side: _unfold(entries) for side, entries in sides.items()})


class Unfolding:
    """``read_program``, each table when it is asked for: of most programs few are, of many none."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._tables: dict[Side, Table] = {}
        self.numbers = frozenset([entry.peer for entry in program.entries]) - {IDENTITY_ANY}

    @cached_property
    def _sides(self) -> dict[Side, list[Entry]]:
        sides: dict[Side, list[Entry]] = {}
        for entry in self._program.entries:
            sides.setdefault((entry.peer, _DIRECTIONS[entry.direction]), []).append(entry)
        return sides

    @property
    def peers(self) -> frozenset[Side]:
        """Name the peers with a table of their own."""
        return frozenset(side for side in self._sides if side[0] != IDENTITY_ANY)

    @property
    def any(self) -> dict[Direction, Table]:
        """What holds towards everyone without a table of their own."""
        return {each: self.table(IDENTITY_ANY, each) for each in Direction}

    def table(self, peer: IdentityNumber, direction: Direction) -> Table:
        """Give the table that holds towards ``peer``."""
        side = (peer, direction) if (peer, direction) in self._sides else (IDENTITY_ANY, direction)
        if side not in self._tables:
            self._tables[side] = _unfolded(tuple(self._sides.get(side, (_NOTHING,))))
        return self._tables[side]


@lru_cache(maxsize=65536)
def _unfolded(entries: tuple[Entry, ...]) -> Table:
    """Programs of one state, and of the next, say the same towards most peers."""
    return _unfold(entries)


def _unfold(entries: Iterable[Entry]) -> Table:
    entries = sorted(entries, key=lambda entry: entry.prefix)
    intervals = []
    for protocol in PROTOCOL_ORDER:
        mine = [entry for entry in entries if entry.prefix == 8 or entry.protocol == protocol]
        edges = sorted({0, *(edge for entry in mine for edge in _edges(entry) if edge <= LAST_PORT)})
        for low, after in zip(edges, [*edges[1:], LAST_PORT + 1], strict=True):
            best = next((entry for entry in reversed(mine) if _covers(entry, protocol, low)), _NOTHING)
            intervals.append(Interval(protocol, low, after - 1, best.verdict, best.rule, best.observed, best.terms))
    return join_neighbours(intervals)


def _edges(entry: Entry) -> tuple[int, int]:
    if entry.prefix <= 16:
        return 0, LAST_PORT + 1
    size = 1 << (32 - entry.prefix)
    return entry.port, entry.port + size


def _covers(entry: Entry, protocol: int, port: int) -> bool:
    if entry.prefix == 8:
        return True
    if entry.protocol != protocol or protocol == PROTOCOL_ANY:
        return False
    return entry.prefix == 16 or entry.port >> (32 - entry.prefix) == port >> (32 - entry.prefix)
