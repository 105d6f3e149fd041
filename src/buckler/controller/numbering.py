"""Gives numbers to identities, prefixes and rules that have none yet. Never takes one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from buckler.model.ids import FIRST_CIDR_IDENTITY, FIRST_VM_IDENTITY, IdentityNumber, RuleNumber
from buckler.policy.pool import Numbers
from buckler.ports.records import NumberSpace
from buckler.ports.store import Unit

T = TypeVar("T")
_FIRST = {
    NumberSpace.IDENTITY: FIRST_VM_IDENTITY,
    NumberSpace.CIDR: FIRST_CIDR_IDENTITY,
    NumberSpace.RULE: 1,
    NumberSpace.SERVICE: 1,
}


def read_numbers(unit: Unit) -> Numbers:
    """All numbers that policy works with."""
    return Numbers(
        identities=_typed(unit.numbers.table(NumberSpace.IDENTITY), IdentityNumber),
        cidrs=_typed(unit.numbers.table(NumberSpace.CIDR), IdentityNumber),
        rules=_typed(unit.numbers.table(NumberSpace.RULE), RuleNumber),
        services=unit.numbers.table(NumberSpace.SERVICE),
    )


class StoreNumbering:
    """policy.delta.Numbering over the store's numbers: what has none gets the next one, which ``keep`` writes down."""

    def __init__(self, unit: Unit) -> None:
        self._tables = {space: unit.numbers.table(space) for space in _FIRST}
        self._next = {
            space: max(table.values(), default=_FIRST[space] - 1) + 1 for space, table in self._tables.items()
        }
        self._fresh: dict[NumberSpace, dict[str, int]] = {}

    def identity(self, key: str) -> IdentityNumber:
        """See policy.delta.Numbering."""
        return IdentityNumber(self._number(NumberSpace.IDENTITY, key))

    def cidr(self, prefix: str) -> IdentityNumber:
        """See policy.delta.Numbering."""
        return IdentityNumber(self._number(NumberSpace.CIDR, prefix))

    def rule(self, key: str) -> RuleNumber:
        """See policy.delta.Numbering."""
        return RuleNumber(self._number(NumberSpace.RULE, key))

    def service(self, key: str) -> int:
        """See policy.delta.Numbering."""
        return self._number(NumberSpace.SERVICE, key)

    def keep(self, unit: Unit) -> None:
        """Write down what was given, inside ``write``, before anything says it."""
        for space, names in self._fresh.items():
            unit.numbers.add(space, names)
        self._fresh = {}

    def _number(self, space: NumberSpace, key: str) -> int:
        table = self._tables[space]
        if key not in table:
            table[key] = self._fresh.setdefault(space, {})[key] = self._next[space]
            self._next[space] += 1
        return table[key]


def _typed(table: Mapping[str, int], kind: Callable[[int], T]) -> dict[str, T]:
    return {name: kind(number) for name, number in table.items()}
