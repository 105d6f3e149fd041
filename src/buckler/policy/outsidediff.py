"""Who gains or loses what towards addresses outside, by blocks that change alike, exactly. Owns no pair of VMs.

The world is cut wherever either state names a prefix: in no part of it does an answer of either state change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.ids import IDENTITY_WORLD, IdentityNumber
from buckler.model.program import Direction
from buckler.policy.compile import Resolved
from buckler.policy.outside import Allowed, Answers, There, Words
from buckler.policy.pool import Numbers
from buckler.policy.reach import Ends, Judge
from buckler.policy.space import longest_holders, outside_ranges
from buckler.policy.unpoliced import is_somewhere

Standing = tuple[Ends | None, Ends | None]
"""Where somebody stands before and after; None: not there."""


class OutsideChange(msgspec.Struct, frozen=True):
    """What changes between whoever stands there and addresses outside. ``there`` is ``world``: all of them, or ``host``: the gateway."""

    standing: Standing
    direction: Direction
    there: There
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
    parts = [(prefix_of.get(number, ""), found) for number, found in ranges.items() if is_somewhere(found)]
    words = Words([found for _, found in parts])
    before, after = (
        Answers(resolved, judge, _classes([prefix for prefix, _ in parts], named, resolved.prefixes, numbers))
        for resolved, judge in states
    )
    known: dict[tuple[int, int], list[tuple[There, Allowed, Allowed]]] = {}
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
