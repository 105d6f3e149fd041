"""Which host may be told which stage now. Pure; the engine writes and signs what this says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

import msgspec

from buckler.controller.rollout_state import Holding, Position, Rollout, StateName
from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import Digest, HostId, Revision

Acks = Mapping[HostId, Acknowledgement]


class AcksAsked(Acks):
    """Acknowledgements that are read when the first is asked for: a change that just began has none."""

    def __init__(self, read: Callable[[], Acks]) -> None:
        self._read = cache(read)

    def __getitem__(self, host: HostId) -> Acknowledgement:
        return self._read()[host]

    def __iter__(self) -> Iterator[HostId]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def acknowledged_index(rollout: Rollout, host: HostId, acks: Acks) -> int:
    """The highest stage that the host's kernel proved to enforce; -1 for none."""
    position = rollout.positions.get(host)
    if position is None:
        return -1
    ack = acks.get(host)
    return position.index if ack is not None and ack.revision >= position.since else position.index - 1


def next_indexes(rollout: Rollout, hosts: Iterable[HostId], awaited: Iterable[HostId], acks: Acks) -> dict[HostId, int]:
    """The stage that each host is to be told now: the one it has, or the one after."""
    least = min((acknowledged_index(rollout, each, acks) for each in awaited), default=len(rollout.stages))
    return {host: _next_index(rollout, host, least, acks) for host in hosts}


def _next_index(rollout: Rollout, host: HostId, least: int, acks: Acks) -> int:
    """``least`` is what even the slowest awaited host has acknowledged."""
    position = rollout.positions.get(host)
    if position is None:
        return 0
    following = position.index + 1
    if following >= len(rollout.stages) or acknowledged_index(rollout, host, acks) < position.index:
        return position.index
    if rollout.stages[following].waits_for_all:
        return following if least >= position.index else position.index
    return following


def is_complete(rollout: Rollout, awaited: Iterable[HostId], acks: Acks) -> bool:
    """Say whether every awaited host proved to enforce the last stage."""
    last, hosts = len(rollout.stages) - 1, tuple(awaited)
    if any(host not in rollout.positions or rollout.positions[host].index < last for host in hosts):
        return False
    return all(acknowledged_index(rollout, host, acks) >= last for host in hosts)


def completed(rollout: Rollout) -> Rollout:
    """The state after ``is_complete``: one stage is left, and nothing else is in force anywhere."""
    last = rollout.stages[-1:]
    positions = {host: msgspec.structs.replace(each, index=0) for host, each in rollout.positions.items()}
    in_force = tuple(stage.wanted for stage in last)
    return msgspec.structs.replace(rollout, stages=last, positions=positions, in_force=in_force, is_done=True)


def told_all(rollout: Rollout, states: Mapping[HostId, StateName], revision: Revision) -> Rollout:
    """The state after hosts were told states: what one was told before and did not take, it will never hold.

    A stage stays where it is in its plan, whoever is told it once more: what others flipped, the next plan must not undo.
    """
    holdings, in_force = dict(rollout.holdings), {each.state: each for each in rollout.in_force}
    fresh: dict[Digest, Holding] = {}
    for host, state in states.items():
        before = holdings.get(host, ())
        if before and before[-1].state != state.state and not before[-1].is_taken:
            before = before[:-1]
        if not before or before[-1].state != state.state:
            before = (*before, fresh.get(state.state) or fresh.setdefault(state.state, Holding(revision, state.state)))
        holdings[host] = before
        in_force.pop(state.state, None)
        in_force[state.state] = state
    places = {stage.wanted.state: place for place, stage in enumerate(rollout.stages)}
    ordered = sorted(in_force.values(), key=lambda each: places.get(each.state, -1))
    return msgspec.structs.replace(rollout, holdings=holdings, in_force=tuple(ordered))


def not_taken(rollout: Rollout) -> Revision | None:
    """The oldest revision whose taking would be news (``noted``); None: every host took what it was told last."""
    waiting = [every[-1].revision for every in rollout.holdings.values() if every and not every[-1].is_taken]
    return min(waiting, default=None)


def noted(rollout: Rollout, taken: Mapping[HostId, Revision]) -> Rollout:
    """The state once it is known what streams took. A stream takes the newest order alone, so a holding since then is its."""
    news: dict[HostId, tuple[Holding, ...]] = {}
    for host, revision in taken.items():
        held = rollout.holdings.get(host, ())
        if _taken(held, revision) != held:
            news[host] = _taken(held, revision)
    return msgspec.structs.replace(rollout, holdings={**rollout.holdings, **news}) if news else rollout


def _taken(held: tuple[Holding, ...], revision: Revision) -> tuple[Holding, ...]:
    if not held or held[-1].is_taken or revision < held[-1].revision:
        return held
    return (*held[:-1], msgspec.structs.replace(held[-1], is_taken=True))


def forgotten(rollout: Rollout, awaited: Iterable[HostId], acks: Acks) -> Rollout:
    """Drop the states that every awaited host has moved past; the last published one always stays."""
    holdings: dict[HostId, tuple[Holding, ...]] = {}
    for host in sorted(rollout.holdings.keys() & awaited):
        every = rollout.holdings[host]
        holdings[host] = _ahead(every, acks.get(host)) if len(every) > 1 else every
    held = {each.state for every in holdings.values() for each in every}
    in_force = tuple(each for each in rollout.in_force[:-1] if each.state in held) + rollout.in_force[-1:]
    return msgspec.structs.replace(rollout, holdings=holdings, in_force=in_force)


def _ahead(held: tuple[Holding, ...], ack: Acknowledgement | None) -> tuple[Holding, ...]:
    """Return the newest state that the host proved, and what came after."""
    proved = [at for at, each in enumerate(held) if ack is not None and each.is_taken and each.revision <= ack.revision]
    return held[proved[-1] :] if proved else held


def moved(position: Position | None, index: int, revision: Revision, rest: str) -> Position:
    """The position after a manifest of ``revision`` was published."""
    since = position.since if position is not None and position.index == index else revision
    return Position(index=index, since=since, revision=revision, rest=rest)
