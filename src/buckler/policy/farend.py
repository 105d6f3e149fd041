"""What the host's end and the edge say beside a VM's own shield, which enforces both. Resolves no rules.

Such an end is asked when some policy has it as its subject in that direction; until then it says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from buckler.model.ids import RuleNumber
from buckler.model.program import Direction, Terms, Verdict
from buckler.policy.language import PolicyMode, Stand
from buckler.policy.meet import both
from buckler.policy.posting import Mask
from buckler.policy.resolve import Interval, Table, join_neighbours
from buckler.policy.row import Sheet, Side, unite
from buckler.policy.rules import Rule

End = tuple[Stand, Direction]
"""An end without a shield, and the direction as the VM sees it."""


class Opinions:
    """Which ends are asked: those that some policy has as its subject. Flows stand there, but make no opinion.

    ``enforced``: those of policies that decide; the others are asked for the draft alone.
    """

    def __init__(self) -> None:
        self._of_document: dict[str, frozenset[tuple[PolicyMode, End]]] = {}
        self._count: Counter[tuple[PolicyMode, End]] = Counter()

    def __contains__(self, end: End) -> bool:
        return any(self._count[mode, end] > 0 for mode in (PolicyMode.ENFORCE, PolicyMode.STAGED))

    def __bool__(self) -> bool:
        return any(self._count.values())

    def is_enforced(self, end: End) -> bool:
        """Say whether what the end says decides."""
        return self._count[PolicyMode.ENFORCE, end] > 0

    def put(self, document: str, rules: Iterable[Rule]) -> bool:
        """Take the rules of a document in place of its former ones; say whether another set of ends is asked now."""
        before = frozenset(+self._count)
        self._count.subtract(self._of_document.pop(document, ()))
        ends = frozenset(
            (rule.mode, (rule.stand, rule.direction))
            for rule in rules
            if rule.is_opinion and rule.mode is not PolicyMode.OBSERVE
        )
        if ends:
            self._of_document[document] = ends
            self._count.update(ends)
        return before != frozenset(+self._count)


def draft_only(side: Side, sheet_of: Callable[[Table], Sheet]) -> Side:
    """Let a side that only staged policies ask for decide nothing, and keep what the draft says."""
    classes = tuple((mask, sheet_of(_silent(sheet.table))) for mask, sheet in side.classes)
    everyone, group = (sheet_of(_silent(each.table)) for each in (side.everyone, side.group))
    return Side(everyone, group, classes)


def _silent(table: Table) -> Table:
    said = []
    for each in table:
        draft = each.terms or Terms()
        staged = (draft.staged, draft.staged_rule) if draft.staged else (int(each.verdict), each.rule)
        terms = Terms(staged=staged[0], staged_rule=staged[1])
        said.append(Interval(each.protocol, each.low, each.high, Verdict.ALLOW, RuleNumber(0), terms=terms))
    return join_neighbours(said)


def join_ends(mine: Side, far: Side, scope: Mask, sheet_of: Callable[[Table], Sheet]) -> Side:
    """Allow towards the classes of ``scope`` what both ends allow; nothing changes towards others."""
    found: dict[int, tuple[Sheet, list[Mask]]] = {}
    for mask, sheet in mine.classes:
        if mask & ~scope:
            found.setdefault(id(sheet), (sheet, []))[1].append(mask & ~scope)
    for ours, one in _parts(mine, scope):
        for theirs, other in _parts(far, ours):
            sheet = sheet_of(both(one.table, other.table))
            found.setdefault(id(sheet), (sheet, []))[1].append(theirs)
    classes = tuple((unite(parts), sheet) for sheet, parts in found.values() if sheet is not mine.everyone)
    return msgspec.structs.replace(mine, classes=classes)


def _parts(side: Side, scope: Mask) -> list[tuple[Mask, Sheet]]:
    """Cut ``scope`` by what a side says towards its classes."""
    parts = [(mask & scope, sheet) for mask, sheet in side.classes if mask & scope]
    rest = scope & ~unite(mask for mask, _ in parts)
    return [*parts, (rest, side.everyone)] if rest else parts
