"""Who gains or loses what towards addresses outside, by blocks that change alike, exactly. Owns no pair of VMs.

The world is cut wherever either state names a prefix: in no part of it does an answer of either state change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.ids import IDENTITY_ANY, IDENTITY_WORLD, IdentityNumber
from buckler.model.operatorapi.answers import PortRange
from buckler.model.operatorapi.documents import Outside
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction
from buckler.policy.compile import Resolved
from buckler.policy.pool import Numbers
from buckler.policy.reach import WORLD, Ends, Judge, allowed_by, shields
from buckler.policy.space import WHOLE, Range, longest_holders, outside_ranges, write_ranges

Allowed = tuple[PortRange, ...]
Standing = tuple[Ends | None, Ends | None]
"""Where somebody stands before and after; None: not there."""


class OutsideChange(msgspec.Struct, frozen=True):
    """What changes between whoever stands there and addresses outside. ``there`` is ``world``: all of them."""

    standing: Standing
    direction: Direction
    there: str | Outside
    before: Allowed
    after: Allowed


def outside_changes(
    states: tuple[tuple[Resolved, Judge], tuple[Resolved, Judge]], standings: Iterable[Standing], numbers: Numbers
) -> Iterator[OutsideChange]:
    """Give every change, those of one standing together. ``numbers`` are common to both states."""
    (old, _), (new, _) = states
    named = {*old.prefixes, *new.prefixes}
    ranges = outside_ranges({prefix: numbers.cidrs[prefix] for prefix in named})
    prefix_of = {numbers.cidrs[prefix]: prefix for prefix in named}
    parts = [(prefix_of.get(number, ""), found) for number, found in ranges.items() if found]
    words = _Words([found for _, found in parts])
    before, after = (
        _Answers(resolved, judge, _classes([prefix for prefix, _ in parts], named, resolved.prefixes, numbers))
        for resolved, judge in states
    )
    known: dict[tuple[int, int], list[tuple[str | Outside, Allowed, Allowed]]] = {}
    for standing in standings:
        for direction in Direction:
            was, becomes = before.towards(standing[0], direction), after.towards(standing[1], direction)
            key = id(was), id(becomes)  # both are kept: of equal rows they are the same
            if key not in known:
                known[key] = [(words.of(where), *change) for change, where in _changing(was, becomes).items()]
            for there, one, other in known[key]:
                yield OutsideChange(standing, direction, there, one, other)


def _classes(
    parts: Iterable[str], named: set[str], present: tuple[str, ...], numbers: Numbers
) -> tuple[IdentityNumber, ...]:
    """Give the class of each part in a state: that of the longest prefix that this state names."""
    holders = longest_holders(named, frozenset(present))
    return tuple(numbers.cidrs[holders[part]] if holders.get(part) else IDENTITY_WORLD for part in parts)


def _changing(was: tuple[Allowed, ...], becomes: tuple[Allowed, ...]) -> dict[tuple[Allowed, Allowed], list[int]]:
    found: dict[tuple[Allowed, Allowed], list[int]] = {}
    for part, change in enumerate(zip(was, becomes, strict=True)):
        if change[0] != change[1]:
            found.setdefault(change, []).append(part)
    return found


class _Answers:
    """What one state allows towards each part of the world: worked out once for all whom the same rows bind."""

    def __init__(self, resolved: Resolved, judge: Judge, classes: tuple[IdentityNumber, ...]) -> None:
        self._resolved = resolved
        self._judge = judge
        self._classes = classes
        self._keys = {side: {(number, side) for number in classes} for side in Direction}
        self._parts: dict[IdentityNumber, list[int]] = {}
        for part, number in enumerate(classes):
            self._parts.setdefault(number, []).append(part)
        self._nothing: tuple[Allowed, ...] = ((),) * len(classes)
        self._rows: dict[tuple[Direction, frozenset[int]], tuple[Allowed, ...]] = {}
        self._allowed: dict[tuple[int, ...], Allowed] = {}

    def towards(self, ends: Ends | None, direction: Direction) -> tuple[Allowed, ...]:
        if ends is None or not shields(ends):
            return self._nothing
        programs = self._resolved.programs
        bound = {id(programs[number]) if mode is ShieldMode.ENFORCE else 0 for _, number, mode in ends}
        key = direction, frozenset(bound)
        if key not in self._rows:
            row = [self._towards(ends, IDENTITY_ANY, direction)] * len(self._classes)
            for number in self._named(ends, direction):
                allowed = self._towards(ends, number, direction)
                for part in self._parts[number]:
                    row[part] = allowed
            self._rows[key] = tuple(row)
        return self._rows[key]

    def _named(self, ends: Ends, direction: Direction) -> set[IdentityNumber]:
        """Give the classes towards which some table differs from the one towards everyone."""
        keys = self._keys[direction]
        bound = [self._resolved.programs[number] for _, number, mode in ends if mode is ShieldMode.ENFORCE]
        return {number for program in bound for number, _ in program.peers.keys() & keys}

    def _towards(self, ends: Ends, number: IdentityNumber, direction: Direction) -> Allowed:
        tables = self._judge.sides(ends, number, direction)
        key = tuple(map(id, tables))  # what is resolved keeps them all
        if key not in self._allowed:
            self._allowed[key] = allowed_by(tables)
        return self._allowed[key]


class _Words:
    """Names parts of the world, equal ones once: by what they are, or by what they are not where that is shorter."""

    def __init__(self, parts: list[tuple[Range, ...]]) -> None:
        self._parts = parts
        self._known: dict[tuple[int, ...], str | Outside] = {}

    def of(self, where: list[int]) -> str | Outside:
        key = tuple(where)
        if key not in self._known:
            self._known[key] = self._named(set(where))
        return self._known[key]

    def _named(self, where: set[int]) -> str | Outside:
        inside, rest = (
            write_ranges(each for part, found in enumerate(self._parts) if (part in where) is wanted for each in found)
            for wanted in (True, False)
        )
        if not rest:
            return WORLD
        return Outside(write_ranges(WHOLE), rest) if len(rest) < len(inside) else Outside(inside)
