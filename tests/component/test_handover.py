"""Connections move with a VM between two real hosts, and what became of them is recorded at both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf import layout
from buckler.model.connection import Held, Rows, State
from buckler.model.event import EventKind
from tests.component.movinghosts import MovingHosts, connections, last, moving_hosts
from tests.contract.test_connections import row, told
from tests.privatehost import wait_until

LOCAL = layout.pack_address("10.50.0.11")
HELD = (
    row(direction=0, ports=(80, 40000), left=21_000_000, remote="10.50.0.12"),
    row(direction=1, ports=(50000, 80), left=21_000_000, remote="203.0.113.9"),
    row(protocol=17, tcp=(0, 0), state=State.ESTABLISHED, ports=(53, 5353), left=170_000, remote="10.50.0.13"),
    row(protocol=1, tcp=(0, 0), state=State.ESTABLISHED, ports=(9, 9), left=29_000, remote="10.50.0.13"),
    row(state=State.NEW, held=Held.HALF_OPEN, ports=(80, 40001), left=59_000, remote="10.50.0.14"),
)


@pytest.fixture(scope="module")
def moving() -> Iterator[MovingHosts]:
    with moving_hosts() as made:
        yield made


def keys(locals_: list[bytes], lines: bytes) -> set:
    return set(told(Rows(tuple(locals_), lines)))


def test_connections_move_and_the_move_is_told_at_both_ends(moving: MovingHosts):
    moving.settled()
    source, _ = moving.where()
    connections(source, source.tap(1), (LOCAL,), b"".join(HELD))
    source, destination = moving.migrate()
    wait_until(lambda: EventKind.MIGRATION_ARRIVED in [event.kind for event in destination.events()], 8)
    wait_until(lambda: EventKind.MIGRATION_LEFT in [event.kind for event in source.events()], 8)
    arrived, left = last(destination, EventKind.MIGRATION_ARRIVED).detail, last(source, EventKind.MIGRATION_LEFT).detail
    assert keys(*connections(destination, destination.tap(1))) == keys([LOCAL], b"".join(HELD))
    assert (arrived["handover"], left["handover"]) == ("whole", "whole")
    assert arrived["connections_moved"] == left["connections_moved"] == len(HELD)
