"""Rules at one end towards one peer → disjoint port intervals, each with one verdict. Owns no numbers of peers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from buckler.model.ids import RuleNumber
from buckler.model.program import Terms, Verdict
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
    terms: Terms | None = None

    @property
    def said(self) -> Said:
        """Everything but where it holds."""
        return self.verdict, self.rule, self.observed, self.terms


Said = tuple[Verdict, RuleNumber, RuleNumber, Terms | None]
Table = tuple[Interval, ...]
"""Sorted, disjoint and complete: every protocol of ``PROTOCOL_ORDER``, every port; neighbours differ."""


def resolve_rules(rules: Sequence[Rule], numbers: Mapping[str, RuleNumber]) -> Table:
    """Resolve rules that all apply to one subject, direction and peer, in the order of judging."""
    spans: dict[int, list[tuple[Rule, int, int]]] = {}
    for rule in rules:
        for span in rule.spans:
            spans.setdefault(span.protocol, []).append((rule, span.low, span.high))
    elsewhere = _says([rule for rule in rules if not rule.spans], numbers)
    intervals: list[Interval] = []
    for protocol in PROTOCOL_ORDER:
        if protocol not in spans:
            intervals.append(Interval(protocol, 0, LAST_PORT, *elsewhere))
            continue
        for low, high in _pieces(spans[protocol]):
            here = {rule.key for rule, first, last in spans[protocol] if first <= low <= last}
            said = _says([rule for rule in rules if not rule.spans or rule.key in here], numbers)
            intervals.append(Interval(protocol, low, high, *said))
    return join_neighbours(intervals)


def join_neighbours(intervals: Iterable[Interval]) -> Table:
    """Make one interval of neighbours that say the same. ``intervals`` are sorted and disjoint."""
    joined: list[Interval] = []
    for each in intervals:
        last = joined[-1] if joined else None
        if last is not None and (last.protocol, last.high + 1) == (each.protocol, each.low) and last.said == each.said:
            joined[-1] = msgspec.structs.replace(last, high=each.high)
        else:
            joined.append(each)
    return tuple(joined)


def find_interval(table: Table, protocol: int, port: int) -> Interval:
    """Find what a table says of one packet."""
    wanted = protocol if protocol in PROTOCOL_ORDER else PROTOCOL_ANY
    return next(each for each in table if each.protocol == wanted and each.low <= port <= each.high)


def _pieces(spans: Iterable[tuple[Rule, int, int]]) -> list[tuple[int, int]]:
    """Cut the ports of a protocol wherever some rule begins or ends."""
    starts = {0}
    for _, low, high in spans:
        starts |= {low, high + 1}
    edges = sorted(start for start in starts if start <= LAST_PORT)
    return list(zip(edges, [*(edge - 1 for edge in edges[1:]), LAST_PORT], strict=True))


def _says(matching: Sequence[Rule], numbers: Mapping[str, RuleNumber]) -> tuple[Verdict, RuleNumber, RuleNumber]:
    verdict, rule, observed = _decide(matching)
    return (
        verdict,
        numbers[rule.key] if rule else RuleNumber(0),
        numbers[observed.key] if observed else RuleNumber(0),
    )


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


def _levels(rules: Sequence[Rule]) -> Iterator[list[Rule]]:
    """Give level after level, as far as they are asked for."""
    start = 0
    for end in range(1, len(rules) + 1):
        if end == len(rules) or rules[end].place != rules[start].place:
            yield list(rules[start:end])
            start = end


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
