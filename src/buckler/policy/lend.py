"""Numbers for what has none yet, for answers about what is not made. Allocates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from buckler.model.ids import FIRST_CIDR_IDENTITY, FIRST_VM_IDENTITY, IdentityNumber, RuleNumber
from buckler.policy.identity import missing_numbers
from buckler.policy.language import Document
from buckler.policy.pool import Numbers, Pool


def lend_numbers(numbers: Numbers, pool: Pool, documents: tuple[Document, ...]) -> Numbers:
    """Number what has no number yet; what has one keeps it."""
    missing = missing_numbers(pool, documents, numbers)
    identities = _lent(numbers.identities, missing.identities, FIRST_VM_IDENTITY)
    cidrs = _lent(numbers.cidrs, missing.cidrs, FIRST_CIDR_IDENTITY)
    rules = _lent(numbers.rules, missing.rules, 1)
    return Numbers(
        identities={name: IdentityNumber(number) for name, number in identities.items()},
        cidrs={name: IdentityNumber(number) for name, number in cidrs.items()},
        rules={name: RuleNumber(number) for name, number in rules.items()},
        services=_lent(numbers.services, missing.services, 1),
    )


def _lent(table: Mapping[str, int], names: tuple[str, ...], first: int) -> dict[str, int]:
    start = max(table.values(), default=first - 1) + 1
    return {**table, **{name: start + place for place, name in enumerate(names)}}


class AskedNumbers(Mapping[str, RuleNumber]):
    """Asks for a number only when a table names the rule."""

    def __init__(self, ask: Callable[[str], RuleNumber]) -> None:
        self._ask = ask

    def __getitem__(self, key: str) -> RuleNumber:
        return self._ask(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
