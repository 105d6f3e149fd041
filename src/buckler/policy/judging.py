"""The order of judging among rules that were looked at: tiers, levels, exceptions, drafts, time. Owns no matching.

Part of the meaning of the language (``reference``): plain, and slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, product

import msgspec

from buckler.policy.judgement import Considered, Outcome
from buckler.policy.language import Action, PolicyMode, Tier
from buckler.policy.times import NOW, Times, edges_of, holds_at
from buckler.policy.timing import MOST_UNKNOWN

ENFORCED = frozenset({PolicyMode.ENFORCE})
DRAFTED = frozenset({PolicyMode.ENFORCE, PolicyMode.STAGED})
_OUTCOMES = {PolicyMode.OBSERVE: Outcome.OBSERVED, PolicyMode.STAGED: Outcome.STAGED}


class Candidate(msgspec.Struct, frozen=True):
    """One rule of one document at this end. ``yielding``: the key of the rule to which this is an exception."""

    rule: Considered
    mode: PolicyMode
    overridable: bool
    times: Times | None = None
    yielding: str = ""

    @property
    def speaks(self) -> bool:
        return self.rule.matches and not self.yielding


Levels = list[list[list[Candidate]]]
"""Tier after tier, order after order: the rules of each document."""


class Walk:
    """Where judging stands: what would decide now, and whether anything later still can."""

    def __init__(self, modes: frozenset[PolicyMode] = ENFORCED) -> None:
        self.standing: Considered | None = None
        self.observed: Considered | None = None
        self.told: list[Considered] = []
        self.tier: Tier | None = None
        self.tier_is_settled = False
        self.is_final = False
        self._modes = modes

    @property
    def allowed(self) -> bool:
        return self.standing is not None and self.standing.action is Action.ALLOW

    def judge_level(self, level: list[list[Candidate]], at: int = NOW) -> None:
        """Judge the documents of one tier and order."""
        candidates = [candidate for document in level for candidate in document]
        if not candidates:
            return
        tier = candidates[0].rule.tier
        if tier is not self.tier:
            self.tier_is_settled = False
            self.tier = tier
        if self.is_final or self.tier_is_settled:
            self.told += [_told(each.rule, Outcome.NOT_REACHED) for each in candidates]
            return
        now = [[each for each in document if holds_at(each.times, at)] for document in level]
        firsts = [first for document in now if (first := _first_match(document, self._modes)) is not None]
        decider = min(firsts, key=_strictness, default=None)
        for document, active in zip(level, now, strict=True):
            for candidate in document:
                self._tell(candidate, active, firsts, decider)
        if decider is not None:
            self._settle(decider)

    def _settle(self, decider: Candidate) -> None:
        self.tier_is_settled = True
        if decider.rule.action is Action.PASS:
            return
        if self.standing is not None:
            old = self.standing
            self.told = [_told(each, Outcome.REPLACED) if each is old else each for each in self.told]
        self.standing = [each for each in self.told if each.outcome is Outcome.DECIDES][-1]
        self.is_final = not decider.overridable

    def _tell(
        self, candidate: Candidate, active: list[Candidate], firsts: list[Candidate], decider: Candidate | None
    ) -> None:
        rule = candidate.rule
        if not rule.matches:
            outcome = Outcome.NO_MATCH
        elif candidate not in active:
            outcome = Outcome.INACTIVE
        elif candidate.mode not in self._modes:
            outcome = _OUTCOMES[candidate.mode]
        elif candidate is decider:
            outcome = Outcome.PASSED if rule.action is Action.PASS else Outcome.DECIDES
        elif candidate in firsts:
            outcome = Outcome.WEAKER
        elif candidate.yielding:
            outcome = Outcome.EXCEPTION if rule.action is Action.PASS else Outcome.NOT_REACHED
        else:
            outcome = Outcome.YIELDS if _exception(candidate, active) else Outcome.NOT_REACHED
        self.told.append(_told(rule, outcome))
        if outcome is Outcome.OBSERVED and self.observed is None:
            self.observed = self.told[-1]


def walk(levels: Levels, modes: frozenset[PolicyMode] = ENFORCED) -> Walk:
    """Judge by what holds now."""
    found = Walk(modes)
    for level in levels:
        found.judge_level(level)
    return found


def find_end_of_allowance(levels: Levels) -> int:
    """Find the first moment at which what is allowed now is refused, or is not known to be allowed; 0: there is none.

    Beyond what is known of schedules their rules may hold or not: allowed is what is allowed in every case.
    """
    timed = [
        each
        for each in chain.from_iterable(chain.from_iterable(levels))
        if each.rule.matches and each.times is not None and each.mode is PolicyMode.ENFORCE
    ]
    recurring = [each for each in timed if each.times is not None and each.times.known]
    known = min((each.times.known for each in recurring if each.times is not None), default=0)
    edges = {edge for each in timed if each.times is not None for edge in edges_of(each.times)}
    for edge in sorted(edges):
        unknown = recurring if known and edge >= known else []
        if len(unknown) > MOST_UNKNOWN:
            return edge
        for held in product((True, False), repeat=len(unknown)):
            chosen = {each.rule.key: here for each, here in zip(unknown, held, strict=True)}
            found = Walk()
            for level in levels:
                found.judge_level([_at(document, edge, chosen) for document in level], NOW)
            if not found.allowed:
                return edge
    return 0


def _at(document: list[Candidate], moment: int, chosen: dict[str, bool]) -> list[Candidate]:
    """Give the rules that hold at a moment, for good; those whose state is not known as it was chosen."""
    here = [each for each in document if chosen.get(each.rule.key, holds_at(each.times, moment))]
    return [msgspec.structs.replace(each, times=None) for each in here]


def _first_match(document: list[Candidate], modes: frozenset[PolicyMode]) -> Candidate | None:
    """Find the first rule that speaks, or the exception that stands in its place."""
    for candidate in document:
        if not candidate.speaks or candidate.mode not in modes:
            continue
        exception = _exception(candidate, document)
        if exception is None or exception.rule.action is Action.ALLOW:
            return exception or candidate
    return None


def _exception(candidate: Candidate, document: Iterable[Candidate]) -> Candidate | None:
    """Find what a rule yields to: of several exceptions the first by name."""
    found = (each for each in document if each.yielding == candidate.rule.key and each.rule.matches)
    return min(found, key=lambda each: each.rule.policy, default=None)


def _strictness(candidate: Candidate) -> int:
    """Deny before allow before pass; what may be overridden is weaker as a denial and stricter as an allow."""
    action, overridable = candidate.rule.action, candidate.overridable
    order = (
        (Action.DENY, False),
        (Action.REJECT, False),
        (Action.DENY, True),
        (Action.REJECT, True),
        (Action.ALLOW, True),
        (Action.ALLOW, False),
    )
    return order.index((action, overridable)) if (action, overridable) in order else len(order)


def _told(rule: Considered, outcome: Outcome) -> Considered:
    return msgspec.structs.replace(rule, outcome=outcome)
