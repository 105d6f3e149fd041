"""Desired against actual: which keys to add, change and remove. Pure memory; knows no order, applies nothing.

desired?  actual?   equal?    then
--------  --------  --------  ---------------
yes       no        -         add
yes       yes       no        change
yes       yes       yes       nothing
no        yes       -         remove
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Delta(msgspec.Struct, Generic[K, V], frozen=True):
    """What turns ``actual`` into ``desired``. Keys in the order given by ``desired``, removals by ``actual``."""

    adds: dict[K, V]
    changes: dict[K, V]
    removes: tuple[K, ...]

    def __bool__(self) -> bool:
        return bool(self.adds or self.changes or self.removes)

    @property
    def puts(self) -> dict[K, V]:
        """Adds and changes together, for doors that do not tell them apart."""
        return {**self.adds, **self.changes}


_ABSENT = object()


def diff(desired: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """Compare two states. Equal states give an empty delta; applying it to ``actual`` gives ``desired``."""
    if desired == actual:  # nearly always, of tens of thousands
        return Delta({}, {}, ())
    differing = {key: value for key, value in desired.items() if actual.get(key, _ABSENT) != value}
    return Delta(
        adds={key: value for key, value in differing.items() if key not in actual},
        changes={key: value for key, value in differing.items() if key in actual},
        removes=tuple(key for key in actual if key not in desired),
    )
