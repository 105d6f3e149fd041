"""A VM moves between two real hosts: its connections with it, and what became of them is told at both ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from buckler.agent.settings import DEFAULT_HANDOVER_PORT as PORT
from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.libvirt.hypervisor import LibvirtHypervisor
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.connection import Held, Rows, State
from buckler.model.event import Event, EventKind
from buckler.ports.hypervisor import HypervisorFailed
from tests import packets as p
from tests.component.agenthost import AgentHost
from tests.component.movinghosts import FABRIC, MovingHosts, connections, judge, moving_hosts
from tests.contract.test_connections import row, told
from tests.poolkit import Pool, program
from tests.privatehost import wait_until

LOCAL = layout.pack_address("10.50.0.11")
HELD = (
    row(direction=0, ports=(80, 40000), left=21_000_000, remote="10.50.0.12"),
    row(direction=1, ports=(50000, 80), left=21_000_000, remote="203.0.113.9"),
    row(protocol=17, tcp=(0, 0), state=State.ESTABLISHED, ports=(53, 5353), left=170_000, remote="10.50.0.13"),
    row(protocol=1, tcp=(0, 0), state=State.ESTABLISHED, ports=(9, 9), left=29_000, remote="10.50.0.13"),
    row(state=State.NEW, held=Held.HALF_OPEN, ports=(80, 40001), left=59_000, remote="10.50.0.14"),
)


NOBODY = f"tcp://{FABRIC}.77:49900"


@pytest.fixture(scope="module")
def moving() -> Iterator[MovingHosts]:
    with moving_hosts() as made:
        yield made


def keys(locals_: list[bytes], lines: bytes) -> set[object]:
    return set(told(Rows(tuple(locals_), lines)))


def count(host: AgentHost, kind: EventKind) -> int:
    return len(host.events(kind))


def move(moving: MovingHosts) -> tuple[Event, Event]:
    """Move the VM and wait for what is told: (left, arrived)."""
    source, destination = moving.where()
    before = count(source, EventKind.MIGRATION_LEFT), count(destination, EventKind.MIGRATION_ARRIVED)
    moving.migrate()
    wait_until(lambda: count(destination, EventKind.MIGRATION_ARRIVED) > before[1], 12)
    if source.agent is not None:
        wait_until(lambda: count(source, EventKind.MIGRATION_LEFT) > before[0], 12)
    left = source.events(EventKind.MIGRATION_LEFT)
    return (left[-1] if left else Event(EventKind.MIGRATION_LEFT, 0.0)), destination.events(
        EventKind.MIGRATION_ARRIVED
    )[-1]


def fill(host: AgentHost) -> None:
    connections(host, host.tap(1), (LOCAL,), b"".join(HELD))


def test_connections_move_and_the_move_is_told_at_both_ends(moving: MovingHosts):
    moving.settled()
    source, destination = moving.where()
    fill(source)
    left, arrived = move(moving)
    assert keys(*connections(destination, destination.tap(1))) == keys([LOCAL], b"".join(HELD))
    for each in (left.detail, arrived.detail):
        assert (each["handover"], each["connections_moved"], each["connections_refused"]) == ("whole", len(HELD), 0)
        assert (each["from"], each["to"], each["who"]) == ("hv1", "hv2", "libvirt")
    assert arrived.detail["binding_before"] == arrived.detail["binding_after"] == left.detail["binding_before"]
    assert arrived.detail["epoch"] == left.detail["epoch"] + 1
    prepared = destination.events(EventKind.MIGRATION_PREPARED)[-1].detail
    assert (prepared["from"], prepared["to"], prepared["epoch"]) == ("hv1", "hv2", left.detail["epoch"])


def test_no_guest_reaches_the_port_where_agents_hand_over(moving: MovingHosts):
    source, _ = moving.where()
    ends = (Pool.mac(1), "10.50.0.11")
    syn = p.tcp(41000, 80, p.SYN)
    assert judge(source, source.tap(1), p.ip_frame(ends, ("52:54:00:00:00:99", "10.50.0.12"), 6, syn))[0]
    for number in (1, 2):
        address = f"{FABRIC}.{number}"
        source.host.run(
            sys.executable, "-c", f"import socket; socket.create_connection(('{address}', {PORT}), 3).close()"
        )
        for port in (PORT, 80):
            syn = p.tcp(41000, port, p.SYN)
            frame = p.ip_frame(ends, ("52:54:00:00:00:99", address), 6, syn)
            assert judge(source, source.tap(1), frame) == (False, Reason.INFRA)


def test_back_and_forth_at_once_loses_nothing_to_a_late_source(moving: MovingHosts):
    """Before the residence of a stay is written, before the last source has tidied up."""
    source, _ = moving.where()
    fill(source)
    wanted = keys([LOCAL], b"".join(HELD))
    for _ in range(4):
        moving.migrate()
    here, there = moving.where()
    wait_until(lambda: here.events(EventKind.MIGRATION_ARRIVED)[-1].detail.get("handover"), 10)
    assert keys(*connections(here, here.tap(1))) >= wanted
    assert here.is_admitted(here.tap(1))
    arrivals = sorted(
        (event for one in moving.hosts for event in one.events(EventKind.MIGRATION_ARRIVED)), key=lambda e: e.at
    )
    wait_until(lambda: count(here, EventKind.MIGRATION_ARRIVED) + count(there, EventKind.MIGRATION_ARRIVED) == 5, 10)
    assert [event.detail["handover"] for event in arrivals[-4:]] == ["whole"] * 4
    epochs = [event.detail["epoch"] for event in arrivals]
    assert epochs == sorted(set(epochs)), "each stay has a later epoch"
    wait_until(lambda: there.status()["taps"] == [], 5)


def test_an_aborted_move_leaves_both_as_they_were_and_is_told_once(moving: MovingHosts):
    """All hooks have said yes, then the memory cannot be copied: nobody lives where QEMU is told to send it."""
    moving.settled()
    source, destination = moving.where()
    fill(source)
    before = [count(one, EventKind.MIGRATION_ABORTED) for one in moving.hosts]
    uri = f"qemu+unix:///system?socket={destination.host.root}/run/libvirt/libvirt-sock"
    words = ("virsh", "-q", "-c", "qemu:///system", "migrate", "--live", "vm-1", uri, "--migrateuri", NOBODY)
    done = subprocess.run(source.host.command(*words), capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert moving.where() == (source, destination)
    assert keys(*connections(source, source.tap(1))) >= keys([LOCAL], HELD[0])
    wait_until(lambda: destination.status()["taps"] == [], 8)
    wait_until(lambda: sum(count(one, EventKind.MIGRATION_ABORTED) for one in moving.hosts) == sum(before) + 1, 8)
    assert count(destination, EventKind.MIGRATION_ABORTED) == before[moving.hosts.index(destination)] + 1
    left, arrived = move(moving)
    assert (left.detail["handover"], arrived.detail["handover"]) == ("whole", "whole")


def test_with_the_sources_agent_dead_it_arrives_shielded_without_connections_and_that_is_told(moving: MovingHosts):
    moving.settled()
    source, destination = moving.where()
    fill(source)
    source.kill_agent()
    _, arrived = move(moving)
    assert destination.is_admitted(destination.tap(1))
    assert "does not answer" in arrived.detail["handover"]
    assert (arrived.detail["connections_moved"], arrived.detail["from"]) == (
        0,
        "hv1" if source is moving.hosts[0] else "hv2",
    )
    assert connections(destination, destination.tap(1))[1] == b""
    source.start_agent()


def test_a_vm_registered_while_the_destination_was_cut_off_arrives_shielded(moving: MovingHosts):
    """The source brings along what the destination lacks; it acknowledges no revision that it was not told."""
    moving.settled()
    source, destination = moving.where()
    held_before = destination.status()["wanted"]
    pool = moving.pool
    pool.endpoints = (*pool.endpoints, pool.endpoint(2, program(8080)))
    pool.programs = {**pool.programs, pool.endpoints[-1].program: program(8080)}
    source.kill_agent()
    source.publish()
    source.start_agent()
    source.define(2)
    assert source.start(2).returncode == 0
    source.wait_admitted(source.host.virsh("domiflist", "vm-2").split()[0])
    wait_until(lambda: "residence" in source.host.virsh("dumpxml", "vm-2"), 10, 0.1)
    uri = f"qemu+unix:///system?socket={destination.host.root}/run/libvirt/libvirt-sock"
    LibvirtHypervisor(source.host.uri).migrate(Pool.uuid(2), uri)
    destination.wait_admitted(destination.host.virsh("domiflist", "vm-2").split()[0])
    status = destination.status()
    assert status["wanted"] > held_before
    wait_until(lambda: destination.events(EventKind.MIGRATION_ARRIVED)[-1].detail.get("handover") == "whole", 8)
    destination.kill_agent()
    destination.start_agent()
    assert destination.status()["wanted"] == status["wanted"], "what was lent outlives the agent"
    state = SqliteState(destination.folder)
    assert state.document("lent-manifest")
    state.close()


def test_a_paused_vm_moves_with_its_connections_and_its_arrival_is_told(moving: MovingHosts):
    moving.settled()
    source, destination = moving.where()
    fill(source)
    told_before = count(destination, EventKind.MIGRATION_ARRIVED)
    source.host.virsh("suspend", "vm-1")
    uri = f"qemu+unix:///system?socket={destination.host.root}/run/libvirt/libvirt-sock"
    LibvirtHypervisor(source.host.uri).migrate(Pool.uuid(1), uri)
    assert "paused" in destination.host.virsh("domstate", "vm-1")
    assert keys(*connections(destination, destination.tap(1))) >= keys([LOCAL], b"".join(HELD))
    wait_until(lambda: count(destination, EventKind.MIGRATION_ARRIVED) == told_before + 1, 20)
    assert destination.events(EventKind.MIGRATION_ARRIVED)[-1].detail["handover"] == "whole"
    destination.host.virsh("resume", "vm-1")
    assert moving.where() == (destination, source)


def test_a_vetoed_move_leaves_the_source_as_it_was(moving: MovingHosts):
    source, destination = moving.where()
    at = moving.hosts.index(destination)
    destination.kill_agent()
    moving.publish(at, draining=True)
    destination.start_agent()
    fill(source)
    refused = count(destination, EventKind.GATE_REFUSED)
    with pytest.raises(HypervisorFailed, match="being drained"):
        moving.migrate()
    assert keys(*connections(source, source.tap(1))) >= keys([LOCAL], HELD[0])
    assert source.is_admitted(source.tap(1))
    assert count(destination, EventKind.GATE_REFUSED) == refused + 1
