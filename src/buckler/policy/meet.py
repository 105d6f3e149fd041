"""Join and meet of resolved tables: what both allow, what either allows. Owns no order of change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, reduce

import msgspec

from buckler.model.ids import RuleNumber
from buckler.model.program import Terms, Verdict
from buckler.policy.resolve import LAST_PORT, NO_TERMS, PROTOCOL_ORDER, Interval, Table, join_neighbours

DENY_ALL: Table = tuple(Interval(protocol, 0, LAST_PORT, Verdict.DENY, RuleNumber(0)) for protocol in PROTOCOL_ORDER)


def meet(first: Table, second: Table) -> Table:
    """Allow what both allow, as long and as often as both do. Rules are named as ``first`` does, unless only ``second`` denies."""
    return first if first is second else _met(first, second)


@lru_cache(maxsize=65536)
def _met(first: Table, second: Table) -> Table:
    if first == second:
        return first
    return _combine(first, second, lambda one, other: other if _is_opener(one, other) else one, stricter)


@lru_cache(maxsize=65536)
def join(first: Table, second: Table) -> Table:
    """Allow what either allows, as long and as often as either does."""
    if first == second:
        return first
    return _combine(first, second, lambda one, other: one if one.verdict is Verdict.ALLOW else other, looser)


@lru_cache(maxsize=65536)
def both(first: Table, second: Table) -> Table:
    """Allow what both allow, as two ends of one connection do: what either records or bounds holds beside it."""
    combined = []
    for one, other, low, high in overlay(first, second):
        chosen = other if one.verdict is Verdict.ALLOW and other.verdict is not Verdict.ALLOW else one
        observed = one.observed or other.observed
        combined.append(
            Interval(one.protocol, low, high, chosen.verdict, chosen.rule, observed, _both_terms(one, other, chosen))
        )
    return join_neighbours(combined)


def _both_terms(one: Interval, other: Interval, chosen: Interval) -> Terms | None:
    """The earlier end, the own end's rate before the other's; what a draft says is what it says at both."""
    if one.terms is None and other.terms is None:
        return None
    mine, theirs, told = (each.terms or Terms() for each in (one, other, chosen))
    is_allowed = chosen.verdict is Verdict.ALLOW
    rate = mine if mine.connections else theirs
    drafts = [
        (each.staged or int(where.verdict), each.staged_rule if each.staged else where.rule)
        for where, each in ((one, mine), (other, theirs))
    ]
    staged, staged_rule = next((each for each in drafts if each[0] != Verdict.ALLOW), drafts[0])
    has_draft = bool(mine.staged or theirs.staged)
    terms = Terms(
        until=min((each.until for each in (mine, theirs) if each.until), default=0) if is_allowed else told.until,
        log=mine.log or theirs.log if is_allowed else told.log,
        connections=rate.connections if is_allowed else told.connections,
        within=rate.within if is_allowed else told.within,
        staged=staged if has_draft else 0,
        staged_rule=staged_rule if has_draft else RuleNumber(0),
    )
    return terms if terms != Terms() else None


def meet_all(tables: Iterable[Table], start: Table) -> Table:
    """Allow what ``start`` and all of ``tables`` allow."""
    return reduce(meet, tables, start)


def is_tighter(first: Table, second: Table) -> bool:
    """Say whether ``second`` allows everything that ``first`` allows."""
    return first is second or _is_tighter(first, second)


@lru_cache(maxsize=65536)
def _is_tighter(first: Table, second: Table) -> bool:
    return all(
        one.verdict is not Verdict.ALLOW or is_covered(one, other) for one, other, _low, _high in overlay(first, second)
    )


def is_covered(one: Interval, other: Interval) -> bool:
    """Say whether ``other`` allows at least as long and as often as ``one``."""
    mine, theirs = one.terms or NO_TERMS, other.terms or NO_TERMS
    within_rate = not theirs.connections or (
        0 < mine.connections <= theirs.connections and mine.within >= theirs.within
    )
    lasts = not theirs.until or 0 < mine.until <= theirs.until
    return other.verdict is Verdict.ALLOW and lasts and within_rate


def stricter(one: Terms, other: Terms) -> Terms:
    """What is within both: the earlier end, the fewer connections in the longer time. The rest is as ``one`` says."""
    return msgspec.structs.replace(
        one,
        until=min(one.until, other.until) or max(one.until, other.until),
        connections=min(one.connections, other.connections) or max(one.connections, other.connections),
        within=max(one.within, other.within),
    )


def looser(one: Terms, other: Terms) -> Terms:
    """What both are within."""
    is_rated = bool(one.connections and other.connections)
    return msgspec.structs.replace(
        one,
        until=max(one.until, other.until) if one.until and other.until else 0,
        connections=max(one.connections, other.connections) if is_rated else 0,
        within=min(one.within, other.within) if is_rated else 0,
    )


def _combine(
    first: Table,
    second: Table,
    choose: Callable[[Interval, Interval], Interval],
    both_terms: Callable[[Terms, Terms], Terms],
) -> Table:
    combined = []
    for one, other, low, high in overlay(first, second):
        chosen, terms = choose(one, other), one.terms
        if one.terms != other.terms:
            terms = _combined(one, other, chosen, both_terms)
        combined.append(Interval(one.protocol, low, high, chosen.verdict, chosen.rule, chosen.observed, terms))
    return join_neighbours(combined)


def _combined(
    one: Interval, other: Interval, chosen: Interval, both_terms: Callable[[Terms, Terms], Terms]
) -> Terms | None:
    """Terms of an allowance are combined where both allow, else those of what is chosen; the draft is the first's."""
    mine, theirs = one.terms or NO_TERMS, other.terms or NO_TERMS
    told = mine if chosen is one else theirs
    if one.verdict is Verdict.ALLOW and other.verdict is Verdict.ALLOW:
        told = both_terms(mine, theirs)
    terms = msgspec.structs.replace(told, staged=mine.staged, staged_rule=mine.staged_rule)
    return None if terms == NO_TERMS else terms


def _is_opener(one: Interval, other: Interval) -> bool:
    return one.verdict is Verdict.ALLOW and other.verdict is not Verdict.ALLOW


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
