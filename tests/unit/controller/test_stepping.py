"""Which host is told which stage, and when a change is complete."""

from __future__ import annotations

import itertools

from buckler.controller.rollout_state import PlannedStage, Position, Rollout, StateName
from buckler.controller.stepping import (
    acknowledged_index,
    completed,
    forgotten,
    is_complete,
    moved,
    next_indexes,
    noted,
    told_all,
)
from buckler.model.agentapi import Acknowledgement
from buckler.model.bundle import Stage
from buckler.model.ids import Digest, HostId, Revision

A, B = HostId("a"), HostId("b")
STAGES = tuple(
    PlannedStage(stage, StateName(Digest(stage.value), Digest(stage.value)), waits)
    for stage, waits in ((Stage.CLOSE, False), (Stage.FLIP, False), (Stage.OPEN, True))
)


def rollout(**positions: tuple[int, int]) -> Rollout:
    held = {HostId(h): Position(index, Revision(since), Revision(since), "") for h, (index, since) in positions.items()}
    return Rollout(stages=STAGES, positions=held, is_done=False)


def acks(**revisions: int) -> dict[HostId, Acknowledgement]:
    return {HostId(host): Acknowledgement(Revision(revision), 0.0) for host, revision in revisions.items()}


def test_a_host_that_was_told_nothing_begins_with_the_first_stage() -> None:
    assert next_index(rollout(), A, (A, B), {}) == 0
    assert acknowledged_index(rollout(), A, acks(a=99)) == -1


def test_closing_needs_only_the_hosts_own_acknowledgement() -> None:
    state = rollout(a=(0, 5), b=(0, 5))
    assert next_index(state, A, (A, B), acks(a=4)) == 0
    assert next_index(state, A, (A, B), acks(a=5)) == 1


def test_opening_needs_everyones() -> None:
    state = rollout(a=(1, 6), b=(1, 6))
    assert next_index(state, A, (A, B), acks(a=6, b=5)) == 1
    assert next_index(state, A, (A, B), acks(a=6, b=6)) == 2


def test_a_host_that_joined_meanwhile_is_waited_for_too() -> None:
    state = rollout(a=(1, 6))
    assert next_index(state, A, (A, B), acks(a=6)) == 1


def test_telling_a_stage_again_does_not_ask_for_a_new_acknowledgement() -> None:
    again = moved(moved(None, 1, Revision(6), "x"), 1, Revision(9), "y")
    assert (again.since, again.revision) == (6, 9)
    assert moved(again, 2, Revision(10), "y").since == 10


def test_complete_only_when_everyone_proved_the_last_stage() -> None:
    state = rollout(a=(2, 8), b=(2, 8))
    assert not is_complete(state, (A, B), acks(a=8, b=7))
    assert is_complete(state, (A, B), acks(a=8, b=8))
    assert is_complete(state, (A,), acks(a=8))
    done = completed(state)
    assert done.is_done
    assert done.in_force == (STAGES[-1].wanted,)
    assert all(position.index == 0 for position in done.positions.values())
    assert next_index(done, A, (A, B), acks(a=8, b=8)) == 0


def test_no_order_of_acknowledgements_opens_anywhere_before_everyone_has_flipped() -> None:
    for order in itertools.permutations((A, A, A, B, B, B)):
        state, revision, heard = rollout(), 0, {}
        for host in (A, B):
            state = rollout_after(state, host, (revision := revision + 1), heard)
        for host in order:
            heard[host] = Acknowledgement(state.positions[host].revision, 0.0)
            for each in (A, B):
                state = rollout_after(state, each, (revision := revision + 1), heard)
            indexes = [state.positions[each].index for each in (A, B)]
            if max(indexes) == 2:
                assert all(acknowledged_index(state, each, heard) >= 1 for each in (A, B))


def rollout_after(state: Rollout, host: HostId, revision: int, heard: dict[HostId, Acknowledgement]) -> Rollout:
    index = next_index(state, host, (A, B), heard)
    position = state.positions.get(host)
    if position is not None and position.index == index:
        return state
    positions = {**state.positions, host: moved(position, index, Revision(revision), "")}
    return Rollout(stages=state.stages, positions=positions, is_done=False)


def next_index(state: Rollout, host: HostId, awaited: tuple[HostId, ...], heard: dict[HostId, Acknowledgement]) -> int:
    return next_indexes(state, [host], awaited, heard)[host]


def told(state: Rollout, host: HostId, wanted: StateName, revision: Revision) -> Rollout:
    return told_all(state, {host: wanted}, revision)


def taken(state: Rollout, host: HostId) -> Rollout:
    """The host's stream takes its newest order."""
    newest = max(each.revision for each in state.holdings[host])
    return noted(state, {host: newest})


def name(word: str, rule: str = "") -> StateName:
    return StateName(Digest(f"{word} {rule}"), Digest(word))


def words(state: Rollout) -> list[str]:
    return [each.state for each in state.in_force]


def test_a_host_that_is_away_adds_one_state_however_much_is_changed() -> None:
    state = Rollout()
    for host in (A, B):
        state = taken(told(state, host, name("first"), Revision(1)), host)
    state = forgotten(state, (A, B), acks(a=1, b=1))
    for revision in range(2, 30):
        for host in (A, B):
            state = told(state, host, name(f"state {revision}"), Revision(revision))
        state = forgotten(taken(state, A), (A, B), acks(a=revision, b=1))
        assert words(state) == ["first", f"state {revision}"]
    assert words(forgotten(state, (A,), acks(a=29, b=1))) == ["state 29"], "who is revoked is not waited for"


def test_what_a_stream_took_may_be_enforced_until_something_newer_is_proved() -> None:
    state = Rollout()
    for revision in (1, 2, 3):
        state = taken(told(state, A, name(f"state {revision}"), Revision(revision)), A)
    assert words(forgotten(state, (A,), {})) == ["state 1", "state 2", "state 3"]
    assert words(forgotten(state, (A,), acks(a=2))) == ["state 2", "state 3"]
    assert words(forgotten(state, (A,), acks(a=9))) == ["state 3"]


def test_equal_states_are_one_and_the_last_published_one_stays() -> None:
    state = Rollout()
    for revision, word, rule in ((1, "one", "r"), (2, "other", "r"), (3, "one", "renamed")):
        state = taken(told(state, A, name(word, rule), Revision(revision)), A)
    assert words(state) == ["other", "one"]
    assert state.in_force[-1].root == "one renamed"
    assert words(forgotten(state, (), {})) == ["one"]
