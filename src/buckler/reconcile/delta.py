"""Desired against actual: which keys to add, change and remove, in dependency order. Pure memory; applies nothing.

desired?  actual?   equal?    then
--------  --------  --------  ---------------
yes       no        -         add
yes       yes       no        change
yes       yes       yes       nothing
no        yes       -         remove
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Act(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


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


def diff(desired: Mapping[K, V], actual: Mapping[K, V]) -> Delta[K, V]:
    """Compare two states. Equal states give an empty delta; applying it to ``actual`` gives ``desired``."""
    return Delta(
        adds={key: value for key, value in desired.items() if key not in actual},
        changes={key: value for key, value in desired.items() if key in actual and actual[key] != value},
        removes=tuple(key for key in actual if key not in desired),
    )


class Layer(msgspec.Struct, frozen=True):
    """One kind of thing with its desired and actual state. Later layers may depend on earlier ones."""

    name: str
    desired: Mapping[Any, Any]
    actual: Mapping[Any, Any]


class Change(msgspec.Struct, frozen=True):
    """One thing to do. ``value`` is None for a removal."""

    layer: str
    act: Act
    key: Any
    value: Any = None


def plan_changes(layers: Sequence[Layer]) -> tuple[Change, ...]:
    """Put adds and changes in dependency order, then removals in reverse.

    So nothing is used before it is there, or gone while it is used.
    """
    deltas = [(layer.name, diff(layer.desired, layer.actual)) for layer in layers]
    changes: list[Change] = []
    for name, delta in deltas:
        changes += [Change(name, Act.ADD, key, value) for key, value in delta.adds.items()]
        changes += [Change(name, Act.CHANGE, key, value) for key, value in delta.changes.items()]
    for name, delta in reversed(deltas):
        changes += [Change(name, Act.REMOVE, key) for key in delta.removes]
    return tuple(changes)


class Tracker(Generic[K, V]):
    """Remembers desired and actual of one layer between observations, so that each pass costs what changed.

    ``desire`` and ``observe`` replace a whole state; ``applied`` notes changes that the world took.
    """

    def __init__(self) -> None:
        self._desired: dict[K, V] = {}
        self._actual: dict[K, V] = {}
        self._dirty: dict[K, None] = {}

    def desire(self, state: Mapping[K, V]) -> None:
        """Replace what is wanted."""
        self._mark(self._desired, state)
        self._desired = dict(state)

    def observe(self, state: Mapping[K, V]) -> None:
        """Replace what is believed to be there by what was read back."""
        self._mark(self._actual, state)
        self._actual = dict(state)

    def pending(self) -> Delta[K, V]:
        """Tell what is left to do."""
        dirty = list(self._dirty)
        return diff(
            {key: self._desired[key] for key in dirty if key in self._desired},
            {key: self._actual[key] for key in dirty if key in self._actual},
        )

    def applied(self, delta: Delta[K, V]) -> None:
        """Note what the world took, whole or in part; what is wanted may have changed meanwhile."""
        self._actual.update(delta.puts)
        for key in delta.removes:
            self._actual.pop(key, None)
        for key in (*delta.puts, *delta.removes):
            if self._is_settled(key):
                self._dirty.pop(key, None)
            else:
                self._dirty[key] = None

    def _is_settled(self, key: K) -> bool:
        if key in self._desired and key in self._actual:
            return self._desired[key] == self._actual[key]
        return key not in self._desired and key not in self._actual

    def _mark(self, before: Mapping[K, V], after: Mapping[K, V]) -> None:
        for key in _changed(before, after):
            self._dirty[key] = None


def _changed(before: Mapping[K, V], after: Mapping[K, V]) -> Iterator[K]:
    for key in {**before, **after}:
        if key not in before or key not in after or before[key] != after[key]:
            yield key
