"""Rules at one end towards one peer → disjoint port intervals, each with one verdict. Owns no numbers of peers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.model.ids import RuleNumber
from buckler.model.program import Verdict
from buckler.policy.language import PROTOCOL_ANY, PROTOCOLS, Action, PolicyMode
from buckler.policy.rules import Rule

LAST_PORT = 65535
PROTOCOL_ORDER = (PROTOCOL_ANY, *sorted(PROTOCOLS.values()))


class Interval(msgspec.Struct, frozen=True, array_like=True):
    """Ports ``low`` to ``high`` of one protocol; protocol 0 stands for all that have no number in ``PROTOCOLS``."""

    protocol: int
    low: int
    high: int
    verdict: Verdict
    rule: RuleNumber
    observed: RuleNumber = RuleNumber(0)


Table = tuple[Interval, ...]
"""Sorted, disjoint and complete: every protocol of ``PROTOCOL_ORDER``, every port; neighbours differ."""


def resolve_rules(rules: Sequence[Rule], numbers: Mapping[str, RuleNumber]) -> Table:
    """Resolve rules that all apply to one subject, direction and peer, in the order of judging."""
    intervals: list[Interval] = []
    for protocol in PROTOCOL_ORDER:
        for low, high in _pieces(rules, protocol):
            verdict, rule, observed = _decide([each for each in rules if _covers(each, protocol, low)])
            intervals.append(
                Interval(
                    protocol,
                    low,
                    high,
                    verdict,
                    numbers[rule.key] if rule else RuleNumber(0),
                    numbers[observed.key] if observed else RuleNumber(0),
                )
            )
    return join_neighbours(intervals)


def join_neighbours(intervals: Iterable[Interval]) -> Table:
    """Make one interval of neighbours that say the same. ``intervals`` are sorted and disjoint."""
    joined: list[Interval] = []
    for each in intervals:
        last = joined[-1] if joined else None
        if last is not None and (last.protocol, last.high + 1) == (each.protocol, each.low) and _same(last, each):
            joined[-1] = Interval(last.protocol, last.low, each.high, last.verdict, last.rule, last.observed)
        else:
            joined.append(each)
    return tuple(joined)


def find_interval(table: Table, protocol: int, port: int) -> Interval:
    """Find what a table says of one packet."""
    wanted = protocol if protocol in PROTOCOL_ORDER else PROTOCOL_ANY
    return next(each for each in table if each.protocol == wanted and each.low <= port <= each.high)


def _same(one: Interval, other: Interval) -> bool:
    return (one.verdict, one.rule, one.observed) == (other.verdict, other.rule, other.observed)


def _pieces(rules: Sequence[Rule], protocol: int) -> list[tuple[int, int]]:
    """Cut the ports of a protocol wherever some rule begins or ends."""
    starts = {0}
    for rule in rules:
        for span in rule.spans:
            if span.protocol == protocol:
                starts |= {span.low, span.high + 1}
    edges = sorted(start for start in starts if start <= LAST_PORT)
    return list(zip(edges, [*(edge - 1 for edge in edges[1:]), LAST_PORT], strict=True))


def _covers(rule: Rule, protocol: int, port: int) -> bool:
    return not rule.spans or any(span.protocol == protocol and span.low <= port <= span.high for span in rule.spans)


def _decide(matching: Sequence[Rule]) -> tuple[Verdict, Rule | None, Rule | None]:
    """Decide among rules that match one packet: (verdict, deciding rule, first observed rule)."""
    standing: Rule | None = None
    observed: Rule | None = None
    settled_tier = None
    for level in _levels(matching):
        if level[0].tier is settled_tier:
            continue
        watched = next((rule for rule in level if rule.mode is PolicyMode.OBSERVE), None)
        observed = observed or watched
        decider = min(_firsts(level), key=_strictness, default=None)
        if decider is None:
            continue
        settled_tier = decider.tier
        if decider.action is Action.PASS:
            continue
        standing = decider
        if not decider.overridable:
            break
    allowed = standing is not None and standing.action is Action.ALLOW
    return (Verdict.ALLOW if allowed else Verdict.DENY), standing, observed


def _levels(rules: Sequence[Rule]) -> list[list[Rule]]:
    levels: dict[tuple[int, int], list[Rule]] = {}
    for rule in rules:
        levels.setdefault(rule.place, []).append(rule)
    return list(levels.values())


def _firsts(level: Sequence[Rule]) -> list[Rule]:
    """Take each document's own first enforced rule."""
    firsts: dict[str, Rule] = {}
    for rule in level:
        if rule.mode is PolicyMode.ENFORCE:
            firsts.setdefault(rule.document, rule)
    return list(firsts.values())


def _strictness(rule: Rule) -> int:
    if rule.action is Action.DENY:
        return 1 if rule.overridable else 0
    if rule.action is Action.ALLOW:
        return 2 if rule.overridable else 3
    return 4
