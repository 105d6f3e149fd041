"""Every observed event stands in the ledger once, whatever dies, is replayed or forged on the way."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from buckler.client.agentside import ControllerRefused
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.agentapi import EventBatch
from buckler.model.event import Event, EventKind
from buckler.ports.state import Membership

from .conftest import Agent, ControllerProcess, wait_for
from .ledgerhost import harmed, truncate
from .test_controller_life import events, ledger


def joined(agent: Agent, controller: ControllerProcess, folder: Path) -> None:
    """Give the agent's key and membership to a state on disk."""
    folder.mkdir(mode=0o700)
    (folder / "host.key").write_bytes(agent.key.private_bytes_raw())
    answer = agent.answer
    state = SqliteState(folder)
    state.put_membership(
        Membership("test", answer.host, agent.name, (controller.url,), answer.root_key, answer.ca_certificate)
    )
    state.close()


@contextlib.contextmanager
def telling(folder: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.component.controller.telling", str(folder), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_every_recorded_event_is_in_the_ledger_once_however_often_agent_and_controller_are_killed(
    controller: ControllerProcess, agents: list[Agent], tmp_path: Path
) -> None:
    plenty, chance = 300, random.Random(5)
    folder = tmp_path / "host"
    joined(agents[0], controller, folder)
    state = SqliteState(folder)

    def told() -> int:
        return int(state.document("told") or 0)

    for turn in range(6):
        deadly = told() + chance.randrange(20, 100)
        with telling(folder, deadly + plenty):
            wait_for("it has told some", lambda deadly=deadly: told() >= deadly, 60)
            if (
                turn % 2
            ):  # the controller takes its time to start; a host that has told all by then still has it to hand over
                controller.kill()
                time.sleep(chance.random() / 2)
                controller.start()
    count = told() + 100
    with telling(folder, count):
        wait_for("all is told", lambda: told() == count and not state.pending(1), 100)
    state.close()
    result, entries = ledger(controller)
    assert result.is_intact, result.findings
    mine = [entry for entry in entries if entry.host == agents[0].host and entry.kind == "domain.started"]
    assert [entry.origin for entry in mine] == list(range(1, len(mine) + 1)), "in order, none twice, none left out"
    numbers = [entry.detail["number"] for entry in mine]
    assert numbers == sorted(set(numbers))
    # A death between noting a number and recording it leaves it out: at most one for each of the six.
    assert count - 6 <= len(numbers) <= count


def test_replayed_reordered_and_forged_batches_change_nothing(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    mine, other = agents
    first, second = events(1, 20), events(21, 40)
    mine.client.send_events(first)
    before = len(ledger(controller)[1])
    assert mine.client.send_events(first).through == 20
    shuffled = EventBatch(tuple(random.Random(1).sample(first.events, len(first.events))))
    assert mine.client.send_events(shuffled).through == 20
    assert len(ledger(controller)[1]) == before
    # A batch out of order is refused whole: not even its beginning is kept.
    for wrong in ((*second.events[1:], second.events[0]), (second.events[0], *second.events[2:]), second.events[::-1]):
        with pytest.raises(ControllerRefused) as refused:
            mine.client.send_events(EventBatch(wrong))
        assert refused.value.status == 409
        assert len(ledger(controller)[1]) == before
    # Another host that names this one in its events is recorded as itself.
    forged = EventBatch(
        tuple(msgspec.structs.replace(event, host=mine.host, sequence=event.sequence - 20) for event in second.events)
    )
    other.client.send_events(forged)
    assert mine.client.send_events(second).through == 40
    entries = ledger(controller)[1]
    told = {
        host: [entry.origin for entry in entries if entry.host == host and entry.kind == "domain.started"]
        for host in (mine.host, other.host)
    }
    assert told == {mine.host: list(range(1, 41)), other.host: list(range(1, 21))}


def test_what_a_host_nests_too_deeply_or_counts_too_high_is_refused_or_text(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    deep: object = 0
    for _ in range(60):
        deep = [deep]
    agent = agents[0]
    with pytest.raises(ControllerRefused) as refused:
        agent.client.send_events(EventBatch((Event(EventKind.GAP, 1.0, sequence=1, detail={"deep": deep}),)))
    assert refused.value.status in (400, 413)
    bottomless = (
        b'{"events": [{"kind": "gap", "at": 1, "sequence": 1, "detail": {"a": '
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}}]}"
    )
    answer = agent.client._http.post("/agent/v1/events", content=bottomless, headers=agent.client._bearer())
    assert answer.status_code == 400
    odd = {"n": 2**63 + 1, "f": 1e300, "z": -0.0, "t": "\x00\ud7ff\U0001f600", "k\x00": None}
    assert agent.client.send_events(EventBatch((Event(EventKind.GAP, 1.0, sequence=1, detail=odd),))).through == 1
    result, entries = ledger(controller)
    assert result.is_intact
    assert entries[-1].detail == {**odd, "n": str(2**63 + 1), "z": 0}


def test_a_gap_is_an_entry_like_all_others_and_its_difference_is_kept(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    change = {"since": 5.0, "until": 9.5, "domains": {"u": ["running", "absent"]}, "taps_before": ["vnet1"]}
    gap = Event(EventKind.GAP, 9.5, sequence=1, cause="libvirt was away", detail=change)
    agents[0].client.send_events(EventBatch((gap,)))
    result, entries = ledger(controller)
    assert result.is_intact
    assert (entries[-1].kind, entries[-1].cause, entries[-1].detail) == ("gap", "libvirt was away", change)


def test_the_time_without_a_controller_is_one_gap_with_who_was_heard_last(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    assert not [entry for entry in ledger(controller)[1] if entry.kind == "gap"], "the first start follows no absence"
    agents[0].client.send_events(events(1, 1))
    before = time.time()
    controller.kill()
    time.sleep(0.5)
    controller.start()
    (gap,) = [entry for entry in ledger(controller)[1] if entry.kind == "gap"]
    assert (gap.cause, gap.actor) == ("no controller was running", "controller")
    assert gap.detail["since"] <= before <= gap.detail["until"] - 0.5
    assert set(gap.detail["last_heard"]) == {"host-a", "host-b"}


def test_a_controller_that_finds_its_ledger_cut_says_so_when_it_starts(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    agents[0].client.send_events(events(1, 12))
    harmed(controller, truncate)
    started = [entry for entry in ledger(controller)[1] if entry.kind == "controller.started"]
    assert "covers" in started[-1].detail["ledger"]
    assert "the ledger is not as it was left" in controller.log()
