"""One network's table with what stands alike in it: of a thousand endpoints that nothing tells apart, one says what holds for all.

Owns no stage and no object. Two endpoints are alike where identity, program and mode are one, and no state that is looked at
says anything of either by itself. A plan asks of an endpoint nothing else, so what it says of one it would say of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from buckler.model.bundle import Placed
from buckler.model.ids import Digest
from buckler.model.pool import ShieldMode
from buckler.policy.patch import Differences
from buckler.policy.pieces import BadPieces, Item

K = TypeVar("K")
_Kind = tuple[int, Digest, ShieldMode, bool]
"""What alike endpoints have in common; the last says whether they have addresses."""


class Reduced(msgspec.Struct, frozen=True):
    """A part of a network that stands for the whole. ``alike``: whom else an endpoint stands for, by its key."""

    keys: frozenset[str]
    alike: dict[str, tuple[str, ...]]

    def weights(self) -> dict[str, int]:
        """Say for how many each MAC counts."""
        return {key[2:]: 1 + len(others) for key, others in self.alike.items()}


class Table:
    """All items of one network, by kind; ``turn`` makes it that of another state."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._items: dict[str, Item] = {}
        self._endpoints: dict[_Kind, dict[str, None]] = {}
        self._visitors: dict[int, dict[str, None]] = {}
        self._always: dict[str, None] = {}
        self._owners: dict[str, set[str]] = {}
        for key, item in items.items():
            self._put(key, item)

    def turn(self, changes: Mapping[str, Item | None]) -> None:
        """Put items in, leave those out that are None."""
        for key, item in changes.items():
            if key in self._items:
                self._drop(key)
            if item is not None:
                self._put(key, item)

    def part(self, keys: Iterable[str], before: Differences | None = None) -> dict[str, Item]:
        """Give the items of keys here, or, by what differs there, in another state."""
        before = before or {}
        found = {key: before[key][0] if key in before else self._items.get(key) for key in keys}
        return {key: item for key, item in found.items() if item is not None}

    def placed(self, key: str) -> Placed:
        """Find an endpoint. Raises BadPieces."""
        item = self._items.get(key)
        if not isinstance(item, Placed):
            raise BadPieces("an item that is no endpoint")
        return item

    def reduce(self, states: Sequence[Differences], named: Iterable[str]) -> Reduced:
        """Choose what stands for the whole in this state and in ``states``, which differ from it so.

        ``named``: addresses of which a state says something by other means, outside the table.
        """
        apart = self._apart(states, named)
        keys = apart | self._always.keys()
        alike: dict[str, tuple[str, ...]] = {}
        for members in self._endpoints.values():
            rest = [key for key in members if key not in apart]
            if not rest:
                continue
            chosen = next((key for key in rest if self._is_plain(key)), None)
            if chosen is None:
                keys |= self._with_neighbours(rest, states)
            else:
                keys.add(chosen)
                alike[chosen] = tuple(key for key in rest if key != chosen)
        for visitors in self._visitors.values():
            keys.update([key for key in visitors if key not in apart][:1])
        alike = {key: tuple(each for each in others if each not in keys) for key, others in alike.items()}
        return Reduced(frozenset(keys), alike)

    def _apart(self, states: Sequence[Differences], named: Iterable[str]) -> set[str]:
        """What differs between states, and whatever has an address in common with it."""
        first = {key for key in self._always if key.startswith("c:")}.union(*states)
        for address in named:
            first |= self._owners.get(address, _NOBODY)
        return self._with_neighbours(first, states)

    def _with_neighbours(self, keys: Iterable[str], states: Sequence[Differences]) -> set[str]:
        found: set[str] = set()
        left = list(keys)
        while left:
            key = left.pop()
            if key in found:
                continue
            found.add(key)
            for address in self._addresses(key, states):
                left += self._owners.get(address, _NOBODY)
                if f"a:{address}" in self._items:
                    left.append(f"a:{address}")
        return found

    def _addresses(self, key: str, states: Sequence[Differences]) -> set[str]:
        if key.startswith(("a:", "c:")):
            return {key[2:].rpartition("/")[0] or key[2:]}
        items = [self._items.get(key), *(state[key][0] for state in states if key in state)]
        return {address for item in items if isinstance(item, Placed) for address in item.addresses}

    def _is_plain(self, key: str) -> bool:
        """Say whether nobody else has one of its addresses: it then means what its identity does."""
        return all(
            len(self._owners[address]) == 1 and f"a:{address}" not in self._items
            for address in self.placed(key).addresses
        )

    def _put(self, key: str, item: Item) -> None:
        self._items[key] = item
        if isinstance(item, Placed):
            self._endpoints.setdefault(_kind(item), {})[key] = None
            for address in set(item.addresses):
                self._owners.setdefault(address, set()).add(key)
        elif key.startswith("a:") and isinstance(item, int):
            self._visitors.setdefault(item, {})[key] = None
        else:
            self._always[key] = None

    def _drop(self, key: str) -> None:
        item = self._items.pop(key)
        if isinstance(item, Placed):
            _leave(self._endpoints, _kind(item), key)
            for address in set(item.addresses):
                self._owners[address].discard(key)
                if not self._owners[address]:
                    del self._owners[address]
        elif key.startswith("a:") and isinstance(item, int):
            _leave(self._visitors, item, key)
        else:
            del self._always[key]


_NOBODY: frozenset[str] = frozenset()


def _kind(placed: Placed) -> _Kind:
    return placed.identity, placed.program, placed.mode, bool(placed.addresses)


def _leave(groups: dict[K, dict[str, None]], kind: K, key: str) -> None:
    del groups[kind][key]
    if not groups[kind]:
        del groups[kind]
