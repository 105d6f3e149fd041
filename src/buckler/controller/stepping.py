"""Which host may be told which stage now. Pure; the engine writes and signs what this says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.controller.rollout_state import Holding, Position, Rollout, StateName
from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import HostId, Revision

Acks = Mapping[HostId, Acknowledgement]


def acknowledged_index(rollout: Rollout, host: HostId, acks: Acks) -> int:
    """The highest stage that the host's kernel proved to enforce; -1 for none."""
    position = rollout.positions.get(host)
    if position is None:
        return -1
    ack = acks.get(host)
    return position.index if ack is not None and ack.revision >= position.since else position.index - 1


def next_index(rollout: Rollout, host: HostId, awaited: Iterable[HostId], acks: Acks) -> int:
    """The stage that the host is to be told now: the one it has, or the one after."""
    position = rollout.positions.get(host)
    if position is None:
        return 0
    following = position.index + 1
    if following >= len(rollout.stages) or acknowledged_index(rollout, host, acks) < position.index:
        return position.index
    if rollout.stages[following].waits_for_all:
        everyone = all(acknowledged_index(rollout, each, acks) >= position.index for each in awaited)
        return following if everyone else position.index
    return following


def is_complete(rollout: Rollout, awaited: Iterable[HostId], acks: Acks) -> bool:
    """Say whether every awaited host proved to enforce the last stage."""
    last = len(rollout.stages) - 1
    return all(acknowledged_index(rollout, host, acks) >= last for host in awaited)


def completed(rollout: Rollout) -> Rollout:
    """The state after ``is_complete``: one stage is left, and nothing else is in force anywhere."""
    last = rollout.stages[-1:]
    positions = {host: msgspec.structs.replace(each, index=0) for host, each in rollout.positions.items()}
    in_force = tuple(stage.wanted for stage in last)
    return msgspec.structs.replace(rollout, stages=last, positions=positions, in_force=in_force, is_done=True)


def told(rollout: Rollout, host: HostId, state: StateName, revision: Revision) -> Rollout:
    """The state after a host was told a bundle: what it was told before and did not take, it will never hold."""
    before = rollout.holdings.get(host, ())
    if before and before[-1].state != state.state and not before[-1].is_taken:
        before = before[:-1]
    if not before or before[-1].state != state.state:
        before = (*before, Holding(revision, state.state))
    in_force = (*(each for each in rollout.in_force if each.state != state.state), state)
    return msgspec.structs.replace(rollout, holdings={**rollout.holdings, host: before}, in_force=in_force)


def taken(rollout: Rollout, host: HostId) -> Rollout:
    """The state after a host's stream took its newest manifest."""
    held = rollout.holdings.get(host, ())
    if not held or held[-1].is_taken:
        return rollout
    marked = (*held[:-1], msgspec.structs.replace(held[-1], is_taken=True))
    return msgspec.structs.replace(rollout, holdings={**rollout.holdings, host: marked})


def forgotten(rollout: Rollout, awaited: Iterable[HostId], acks: Acks) -> Rollout:
    """Drop the states that every awaited host has moved past; the last published one always stays."""
    holdings = {
        host: _ahead(rollout.holdings[host], acks.get(host)) for host in sorted(awaited) if host in rollout.holdings
    }
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
