"""Who gains or loses what between two states of a pool, by groups of VMs with equal answers. Owns no words for documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.ids import IDENTITY_HOST, IdentityNumber, Zone
from buckler.model.operatorapi.answers import Outside, PortRange
from buckler.model.operatorapi.documents import ReachChange, ReachCount
from buckler.model.program import Direction
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.lend import lend_numbers
from buckler.policy.outsidediff import OutsideChange, Standing, outside_changes
from buckler.policy.party import HOST, WORLD, endpoint_key
from buckler.policy.reach import Ends, Judge, list_ends, shields, words_of

LISTED = 10_000
"""Pairs in a list, one with many prefixes for as many; all are counted."""
COMPARED = 2_000_000
"""Pairs of groups that are compared at most: beyond, the answer says that it is not complete."""
_Key = tuple[str, str, str]


class ReachDelta(msgspec.Struct, frozen=True):
    """The first pairs that differ, and the count of all."""

    pairs: tuple[ReachChange, ...]
    count: ReachCount


class _State(msgspec.Struct, frozen=True):
    """One of the two states: who stands where, and the judge of it."""

    resolved: Resolved
    judge: Judge
    ends: dict[_Key, Ends]
    served: frozenset[Zone]
    """Networks of which the host has the gateway."""


def diff_reach(before: Draft, after: Draft, *, listed: int = LISTED, compared: int = COMPARED) -> ReachDelta:
    """Compare what may be sent between all pairs of VMs and endpoints, and of each with the host and outside. Both get common numbers."""
    numbers = lend_numbers(before.numbers, before.pool, before.documents)
    numbers = lend_numbers(numbers, after.pool, after.documents)
    states = tuple(_state(msgspec.structs.replace(each, numbers=numbers)) for each in (before, after))
    old, new = states
    names = _names({*old.ends, *new.ends})
    groups: dict[Standing, list[_Key]] = {}
    for key in sorted({*old.ends, *new.ends}):
        groups.setdefault((old.ends.get(key), new.ends.get(key)), []).append(key)
    moved = {place for place in groups if place[0] != place[1] or _differs(old, new, place[0] or ())}
    outside = outside_changes(((old.resolved, old.judge), (new.resolved, new.judge)), groups, numbers)
    collected = _Collected(groups, names, listed)
    for change in (*outside, *_host_changes(old, new, groups)):
        collected.take_outside(change)
    for pair in _walk(old, new, groups, moved, compared):
        collected.take_pair(pair)
    return collected.told()


def _host_changes(old: _State, new: _State, standings: Iterable[Standing]) -> Iterator[OutsideChange]:
    for standing in standings:
        for direction in Direction:
            was, becomes = (_with_host(state, standing[at], direction) for at, state in enumerate((old, new)))
            if was != becomes:
                yield OutsideChange(standing, direction, HOST, was, becomes)


def _with_host(state: _State, ends: Ends | None, direction: Direction) -> tuple[PortRange, ...]:
    mine = ends if ends is not None and shields(ends) else ()
    served = tuple(end for end in mine if end[0] in state.served)
    return state.judge.with_class(served, IDENTITY_HOST, direction)


_Difference = tuple[Standing, Standing, tuple[PortRange, ...], tuple[PortRange, ...]]


def _walk(
    old: _State, new: _State, groups: dict[Standing, list[_Key]], moved: set[Standing], compared: int
) -> Iterator[_Difference | None]:
    """Give every pair of groups whose answer differs; None when there were too many to look at."""
    seen = 0
    for origin in groups:
        for to in groups if origin in moved else (*moved,):
            seen += 1
            if seen > compared:
                yield None
                return
            was, becomes = (_allowed(state, origin, to, at) for at, state in enumerate((old, new)))
            if was != becomes:
                yield origin, to, was, becomes


class _Collected:
    """The first pairs and the count of all. What is outside comes first: no crowd of VMs hides it."""

    def __init__(self, groups: dict[Standing, list[_Key]], names: dict[_Key, str], listed: int) -> None:
        self._groups = groups
        self._names = names
        self._room = listed
        self._pairs: list[ReachChange] = []
        self._changed = self._gaining = self._losing = 0
        self._complete = True

    def take_outside(self, change: OutsideChange) -> None:
        """Take what changes between some and addresses outside, or the host."""
        mine = self._groups[change.standing]
        there = change.there
        self._count(len(mine), change.before, change.after)
        sends = change.direction is Direction.EGRESS
        ends = ((self._names[key], there) if sends else (there, self._names[key]) for key in mine)
        self._list(ends, change.before, change.after, _weight(there))

    def take_pair(self, difference: _Difference | None) -> None:
        """Take what changes between two groups; None: the rest was not compared."""
        if difference is None:
            self._complete = False
            return
        origin, to, was, becomes = difference
        senders, receivers = self._groups[origin], self._groups[to]
        self._count(len(senders) * len(receivers) - (len(senders) if origin == to else 0), was, becomes)
        names = self._names
        both = ((names[one], names[other]) for one in senders for other in receivers if one != other)
        self._list(both, was, becomes, 1)

    def told(self) -> ReachDelta:
        """Give the pairs in the order of their names."""
        ordered = tuple(sorted(self._pairs, key=lambda pair: (_order(pair.origin), _order(pair.to))))
        return ReachDelta(ordered, ReachCount(self._changed, self._gaining, self._losing, self._complete))

    def _count(self, count: int, was: tuple[PortRange, ...], becomes: tuple[PortRange, ...]) -> None:
        self._changed += count
        self._gaining += count if not covers(was, becomes) else 0
        self._losing += count if not covers(becomes, was) else 0

    def _list(
        self,
        ends: Iterable[tuple[str | Outside, str | Outside]],
        was: tuple[PortRange, ...],
        becomes: tuple[PortRange, ...],
        weight: int,
    ) -> None:
        if self._room <= 0:
            return
        before, after = words_of(was), words_of(becomes)
        for origin, to in ends:
            self._pairs.append(ReachChange(origin, to, before, after))
            self._room -= weight
            if self._room <= 0:
                break


def _weight(there: str | Outside) -> int:
    return len(there.blocks) + len(there.excluded) if isinstance(there, Outside) else 1


def _order(end: str | Outside) -> tuple[bool, str, tuple[str, ...]]:
    """Names first, then addresses."""
    return (True, "", end.blocks + end.excluded) if isinstance(end, Outside) else (False, end, ())


def covers(more: tuple[PortRange, ...], less: tuple[PortRange, ...]) -> bool:
    """Say whether ``more`` holds everything that is in ``less``. Ranges are joined as far as they can be."""
    if PortRange("any") in more:
        return True
    return all(
        any(big.protocol == each.protocol and big.port <= each.port and each.end_port <= big.end_port for big in more)
        for each in less
    )


def _state(draft: Draft) -> _State:
    resolved = resolve_pool(draft.pool, draft.documents, draft.numbers)
    keys = {str(vm.id): ("VM", vm.tenant, vm.name) for vm in draft.pool.vms}
    keys |= {endpoint_key(each): ("Endpoint", each.tenant, each.name) for each in draft.pool.outsiders}
    ends = list_ends(draft.pool, draft.documents, draft.numbers)
    served = frozenset(each.zone for each in draft.pool.networks if each.gateway)
    return _State(resolved, Judge(resolved), {keys[key]: each for key, each in ends.items()}, served)


def _allowed(state: _State, origin: Standing, to: Standing, at: int) -> tuple[PortRange, ...]:
    """Give what may be sent in one of the states; nobody sends or receives where they are not."""
    one, other = origin[at], to[at]
    return () if one is None or other is None else state.judge.between(one, other)


def _differs(old: _State, new: _State, ends: Ends) -> bool:
    """Say whether any shield there has another program. An endpoint has none: the other end tells."""
    return any(mode is not None and _program(old, number) != _program(new, number) for _, number, mode in ends)


def _program(state: _State, number: IdentityNumber) -> object:
    return state.resolved.programs.get(number)


def _names(keys: set[_Key]) -> dict[_Key, str]:
    """Name each thing by its name, or by tenant and name where the name alone is not one thing's."""
    count = Counter([*(name for _, _, name in keys), HOST, WORLD])
    return {(kind, tenant, name): name if count[name] == 1 else f"{tenant}/{name}" for kind, tenant, name in keys}
