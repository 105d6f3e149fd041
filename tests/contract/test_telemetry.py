"""What every door to counts and events does: in memory and in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.model.program import Direction
from buckler.ports.telemetry import PairCount, Shed, ShieldEvent, Telemetry
from tests import packets as p
from tests.component.ground import APP, WEB, Host, Vm, add_bridge, open_tap, own_bpffs, own_network

ONE, TWO = Vm(1, WEB), Vm(2, APP)
BUDGET = 5


@dataclass(frozen=True)
class Door:
    telemetry: Telemetry
    ifindex: int
    refuse: Callable[[int], None]
    """Make the VM send a packet to port N of its peer, which policy refuses."""


@pytest.fixture(params=["inmemory", "kernel"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    if request.param == "inmemory":
        memory = InMemoryTelemetry()
        yield Door(memory, 7, lambda port: feed(memory, port))
        return
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        wire, host = open_tap("tap1"), Host(pins, events_per_second=BUDGET)
        host.know(TWO)
        host.admit(wire.ifindex, ONE, host.put_program())
        yield Door(host.telemetry, wire.ifindex, lambda port: wire.send(udp(port)))
        host.close()
        wire.close()


def udp(port: int) -> bytes:
    return p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(5, port))


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + p.address(address)


def feed(memory: InMemoryTelemetry, port: int) -> None:
    size = len(udp(port))
    ends = (mapped(ONE.ipv4), mapped(TWO.ipv4), 5, port)
    why = (0x0800, 17, Direction.EGRESS, False, Reason.POLICY)
    if len(memory.seen) < BUDGET:
        memory.seen.append(ShieldEvent(1, 7, 1, 2, APP, 0, 0, size, *ends, *why))
    else:
        memory.lost += 1
    before = memory.counted[0] if memory.counted else PairCount(1, 2, APP, 0, Direction.EGRESS, False, 0, 0)
    memory.counted = [PairCount(1, 2, APP, 0, Direction.EGRESS, False, before.packets + 1, before.bytes + size)]


def test_events_are_given_once_oldest_first_up_to_the_limit(door: Door) -> None:
    for port in (1, 2, 3):
        door.refuse(port)
    first = door.telemetry.events(2)
    assert [event.destination_port for event in first] == [1, 2]
    assert [event.destination_port for event in door.telemetry.events(9)] == [3]
    assert door.telemetry.events(9) == []


def test_an_event_names_both_ends_and_why(door: Door) -> None:
    door.refuse(80)
    (event,) = door.telemetry.events(9)
    assert (event.vm, event.peer_vm, event.peer_identity, event.ifindex) == (1, 2, APP, door.ifindex)
    assert (event.source, event.destination, event.source_port) == (mapped(ONE.ipv4), mapped(TWO.ipv4), 5)
    assert (event.allowed, event.reason, event.direction) == (False, Reason.POLICY, Direction.EGRESS)
    assert event.length == len(udp(80))


def test_what_was_shed_and_what_was_told_add_up(door: Door) -> None:
    assert door.telemetry.shed() == Shed(0, 0)
    for port in range(200):
        door.refuse(port)
    shed, told = door.telemetry.shed(), len(door.telemetry.events(1000))
    assert told + shed.lost + shed.suppressed == 200
    assert told < 200, "a budget that sheds nothing proves nothing"


def test_pairs_rise_and_are_forgotten_by_vm_only(door: Door) -> None:
    for port in (1, 2):
        door.refuse(port)
    (pair,) = door.telemetry.pairs()
    assert (pair.vm, pair.peer_vm, pair.rule, pair.allowed) == (1, 2, 0, False)
    assert (pair.packets, pair.bytes) == (2, 2 * len(udp(1)))
    door.telemetry.forget_pairs(frozenset({2}))
    assert door.telemetry.pairs() == [pair]
    door.telemetry.forget_pairs(frozenset({1}))
    assert door.telemetry.pairs() == []


def test_of_a_tap_that_is_not_there_nothing_is_known(door: Door) -> None:
    assert door.telemetry.reasons(4_000_000) == {}
    assert door.telemetry.connections(4_000_000) == (0, 0)
