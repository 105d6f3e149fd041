"""Moves while a part of Buckler is away, and every way that libvirt knows; then what is no move: sleep, save, restore, revert."""

import time
from contextlib import contextmanager

import pytest

from buckler.lab.host import CONNECTION
from buckler.lab.moving import Way
from buckler.lab.story.cast import wait_until
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.fleetwork import forbidden, from_outside, idle, speaking
from buckler.lab.story.motion_steps import migrate_by_task
from buckler.lab.story.probing import is_reached, kept, scan
from buckler.lab.story.traffic import Traffic
from buckler.model.event import EventKind
from tests.system.fleetlab import client_traffic, fleet_lab, other_host, pair

pytestmark = pytest.mark.timeout(240)
DISK = "server-2"


@pytest.fixture(scope="module")
def cast():
    with fleet_lab(2, with_disk=frozenset({DISK})) as cast:
        yield cast


class Watched:
    """Allowed traffic to a server and forbidden probes around it, from before the test to after it."""

    def __init__(self, cast, number):
        _, server = pair(cast, number)
        outside = from_outside(server)
        self.inner = client_traffic(cast, number, speaking(server), idle(server), f"tcp/{server.ipv6}/8080")
        self.outer = Traffic(cast.centre, OUTSIDE, outside, outside)
        self.fire = Crossfire(cast, *forbidden([pair(cast, number)]))

    def goes_on(self):
        for one in (self.inner, self.outer):
            one.has_gone_on()
            one.ask_idle()


@contextmanager
def watched(cast, number, *, survives=True):
    """Judge at the end: nothing forbidden passed, and all that was open lives where it is to survive."""
    watch = Watched(cast, number)
    try:
        yield watch
        if survives:
            watch.goes_on()
    finally:
        sent, passed, evidence = watch.fire.stop()
        results = (watch.inner.stop(), watch.outer.stop())
    assert sent > 100
    assert passed == 0, evidence
    if survives:
        assert all(result.holds for result in results), results


@pytest.mark.parametrize("way", [Way.DIRECT, Way.P2P])
def test_connections_outlive_a_move_there_and_back(cast, way):
    with watched(cast, 1) as watch:
        for _ in range(2):
            cast.centre.migrate("server-1", other_host(cast, "server-1"), way)
            watch.goes_on()


def test_connections_outlive_a_move_with_storage(cast):
    with watched(cast, 2) as watch:
        for _ in range(2):
            cast.centre.migrate(DISK, other_host(cast, DISK), Way.COPY_STORAGE)
            watch.goes_on()


def test_connections_outlive_a_move_that_buckler_orders(cast):
    with watched(cast, 1):
        for _ in range(2):
            migrate_by_task(cast, "server-1", other_host(cast, "server-1"))


def test_connections_outlive_moves_while_the_controller_is_away(cast):
    with watched(cast, 1) as watch:
        cast.pool.stop_controller()
        try:
            for _ in range(2):
                cast.centre.migrate("server-1", other_host(cast, "server-1"))
                watch.goes_on()
        finally:
            cast.pool.start_controller()
            cast.pool.wait_for_hosts()


def test_with_the_source_agent_killed_the_vm_arrives_shielded_without_connection_state(cast):
    """Nobody can hand over what it had: its connections end, and that is told; new ones are made."""
    home = cast.centre.host_of("server-1")
    with watched(cast, 1, survives=False):
        assert cast.pool.kill(home, "buckler agent") == 1
        try:
            cast.centre.migrate("server-1", other_host(cast, "server-1"))
            server = cast.guest("server-1")
            assert_reached(cast, "client-1", f"tcp/{server.ipv4}/8080", f"udp/{server.ipv6}/53")
        finally:
            cast.pool.start_agent(home)
            cast.pool.wait_for_hosts()
    arrivals = [entry for entry in cast.ledger() if entry.kind == EventKind.MIGRATION_ARRIVED]
    assert arrivals[-1].detail["connections_moved"] == 0
    assert "does not answer" in arrivals[-1].detail["handover"], "why it came without is recorded"
    cast.centre.migrate("server-1", home)


def virsh(cast, host, *words):
    return cast.centre.run_on(host, "virsh", "-q", "-c", CONNECTION, *words)


def test_a_suspended_vm_goes_on_with_its_connections(cast):
    host = cast.centre.host_of("server-1")
    with watched(cast, 1):
        virsh(cast, host, "suspend", "server-1")
        time.sleep(2)
        virsh(cast, host, "resume", "server-1")


@pytest.mark.parametrize("how", ["save", "managedsave"])
def test_a_restored_vm_has_its_policy_before_its_first_packet_and_stale_connections_are_not_revived(cast, how):
    host, path = cast.centre.host_of("server-1"), "/run/lab/saved"
    words = (
        (("save", "server-1", path), ("restore", path))
        if how == "save"
        else (("managedsave", "server-1"), ("start", "server-1"))
    )
    with watched(cast, 1, survives=False):
        for each in words:
            virsh(cast, host, *each)
        assert_stale(cast, 1)


def test_a_reverted_vm_has_its_policy_before_its_first_packet_and_stale_connections_are_not_revived(cast):
    client, server = pair(cast, 2)
    host = cast.centre.host_of(DISK)
    fire = Crossfire(cast, *forbidden([(client, server)]))
    virsh(cast, host, "snapshot-create-as", DISK, "earlier")  # of a guest that fires, without connections
    try:
        traffic = client_traffic(cast, 2, speaking(server), idle(server))
        virsh(cast, host, "snapshot-revert", DISK, "earlier", "--running")
        assert_stale(cast, 2)
        traffic.stop()
    finally:
        virsh(cast, host, "snapshot-delete", DISK, "earlier")
        sent, passed, evidence = fire.stop()
    assert sent > 100
    assert passed == 0, evidence


def assert_stale(cast, number):
    """Guest and peer may remember connections, the shield does not: they stay dead; new ones are made as policy says."""
    client, server = pair(cast, number)
    cast.centre.wait_for(server.name)
    fresh = (f"tcp/{server.ipv4}/8080", f"tcp/{server.ipv6}/8080", f"udp/{server.ipv4}/53", f"icmp/{server.ipv4}")
    assert_reached(cast, client.name, *fresh)
    before = answers(cast, client)
    assert before
    time.sleep(3)
    assert answers(cast, client) == before, "a connection from before spoke again"


def assert_reached(cast, origin, *targets):
    def missing():
        return [target for target, answer in scan(cast.centre, origin, list(targets)).items() if not is_reached(answer)]

    wait_until(f"{origin} reaches {targets}", lambda: not missing(), seconds=15)


def answers(cast, client):
    """Count what the client's TCP flows from before were answered so far."""
    counts = cast.centre.execute(client.name, "cat /tmp/speaking").output.split()
    flows = kept(dict(zip(counts[::2], counts[1::2], strict=True)))
    return {flow.target: flow.answered for flow in flows if "tcp/" in flow.target}
