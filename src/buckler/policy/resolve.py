"""Rules at one end towards one peer → disjoint port intervals, each with one verdict. Owns no numbers of peers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import msgspec

from buckler.model.ids import RuleNumber
from buckler.model.program import Terms, Verdict
from buckler.policy.language import PROTOCOL_ANY, PROTOCOLS, Action, PolicyMode
from buckler.policy.rules import Rule
from buckler.policy.times import NOW, edges_of, holds_at
from buckler.policy.timing import MOST_UNKNOWN

LAST_PORT = 65535
NO_TERMS = Terms()
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
    drafted = any(rule.mode is PolicyMode.STAGED for rule in rules)
    elsewhere = _says([rule for rule in rules if not rule.spans], numbers, drafted)
    intervals: list[Interval] = []
    for protocol in PROTOCOL_ORDER:
        if protocol not in spans:
            intervals.append(Interval(protocol, 0, LAST_PORT, *elsewhere))
            continue
        for low, high in _pieces(spans[protocol]):
            here = {rule.key for rule, first, last in spans[protocol] if first <= low <= last}
            said = _says([rule for rule in rules if not rule.spans or rule.key in here], numbers, drafted)
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


def _says(matching: Sequence[Rule], numbers: Mapping[str, RuleNumber], drafted: bool) -> Said:
    now = [rule for rule in matching if holds_at(rule.times, NOW)]
    verdict, rule, observed = _decide(now, _ENFORCED)
    told = rule or _DEFAULT
    is_allowed = verdict is Verdict.ALLOW
    staged, draft = _decide(now, _DRAFTED)[:2] if drafted else (0, None)
    terms = Terms(
        until=_end(matching) if is_allowed else 0,
        log=told.log,
        connections=told.connections if is_allowed else 0,
        within=told.within if is_allowed else 0,
        staged=int(staged),
        staged_rule=_number(draft, numbers),
    )
    return verdict, _number(rule, numbers), _number(observed, numbers), None if terms == NO_TERMS else terms


def _number(rule: Rule | None, numbers: Mapping[str, RuleNumber]) -> RuleNumber:
    return numbers[rule.key] if rule else RuleNumber(0)


def _end(matching: Sequence[Rule]) -> int:
    """Find the first moment at which what is allowed now is not any more, or is not known to be; 0: none."""
    rules = [rule for rule in matching if rule.mode is PolicyMode.ENFORCE]
    times = [rule.times for rule in rules if rule.times is not None]
    if not times:
        return 0
    recurring = [rule.key for rule in rules if rule.times is not None and rule.times.known]
    known = min((each.known for each in times if each.known), default=0)
    for edge in sorted({edge for each in times for edge in edges_of(each)}):
        unknown = recurring if known and edge >= known else []
        if len(unknown) > MOST_UNKNOWN:
            return edge
        for held in product((True, False), repeat=len(unknown)):
            chosen = dict(zip(unknown, held, strict=True))
            here = [rule for rule in rules if chosen.get(rule.key, holds_at(rule.times, edge))]
            if _decide(here, _ENFORCED)[0] is not Verdict.ALLOW:
                return edge
    return 0


def _decide(matching: Sequence[Rule], modes: frozenset[PolicyMode]) -> tuple[Verdict, Rule | None, Rule | None]:
    """Decide among rules that match one packet and hold: (verdict, deciding rule, first observed rule)."""
    standing: Rule | None = None
    observed: Rule | None = None
    settled_tier = None
    for level in _levels(matching):
        if level[0].tier is settled_tier:
            continue
        watched = next((rule for rule in level if rule.mode is PolicyMode.OBSERVE), None)
        observed = observed or watched
        decider = min(_firsts(level, modes), key=_strictness, default=None)
        if decider is None:
            continue
        settled_tier = decider.tier
        if decider.action is Action.PASS:
            continue
        standing = decider
        if not decider.overridable:
            break
    return _VERDICTS[standing.action if standing else Action.DENY], standing, observed


def _levels(rules: Sequence[Rule]) -> Iterator[list[Rule]]:
    """Give level after level, as far as they are asked for."""
    start = 0
    for end in range(1, len(rules) + 1):
        if end == len(rules) or rules[end].place != rules[start].place:
            yield list(rules[start:end])
            start = end


def _firsts(level: Sequence[Rule], modes: frozenset[PolicyMode]) -> list[Rule]:
    """Take each document's own first rule, or what stands in its place by an exception; of several the first by name."""
    exceptions: dict[str, Rule] = {}
    for rule in sorted((each for each in level if each.yielding), key=_exception_name):
        exceptions.setdefault(rule.yielding, rule)
    firsts: dict[str, Rule] = {}
    for rule in level:
        if rule.yielding or rule.mode not in modes or rule.document in firsts:
            continue
        exception = exceptions.get(rule.key)
        if exception is None or exception.action is Action.ALLOW:
            firsts[rule.document] = exception or rule
    return list(firsts.values())


def _exception_name(rule: Rule) -> str:
    return rule.policy


def _strictness(rule: Rule) -> int:
    return _RANKS.get((rule.action, rule.overridable), len(_RANKS))


class _Default(msgspec.Struct, frozen=True):
    """What default deny says beside its verdict: nothing."""

    log: bool = False
    connections: int = 0
    within: int = 0


_DEFAULT = _Default()
_VERDICTS = {Action.ALLOW: Verdict.ALLOW, Action.DENY: Verdict.DENY, Action.REJECT: Verdict.REJECT}
_ENFORCED = frozenset({PolicyMode.ENFORCE})
_DRAFTED = _ENFORCED | {PolicyMode.STAGED}
_RANKS = {
    (Action.DENY, False): 0,
    (Action.REJECT, False): 1,
    (Action.DENY, True): 2,
    (Action.REJECT, True): 3,
    (Action.ALLOW, True): 4,
    (Action.ALLOW, False): 5,
}
