"""Performance samples of several hosts become one series, and a hostile host spoils no other's part of it."""

from __future__ import annotations

import time

import msgspec
import pytest
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.client.agentside import ControllerRefused
from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import SampleBatch
from buckler.model.ids import VmId
from buckler.model.sample import Sample, Totals

from .conftest import Agent, ControllerProcess
from .shop import SHOP


def told(vm: str, sequence: int, at: float, packets: int, **figures: int) -> Sample:
    return Sample(VmId(vm), at, 32 << 20, Totals(sent_packets=packets, **figures), sequence)


def web_id(controller: ControllerProcess) -> str:
    controller.apply(*SHOP)
    with controller.operator() as client:
        return client.vm("web").id


def test_shares_of_two_hosts_are_one_series_however_often_and_late_they_are_told(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    vm, began = web_id(controller), time.time() - 100
    first = SampleBatch(tuple(told(vm, number, began + number, 10 * number) for number in range(1, 6)))
    second = SampleBatch((told(vm, 1, began + 6, 3), told(vm, 2, began + 7, 9)))
    back = SampleBatch((told(vm, 6, began + 8, 55),))
    assert agents[1].client.send_samples(second).through == 2
    for batch in (first, first, back):
        through = agents[0].client.send_samples(batch).through
    assert through == 6
    with controller.operator() as client:
        series = client.samples("web")
        assert [item.sent_packets for item in series] == [10, 20, 30, 40, 50, 53, 59, 64]
        assert [item.host for item in series][4:] == ["host-a", "host-b", "host-b", "host-a"]
        assert [item.sent_packets for item in client.samples("web", since=began + 6.5)] == [59, 64]
        assert [item.sent_packets for item in client.samples("web", limit=3)] == [53, 59, 64]
        load = next(each for each in client.load(seconds=100) if each.vm == "web")
        assert load.last is not None
        assert load.last.sent_packets == 64
        with pytest.raises(OperatorFailed):
            client.samples("nobody")
        assert 'buckler_samples_shed_total{host="host-a"} 0.0' in client.metrics()


def test_a_hostile_host_changes_only_its_own_share_and_time_stays_time(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    vm, now = web_id(controller), time.time()
    agents[0].client.send_samples(SampleBatch((told(vm, 1, now - 5, 100),)))
    hostile = agents[1].client
    lies = (
        told(vm, 5, 1e300, 2**80, cpu_ns=-(2**70)),
        told(vm, 6, -1e300, -5),
        told("no such vm", 7, now, 1),
        told("\0", 8, now, 1),
        msgspec.structs.replace(told(vm, 9, now, 0), memory=-(2**90)),
    )
    assert hostile.send_samples(SampleBatch(lies)).through == 9
    for number in (0, -1, 2**60):
        with pytest.raises(ControllerRefused):
            hostile.send_samples(SampleBatch((told(vm, number, now, 1),)))
    with pytest.raises(ControllerRefused):
        hostile.send_samples(SampleBatch(tuple(told(vm, 10 + number, now, 1) for number in range(5001))))
    with controller.operator() as client:
        series = client.samples("web")
        assert series[0].sent_packets == 100
        assert all(now - 10 <= item.at <= time.time() for item in series)
        assert all(item.memory >= 0 and item.cpu_seconds >= 0 for item in series)
        assert 'buckler_samples_shed_total{host="host-b"} 4.0' in client.metrics()
    for command in ("vm samples web", "vm samples web -o wide", "vm samples web -o json", "vm top"):
        shown = CliRunner().invoke(main, ["--socket", controller.socket, *command.split()])
        assert shown.exit_code == 0, (command, shown.output, shown.exception)
