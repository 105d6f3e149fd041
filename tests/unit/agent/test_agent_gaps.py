"""The agent killed, libvirt away, the kernel altered by somebody: nothing closes, and all of it is told."""

from __future__ import annotations

import time

import msgspec
import pytest

from buckler.agent.assemble import Agent
from buckler.model.event import Event, EventKind
from buckler.ports.state import StateFailed
from tests.privatehost import wait_until
from tests.unit.agent.world import World


def test_the_agent_killed_and_started_again_adopts_and_never_closes(world: World):
    world.start(1)
    world.hypervisor.go_away()
    world.agent.stop()
    closed = []
    apply = world.guard.apply
    world.guard.apply = lambda state: (closed.append(state) if (11, "br0") not in state.ports else None, apply(state))[
        1
    ]
    world.agent = Agent(world.settings, world.drivers())
    world.agent.start()
    assert world.is_open(11)
    assert world.agent.steward.outcome.enforced == 0  # nothing is acknowledged before libvirt was asked
    world.hypervisor.come_back()
    wait_until(lambda: world.agent.steward.outcome.enforced == 1, 5)
    assert closed == []
    assert len(world.events(EventKind.GAP)) == 1


def test_drift_is_put_back_and_told_once(world: World):
    world.start(1)
    world.settle()
    before = world.guard.observe()
    world.guard.remove()
    world.shield.delete_tap(11)
    wait_until(lambda: world.guard.observe() == before and 11 in world.shield.taps(), 2)
    wait_until(lambda: EventKind.DRIFT_REPAIRED in world.kinds(), 2)
    world.settle()
    told = world.events(EventKind.DRIFT_REPAIRED)
    assert len(told) == 1
    assert "put-tap vnet1" in told[0]["differed"]


def test_libvirt_away_changes_nothing_and_is_one_gap(world: World):
    world.start(1)
    world.settle()
    world.hypervisor.go_away()
    time.sleep(0.2)
    assert world.is_open(11)
    world.hypervisor.come_back()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    world.settle()
    assert len(world.events(EventKind.GAP)) == 1
    assert world.is_open(11)


def test_a_gap_names_its_interval_its_cause_and_every_domain_that_changed_in_it(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    before = time.time()
    world.hypervisor.go_away()
    wait_until(lambda: world.agent.steward._parts.memory._blind_since > 0, 5)
    with world.hypervisor._lock:  # while nobody can watch: no event tells of it
        gone = world.hypervisor._domains.pop(uuid)
        world.hypervisor._domains["new"] = msgspec.structs.replace(gone, uuid="new")
    world.hypervisor.come_back()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = [event for event in world.state.pending(1000) if event.kind is EventKind.GAP]
    assert gap.cause == "libvirt was away"
    assert gap.detail["domains"] == {uuid: ["running", "absent"], "new": ["absent", "running"]}
    assert before <= gap.detail["since"] <= gap.detail["until"] <= time.time()
    assert gap.detail["taps_before"] == ["vnet1"]


def test_an_agent_that_died_tells_what_changed_until_it_was_back(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    seen = world.state.remembered()
    assert seen.domains == {uuid: "running"}
    world.agent.stop()
    world.hypervisor.stop(uuid)
    world.agent = world.boot()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = [event for event in world.state.pending(1000) if event.kind is EventKind.GAP]
    assert gap.cause == "the agent was not running"
    assert gap.detail["domains"] == {uuid: ["running", "shutoff"]}
    assert gap.detail["since"] == seen.at


def test_a_gap_that_could_not_be_told_before_a_second_death_is_told_by_the_third_life(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    world.agent.stop()
    since = world.state.remembered().at
    world.hypervisor.stop(uuid)
    world.hypervisor.go_away()
    for _ in range(2):  # it lives, and dies, without having seen anything
        world.agent = Agent(world.settings, world.drivers())
        world.agent.start()
        world.agent.stop()
        assert EventKind.GAP not in world.kinds()
    world.hypervisor.come_back()
    world.agent = world.boot()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = world.events(EventKind.GAP)
    assert gap["since"] == since
    assert gap["domains"] == {uuid: ["running", "shutoff"]}


def test_a_full_disk_keeps_no_change_of_policy_from_the_kernel_though_the_clock_is_doubted(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.start(1)
    world.settle()
    world.agent._timekeeper.hear(time.time() + 3600)
    with monkeypatch.context() as disk:

        def full(event: Event) -> Event:
            raise StateFailed("database or disk is full")

        disk.setattr(world.state, "record", full)
        world.shield.delete_tap(11)
        wait_until(lambda: 11 in world.shield.taps() and not world.shield.believes, 20)
        assert EventKind.CLOCK_DOUBTED not in world.kinds()
    wait_until(lambda: EventKind.CLOCK_DOUBTED in world.kinds(), 20)
