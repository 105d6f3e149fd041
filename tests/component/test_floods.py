"""Floods: whatever overflows, the sums of counters are the frames that were seen, and what was shed is a number."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from buckler.ports.telemetry import FIRST_REFUSAL
from tests import packets as p
from tests.component.catalogue import ONE, TWO
from tests.component.ground import SLOWNESS, Host, add_bridge, both_ways, open_veth, own_bpffs, own_network
from tests.component.test_fuzz import Runner

FLOOD = int(100_000 / SLOWNESS)
PAIRS = 65_536


@pytest.fixture
def flooded(tcx_host: Host) -> Iterator[tuple[Host, int, Runner]]:
    yield from prepare(tcx_host)


def prepare(host: Host) -> Iterator[tuple[Host, int, Runner]]:
    wire = open_veth("tap1")
    host.know(TWO)
    host.admit(wire.ifindex, ONE, host.put_program(*both_ways(0, 6, 80, 32), *both_ways(0, 17, prefix=16)))
    yield host, wire.ifindex, Runner(host, "tap_from_vm", wire.ifindex)
    wire.close()


@pytest.mark.parametrize("kind", ["SYN", "SYN denied", "UDP"])
def test_a_flood_is_counted_frame_by_frame(flooded: tuple[Host, int, Runner], kind: str) -> None:
    host, ifindex, runner = flooded
    size = passed = 0
    for number in range(FLOOD):
        ports = 1024 + number % 60000, 80 + number // 60000 if kind == "UDP" else 80 if kind == "SYN" else 81
        payload = p.udp(*ports) if kind == "UDP" else p.tcp(*ports, p.SYN, sequence=number)
        frame = p.ip_frame(ONE.v4, TWO.v4, 17 if kind == "UDP" else 6, payload)
        size += len(frame)
        passed += runner.passes(frame)
    counts = host.telemetry.reasons(ifindex)
    assert sum(count.packets for count in counts.values()) == FLOOD
    assert sum(count.bytes for count in counts.values()) == size
    assert sum(count.packets for (_, reason), count in counts.items() if reason < FIRST_REFUSAL) == passed
    assert sum(pair.packets for pair in host.telemetry.pairs()) == FLOOD
    assert host.telemetry.connections(ifindex)[1] <= layout.CONNECTIONS_HALF_OPEN
    shed, told = host.telemetry.shed(), len(host.telemetry.events(1 << 20))
    events = counts.get((Direction.EGRESS, Reason.NEW)) or counts[Direction.EGRESS, Reason.POLICY]
    assert told + shed.lost + shed.suppressed == events.packets
    assert shed.lost > 0 or told == events.packets, "the ring holds what it holds and says what it lost"


def test_pairs_that_find_no_room_go_to_one_bucket(flooded: tuple[Host, int, Runner]) -> None:
    """More (VM, peer, rule) than the map has places, made by renaming the peer between frames."""
    host, ifindex, runner = flooded
    frame = p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(1, 81, p.SYN))
    pairs = host.kernel["pairs"]
    empty = bytes(pairs.read_size)
    for number in range(PAIRS):
        try:
            pairs.put(layout.PAIR_KEY.pack(7, number, 0, 0, 0, 0), empty)
        except OSError:
            break
    for _ in range(500):
        runner.passes(frame)
    assert sum(host.reasons(ifindex).values()) == 500
    (bucket,) = [pair for pair in host.telemetry.pairs() if pair.vm == layout.NOBODY]
    assert bucket.packets == 500


def test_what_a_small_budget_sheds_is_known(tmp_path: object) -> None:
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:  # type: ignore[operator]
        add_bridge()
        host = Host(pins, events_per_second=100)
        for _, ifindex, runner in prepare(host):
            for number in range(5000):
                runner.passes(p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(1024 + number, 81, p.SYN)))
            shed, told = host.telemetry.shed(), len(host.telemetry.events(1 << 20))
            assert (told + shed.suppressed, shed.lost) == (5000, 0)
            assert shed.suppressed > 3000
            assert host.reasons(ifindex) == {(Direction.EGRESS, Reason.POLICY): 5000}
        host.close()
