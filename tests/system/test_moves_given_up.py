"""Moves that come to nothing leave both hosts as they were: aborted, killed at the destination, vetoed by its gate."""

import os
import signal
import time

import pytest

from buckler.lab.host import CONNECTION
from buckler.lab.machine import LabFailed, processes_of
from buckler.lab.moving import Way
from buckler.lab.story.cast import wait_until
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.fleetwork import forbidden, from_outside, idle, speaking
from buckler.lab.story.traffic import Traffic
from buckler.model.event import EventKind
from tests.system.fleetlab import client_traffic, fleet_lab, pair
from tests.system.footprint import footprint

pytestmark = pytest.mark.timeout(240)
VM, HOME, AWAY = "server-1", "host2", "host1"


@pytest.fixture(scope="module")
def cast():
    with fleet_lab(1) as cast:
        yield cast


@pytest.fixture(scope="module")
def traffic(cast):
    _, server = pair(cast, 1)
    outside = from_outside(server)
    both = [client_traffic(cast, 1, speaking(server), idle(server)), Traffic(cast.centre, OUTSIDE, outside, outside)]
    yield both
    for one in both:
        result = one.stop()
        assert result.holds, result


@pytest.fixture
def untouched(cast, traffic):
    """Compare both hosts before and after the test, fire at the VM meanwhile, and ask its traffic how it is."""
    before = {host: footprint(cast, host) for host in (HOME, AWAY)}
    fire = Crossfire(cast, *forbidden([pair(cast, 1)]))
    yield
    for one in traffic:
        one.has_gone_on()
        one.ask_idle()
    sent, passed, evidence = fire.stop()
    assert sent > 100
    assert passed == 0, evidence
    for host, kept in before.items():
        wait_until_same(cast, host, kept)
    assert cast.centre.host_of(VM) == HOME


def wait_until_same(cast, host, before):
    def differing():
        now = footprint(cast, host)
        return {what: (before[what], now[what]) for what in before if now[what] != before[what]}

    try:
        wait_until(f"{host} is as it was", lambda: not differing(), seconds=10)
    except LabFailed as failed:
        raise AssertionError(f"{host} is not as it was: {differing()}") from failed


def virsh(cast, host, *words):
    return cast.centre.run_on(host, "virsh", "-q", "-c", CONNECTION, *words)


@pytest.fixture
def slow_move(cast):
    """A move that is held back until it is given up."""
    virsh(cast, HOME, "migrate-setspeed", VM, "4")
    yield cast.centre.move(VM, AWAY)
    virsh(cast, HOME, "migrate-setspeed", VM, "8796093022207")


def wait_until_shielded(cast):
    """The move is under way and the destination has made all ready for the VM."""

    def is_ready():
        return VM in virsh(cast, AWAY, "list", "--name", "--all") and footprint(cast, AWAY)["guard's ports"] != []

    def count():
        return len(footprint(cast, AWAY)["guard's ports"])

    at_first = 1  # client-1 lives there
    wait_until("the destination has its shield ready", lambda: is_ready() and count() > at_first, seconds=20)


def test_an_aborted_move_leaves_both_hosts_as_they_were(cast, untouched, slow_move):
    wait_until_shielded(cast)
    slow_move.abort()
    words, code = slow_move.outcome()
    assert code, words
    wait_until("it is told", lambda: told(cast, EventKind.MIGRATION_ABORTED), seconds=15)


def test_a_destination_whose_qemu_is_killed_leaves_both_hosts_as_they_were(cast, untouched, slow_move):
    wait_until_shielded(cast)
    found = [
        pid
        for pid, line in processes_of([cast.centre.plan.host(AWAY).namespace]).items()
        if "qemu-system" in line and f"guest={VM}," in line
    ]
    assert len(found) == 1
    os.kill(found[0], signal.SIGKILL)
    words, code = slow_move.outcome()
    assert code, words


def test_a_vetoed_move_leaves_both_hosts_as_they_were(cast, untouched):
    """The passport is altered on the way, as somebody between the hosts could."""
    xml = virsh(cast, HOME, "dumpxml", "--migratable", VM)
    head, mark, rest = xml.partition("<buckler:passport")
    start, close, tail = rest.partition("</buckler:passport>")
    assert mark
    assert close
    place = len(start) // 2
    altered = start[:place] + ("A" if start[place] != "A" else "B") + start[place + 1 :]
    path = "/run/lab/altered.xml"
    (cast.centre.root(HOME) / path.lstrip("/")).write_text(head + mark + altered + close + tail)
    words, code = cast.centre.move(VM, AWAY, Way.DIRECT, "--xml", path, "--persistent-xml", path).outcome()
    assert code
    assert "passport" in words, "who moves it reads why"
    time.sleep(1)


def test_a_move_to_a_host_without_a_living_agent_is_vetoed(cast, untouched):
    assert cast.pool.kill(AWAY, "buckler agent") == 1
    try:
        words, code = cast.centre.move(VM, AWAY).outcome()
        assert code
        assert "Buckler" in words
    finally:
        cast.pool.start_agent(AWAY)
        cast.pool.wait_for_hosts()


def told(cast, kind):
    return any(entry.kind == kind for entry in cast.ledger())
