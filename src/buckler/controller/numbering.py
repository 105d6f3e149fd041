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


def _typed(table: Mapping[str, int], kind: Callable[[int], T]) -> dict[str, T]:
    return {name: kind(number) for name, number in table.items()}
