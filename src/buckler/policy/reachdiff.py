"""Who gains or loses what between two states of a pool, by groups of VMs with equal answers. Owns no words for documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.ids import IDENTITY_WORLD, IdentityNumber
from buckler.model.operatorapi.answers import PortRange
from buckler.model.operatorapi.documents import ReachChange, ReachCount
from buckler.model.program import Direction
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.lend import lend_numbers
from buckler.policy.reach import WORLD, Ends, Judge, endpoint_key, list_ends, shields, words_of

LISTED = 10_000
"""Pairs in a list; all are counted."""
COMPARED = 2_000_000
"""Pairs of groups that are compared at most: beyond, the answer says that it is not complete."""
_Key = tuple[str, str, str]
_Standing = tuple[Ends | None, Ends | None]
"""Where somebody stands before and after; None: not there. The world stands nowhere."""
_WORLD: _Key = ("", "", WORLD)


class ReachDelta(msgspec.Struct, frozen=True):
    """The first pairs that differ, and the count of all."""

    pairs: tuple[ReachChange, ...]
    count: ReachCount


class _State(msgspec.Struct, frozen=True):
    """One of the two states: who stands where, and the judge of it."""

    resolved: Resolved
    judge: Judge
    ends: dict[_Key, Ends]


def diff_reach(before: Draft, after: Draft, *, listed: int = LISTED, compared: int = COMPARED) -> ReachDelta:
    """Compare what may be sent between all pairs of VMs, endpoints and the world. Both get common numbers."""
    numbers = lend_numbers(before.numbers, before.pool, before.documents)
    numbers = lend_numbers(numbers, after.pool, after.documents)
    states = tuple(_state(msgspec.structs.replace(each, numbers=numbers)) for each in (before, after))
    old, new = states
    names = _names({*old.ends, *new.ends})
    groups: dict[_Standing, list[_Key]] = {}
    for key in sorted({*old.ends, *new.ends}):
        groups.setdefault((old.ends.get(key), new.ends.get(key)), []).append(key)
    moved = {place for place in groups if place[0] != place[1] or _differs(old, new, place[0] or ())}
    return _collected(_walk(old, new, groups, moved, compared), groups, names, listed)


_Difference = tuple[_Standing | None, _Standing | None, tuple[PortRange, ...], tuple[PortRange, ...]]


def _walk(
    old: _State, new: _State, groups: dict[_Standing, list[_Key]], moved: set[_Standing], compared: int
) -> Iterator[_Difference | None]:
    """Give every pair of groups whose answer differs; None when there were too many to look at."""
    places: tuple[_Standing | None, ...] = (*groups, None)
    seen = 0
    for origin in places:
        for to in places if origin in moved else (*moved,):
            seen += 1
            if seen > compared:
                yield None
                return
            was, becomes = (_allowed(state, origin, to, at) for at, state in enumerate((old, new)))
            if was != becomes:
                yield origin, to, was, becomes


def _collected(
    found: Iterable[_Difference | None],
    groups: dict[_Standing, list[_Key]],
    names: dict[_Key, str],
    listed: int,
) -> ReachDelta:
    pairs: list[ReachChange] = []
    changed = gaining = losing = 0
    complete = True
    for each in found:
        if each is None:
            complete = False
            break
        origin, to, was, becomes = each
        senders = [_WORLD] if origin is None else groups[origin]
        receivers = [_WORLD] if to is None else groups[to]
        count = len(senders) * len(receivers) - (len(senders) if origin == to else 0)
        changed += count
        gaining += count if not covers(was, becomes) else 0
        losing += count if not covers(becomes, was) else 0
        both = ((one, other) for one in senders for other in receivers if one != other)
        for one, other in both if len(pairs) < listed else ():
            pairs.append(ReachChange(names[one], names[other], words_of(was), words_of(becomes)))
            if len(pairs) >= listed:
                break
    ordered = tuple(sorted(pairs, key=lambda pair: (pair.origin, pair.to)))
    return ReachDelta(ordered, ReachCount(changed, gaining, losing, complete))


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
    return _State(resolved, Judge(resolved), {keys[key]: each for key, each in ends.items()})


def _allowed(state: _State, origin: _Standing | None, to: _Standing | None, at: int) -> tuple[PortRange, ...]:
    """Give what may be sent in one of the states; nobody sends or receives where they are not."""
    one, other = (None if each is None else each[at] for each in (origin, to))
    if (origin is not None and one is None) or (to is not None and other is None):
        return ()
    if one is not None and other is not None:
        return state.judge.between(one, other)
    here = one if one is not None else other
    if here is None or not shields(here):
        return ()
    direction = Direction.EGRESS if one is not None else Direction.INGRESS
    return state.judge.with_class(here, IDENTITY_WORLD, direction)


def _differs(old: _State, new: _State, ends: Ends) -> bool:
    """Say whether any shield there has another program. An endpoint has none: the other end tells."""
    return any(mode is not None and _program(old, number) != _program(new, number) for _, number, mode in ends)


def _program(state: _State, number: IdentityNumber) -> object:
    return state.resolved.programs.get(number)


def _names(keys: set[_Key]) -> dict[_Key, str]:
    """Name each thing by its name, or by tenant and name where the name alone is not one thing's."""
    count = Counter(name for _, _, name in {*keys, _WORLD})
    return {
        (kind, tenant, name): name if count[name] == 1 or not kind else f"{tenant}/{name}"
        for kind, tenant, name in {*keys, _WORLD}
    }
