"""What one state allows towards outside addresses, exactly, those with the same answer together. Owns no pair of VMs.

The world is cut wherever a prefix is named: in no part of it does an answer change.
"""

from __future__ import annotations

from collections.abc import Iterable

from buckler.model.ids import IDENTITY_ANY, IdentityNumber
from buckler.model.operatorapi.answers import Outside, PortRange
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction
from buckler.policy.compile import Resolved
from buckler.policy.party import WORLD
from buckler.policy.pool import Numbers
from buckler.policy.reach import Ends, Judge, allowed_by, shields
from buckler.policy.space import WHOLE, Range, outside_ranges, within, write_ranges
from buckler.policy.unpoliced import is_somewhere

Allowed = tuple[PortRange, ...]
There = str | Outside
"""Addresses outside: ``world`` (all of them), or prefixes."""


class Outsides:
    """One state's answers. ``room``: of these addresses alone."""

    def __init__(self, resolved: Resolved, judge: Judge, numbers: Numbers, room: tuple[Range, ...] = WHOLE) -> None:
        ranges = outside_ranges({prefix: numbers.cidrs[prefix] for prefix in resolved.prefixes})
        parts = [(number, kept) for number, found in ranges.items() if is_somewhere(kept := within(found, room))]
        self._ranges = [found for _, found in parts]
        self._answers = Answers(resolved, judge, tuple(number for number, _ in parts))
        self._words = Words(self._ranges, room)
        self._told: dict[int, tuple[tuple[Allowed, There], ...]] = {}

    def ranges(self, ends: Ends, direction: Direction) -> dict[Allowed, list[Range]]:
        """Give the addresses of each answer, nothing among them."""
        parts = _by_answer(self._answers.towards(ends, direction))
        return {allowed: [each for part in found for each in self._ranges[part]] for allowed, found in parts.items()}

    def named(self, ends: Ends, direction: Direction) -> tuple[tuple[Allowed, There], ...]:
        """Give each answer, nothing among them, and the addresses that it holds for."""
        row = self._answers.towards(ends, direction)
        if id(row) not in self._told:  # every row is kept: of equal ends it is the same
            found = sorted(_by_answer(row).items(), key=lambda item: min(self._ranges[part] for part in item[1]))
            self._told[id(row)] = tuple((allowed, self._words.of(where)) for allowed, where in found)
        return self._told[id(row)]


def _by_answer(row: tuple[Allowed, ...]) -> dict[Allowed, list[int]]:
    found: dict[Allowed, list[int]] = {}
    for part, allowed in enumerate(row):
        found.setdefault(allowed, []).append(part)
    return found


class Answers:
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
        """Give the answer for each part; equal rows are one object."""
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


class Words:
    """Names parts of the world, equal ones once: by what they are, or by what they are not where that is shorter."""

    def __init__(self, parts: list[tuple[Range, ...]], room: tuple[Range, ...] = WHOLE) -> None:
        self._parts = parts
        self._room = room
        self._known: dict[tuple[int, ...], There] = {}

    def of(self, where: Iterable[int]) -> There:
        """Name some parts together."""
        key = tuple(where)
        if key not in self._known:
            self._known[key] = self._named(set(where))
        return self._known[key]

    def _named(self, where: set[int]) -> There:
        families = {version for part in where for version, _, _ in self._parts[part]}
        inside, rest, elsewhere = (
            write_ranges(
                each
                for part, found in enumerate(self._parts)
                for each in found
                if (part in where, each[0] in families) in wanted
            )
            for wanted in ({(True, True)}, {(False, True)}, {(False, False)})
        )
        if not rest and not elsewhere and self._room == WHOLE:
            return WORLD
        whole = write_ranges(each for each in self._room if each[0] in families)
        return Outside(whole, rest) if rest and len(rest) < len(inside) else Outside(inside)
