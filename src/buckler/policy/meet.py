"""Join and meet of resolved tables: what both allow, what either allows. Owns no order of change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, reduce

from buckler.model.ids import RuleNumber
from buckler.model.program import Verdict
from buckler.policy.resolve import LAST_PORT, PROTOCOL_ORDER, Interval, Table, join_neighbours

DENY_ALL: Table = tuple(Interval(protocol, 0, LAST_PORT, Verdict.DENY, RuleNumber(0)) for protocol in PROTOCOL_ORDER)


@lru_cache(maxsize=65536)
def meet(first: Table, second: Table) -> Table:
    """Allow what both allow. Rules are named as ``first`` does, unless only ``second`` denies."""
    if first == second:
        return first
    return _combine(first, second, lambda one, other: other if one.verdict is Verdict.ALLOW else one)


@lru_cache(maxsize=65536)
def join(first: Table, second: Table) -> Table:
    """Allow what either allows."""
    if first == second:
        return first
    return _combine(first, second, lambda one, other: one if one.verdict is Verdict.ALLOW else other)


def meet_all(tables: Iterable[Table], start: Table) -> Table:
    """Allow what ``start`` and all of ``tables`` allow."""
    return reduce(meet, tables, start)


@lru_cache(maxsize=65536)
def is_tighter(first: Table, second: Table) -> bool:
    """Say whether ``second`` allows everything that ``first`` allows."""
    return all(
        one.verdict is not Verdict.ALLOW or other.verdict is Verdict.ALLOW
        for one, other, _low, _high in overlay(first, second)
    )


def _combine(first: Table, second: Table, choose: Callable[[Interval, Interval], Interval]) -> Table:
    combined = []
    for one, other, low, high in overlay(first, second):
        chosen = choose(one, other)
        combined.append(Interval(one.protocol, low, high, chosen.verdict, chosen.rule, chosen.observed))
    return join_neighbours(combined)


def overlay(first: Table, second: Table) -> Iterable[tuple[Interval, Interval, int, int]]:
    """Walk two complete tables side by side."""
    left, right = list(first), list(second)
    i = j = 0
    while i < len(left) and j < len(right):
        one, other = left[i], right[j]
        yield one, other, max(one.low, other.low), min(one.high, other.high)
        end_one, end_other = (one.protocol, one.high), (other.protocol, other.high)
        i += end_one <= end_other
        j += end_other <= end_one
