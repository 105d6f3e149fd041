"""The lab itself, without Buckler in it: it works, moves guests, and leaves nothing behind, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from buckler.lab.datacentre import build_lab, start_guests
from buckler.lab.plan import plan_lab
from buckler.lab.shop import shop_vms
from buckler.lab.story.probing import every_meeting, probe_meetings
from buckler.lab.sweep import namespaces_of, sweep, take_snapshot

PREFIX = "blb"


@pytest.fixture
def plan():
    plan = plan_lab(shop_vms(), prefix=PREFIX)
    yield plan
    sweep(plan.folder, plan.prefix)


@pytest.mark.timeout(180)
def test_bare_lab_lets_all_reach_all_and_leaves_nothing(plan):
    """Without Buckler every meeting succeeds: what fails in the other stories fails because of a shield."""
    before = take_snapshot(PREFIX)
    centre = build_lab(plan, print)
    start_guests(centre, plan.guests, {})
    everything = every_meeting(plan.guests)
    assert probe_meetings(centre, plan.guests, everything) == everything
    answer = centre.execute("db", "echo one; echo two >&2; exit 7")
    assert (sorted(answer.output.split()), answer.code) == (["one", "two"], 7)
    home = centre.host_of("db")
    away = next(host.name for host in plan.hosts if host.name != home)
    centre.migrate("db", away)
    assert centre.host_of("db") == away
    assert centre.execute("db", "hostname").output.strip() == "db"
    for machine in (*plan.hosts, plan.controller):
        assert "default" not in centre.run_on(machine.name, "ip", "route"), "a route leaves the lab"
    assert take_snapshot(PREFIX) != before
    sweep(plan.folder, PREFIX)
    assert take_snapshot(PREFIX) - before == frozenset()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_lab_up_leaves_nothing(plan, ending):
    before = take_snapshot(PREFIX)
    command = [sys.executable, "-m", "buckler", "lab", "--prefix", PREFIX, "up", "--bare"]
    up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for_libvirt(plan)
    os.killpg(up.pid, ending)
    assert up.wait(60) != 0
    assert take_snapshot(PREFIX) - before == frozenset()


@pytest.mark.timeout(120)
def test_lab_up_removes_what_a_killed_one_left(plan):
    before = take_snapshot(PREFIX)
    command = [sys.executable, "-m", "buckler", "lab", "--prefix", PREFIX, "up", "--bare"]
    up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _wait_for_libvirt(plan)
    up.kill()
    up.wait()
    assert namespaces_of(PREFIX)
    build_lab(plan, print)
    sweep(plan.folder, PREFIX)
    assert take_snapshot(PREFIX) - before == frozenset()


def _wait_for_libvirt(plan):
    deadline = time.monotonic() + 60
    while not (plan.folder / "state.json").exists() or not all(
        name in namespaces_of(PREFIX) for name in plan.namespaces
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
