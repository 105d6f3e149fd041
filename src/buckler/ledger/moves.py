"""Which entries of a VM's life tell of one and the same move. Owns no words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buckler.ledger.entry import Entry
from buckler.model.event import EventKind

_MOVED = frozenset({EventKind.MIGRATION_ARRIVED, EventKind.MIGRATION_ABORTED})
_ORDERS = frozenset({EventKind.TASK_ORDERED, EventKind.TASK_ENDED})
_NEAR = 600.0
"""How far the clocks of two hosts, and what a move takes, may lie apart (seconds)."""


def parts_of_moves(entries: Sequence[Entry]) -> Mapping[int, int]:
    """Map the number of each entry that is only a part of a move to that of the entry that tells the whole of it.

    The whole is told by the destination: ``migration.arrived`` or ``migration.aborted``. Parts are its announcement, the
    source's leave, and the order, if there was one. What fits no move stands for itself.
    """
    found: dict[int, int] = {}
    for move in (entry for entry in entries if entry.kind in _MOVED):
        for part in (_announced(move, entries, found), _left(move, entries, found), *_orders(move, entries)):
            if part is not None:
                found.setdefault(part.sequence, move.sequence)
    return found


def order_of(move: Entry, entries: Sequence[Entry]) -> Entry | None:
    """The order that a move carried out."""
    return next((each for each in _orders(move, entries) if each.kind == EventKind.TASK_ORDERED), None)


def _announced(move: Entry, entries: Sequence[Entry], taken: Mapping[int, int]) -> Entry | None:
    before = [
        each
        for each in entries
        if each.kind == EventKind.MIGRATION_PREPARED
        and each.host == move.host
        and each.sequence < move.sequence
        and each.sequence not in taken
    ]
    return before[-1] if before else None


def _left(move: Entry, entries: Sequence[Entry], taken: Mapping[int, int]) -> Entry | None:
    near = [
        each
        for each in entries
        if each.kind == EventKind.MIGRATION_LEFT
        and each.host != move.host
        and each.sequence not in taken
        and abs(each.at - move.at) <= _NEAR
        and _same_move(each, move)
    ]
    return min(near, key=lambda each: abs(each.at - move.at), default=None)


def _same_move(one: Entry, other: Entry) -> bool:
    """Two that both name their source and destination must name the same."""
    ends = [(each.detail.get("from"), each.detail.get("to")) for each in (one, other)]
    return not (all(ends[0]) and all(ends[1])) or ends[0] == ends[1]


def _orders(move: Entry, entries: Sequence[Entry]) -> list[Entry]:
    task = move.detail.get("task")
    return [each for each in entries if task and each.kind in _ORDERS and each.detail.get("task") == task]
