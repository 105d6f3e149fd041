"""Which host may be told which stage now. Pure; the engine writes and signs what this says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.controller.rollout_state import Position, Rollout
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
    in_force = tuple(stage.bundle for stage in last)
    return msgspec.structs.replace(rollout, stages=last, positions=positions, in_force=in_force, is_done=True)


def moved(position: Position | None, index: int, revision: Revision, rest: str) -> Position:
    """The position after a manifest of ``revision`` was published."""
    since = position.since if position is not None and position.index == index else revision
    return Position(index=index, since=since, revision=revision, rest=rest)
