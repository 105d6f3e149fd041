"""Gives numbers to identities, prefixes and rules that have none yet. Never takes one back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from buckler.model.ids import FIRST_CIDR_IDENTITY, FIRST_VM_IDENTITY, IdentityNumber, RuleNumber
from buckler.policy.identity import missing_numbers
from buckler.policy.language import Document
from buckler.policy.pool import Numbers, Pool
from buckler.ports.records import NumberSpace
from buckler.ports.store import Unit

T = TypeVar("T")
_FIRST = {
    NumberSpace.IDENTITY: FIRST_VM_IDENTITY,
    NumberSpace.CIDR: FIRST_CIDR_IDENTITY,
    NumberSpace.RULE: 1,
}


def read_numbers(unit: Unit) -> Numbers:
    """All numbers that policy works with."""
    return Numbers(
        identities=_typed(unit.numbers.table(NumberSpace.IDENTITY), IdentityNumber),
        cidrs=_typed(unit.numbers.table(NumberSpace.CIDR), IdentityNumber),
        rules=_typed(unit.numbers.table(NumberSpace.RULE), RuleNumber),
    )


def allocate_numbers(unit: Unit, pool: Pool, documents: tuple[Document, ...]) -> Numbers:
    """Allocate what is missing, inside ``write``; return the whole set."""
    missing = missing_numbers(pool, documents, read_numbers(unit))
    wanted = {
        NumberSpace.IDENTITY: missing.identities,
        NumberSpace.CIDR: missing.cidrs,
        NumberSpace.RULE: missing.rules,
    }
    for space, names in wanted.items():
        if names:
            first = max(unit.numbers.table(space).values(), default=_FIRST[space] - 1) + 1
            unit.numbers.add(space, {name: first + place for place, name in enumerate(names)})
    return read_numbers(unit)


def lend_numbers(numbers: Numbers, pool: Pool, documents: tuple[Document, ...]) -> Numbers:
    """Number what has no number yet without allocating: for answers about changes that are not made."""
    missing = missing_numbers(pool, documents, numbers)
    return Numbers(
        identities=_typed(_lent(numbers.identities, missing.identities, FIRST_VM_IDENTITY), IdentityNumber),
        cidrs=_typed(_lent(numbers.cidrs, missing.cidrs, FIRST_CIDR_IDENTITY), IdentityNumber),
        rules=_typed(_lent(numbers.rules, missing.rules, 1), RuleNumber),
    )


def _lent(table: Mapping[str, int], names: tuple[str, ...], first: int) -> dict[str, int]:
    start = max(table.values(), default=first - 1) + 1
    return {**table, **{name: start + place for place, name in enumerate(names)}}


def _typed(table: Mapping[str, int], kind: Callable[[int], T]) -> dict[str, T]:
    return {name: kind(number) for name, number in table.items()}
