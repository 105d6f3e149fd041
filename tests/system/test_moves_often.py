"""A hundred moves under traffic that must live and probes that must not pass, every 5 ms and from every side."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from buckler.lab.machine import LabFailed
from buckler.lab.moving import Way
from buckler.lab.story.cast import wait_until
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.fleetwork import forbidden, from_outside, idle, speaking
from buckler.lab.story.motion_steps import migrate_by_task
from buckler.lab.story.traffic import Traffic, add_up
from tests.system.fleetlab import client_traffic, fleet_lab, other_host, pair
from tests.system.footprint import guests_of, remains

ROUNDS_APART, ROUNDS_TOGETHER, ROUNDS_ALONE = 30, 10, 20
MOVES = 2 * ROUNDS_APART + 2 * ROUNDS_TOGETHER + ROUNDS_ALONE


class GaveUp(LabFailed):
    """A guest's own kernel did, as QEMU's emulation has it at times (see test_moves_at_once)."""


def move(cast, *guests):
    """Move them at the same time, each to where it is not."""
    for each in [cast.centre.move(guest, other_host(cast, guest)) for guest in guests]:
        each.wait()
    return len(guests)


def move_alone(cast, guest, number):
    """Move one by each way in turn: libvirt's two, and by Buckler's own order."""
    if number % 3 == 2:
        migrate_by_task(cast, guest, other_host(cast, guest))
    else:
        cast.centre.migrate(guest, other_host(cast, guest), (Way.DIRECT, Way.P2P)[number % 3])
    return 1


def check(cast, traffic, *, ask_idle):
    try:
        with ThreadPoolExecutor(len(traffic)) as pool:
            list(pool.map(lambda one: one.has_gone_on(), traffic))
            if ask_idle:
                list(pool.map(lambda one: one.ask_idle(), traffic))
    except LabFailed as failed:
        panics = {guest.name: words for guest in cast.guests if (words := cast.centre.panic_of(guest.name))}
        raise (GaveUp(f"{failed}: {panics}") if panics else failed) from failed


@pytest.mark.timeout(1500)
def test_a_hundred_moves_reset_nothing_and_let_nothing_forbidden_pass():
    try:
        move_a_hundred_times()
    except GaveUp as lost:
        print(f"begun once more: {lost}")  # noqa: T201
        move_a_hundred_times()


def move_a_hundred_times():
    with fleet_lab(2) as cast:
        pairs = [pair(cast, number) for number in (1, 2)]
        traffic = [
            client_traffic(cast, number, speaking(server), idle(server), f"tcp/{server.ipv4}/8080")
            for number, (_, server) in enumerate(pairs, start=1)
        ]
        outside = [spec for _, server in pairs for spec in from_outside(server)]
        traffic.append(Traffic(cast.centre, OUTSIDE, outside, outside))
        fire = Crossfire(cast, *forbidden(pairs))
        moves = 0
        for number in range(ROUNDS_APART):
            moves += move(cast, "server-1", "client-2")
            if number % 5 == 4:
                check(cast, traffic, ask_idle=number % 10 == 9)
        for _ in range(ROUNDS_TOGETHER):
            moves += move(cast, "server-1", "client-1")
        check(cast, traffic, ask_idle=True)
        for number in range(ROUNDS_ALONE):
            moves += move_alone(cast, "server-2", number)
        check(cast, traffic, ask_idle=True)
        sent, passed, evidence = fire.stop()
        survived = add_up([one.stop() for one in traffic])
        assert moves == MOVES == 100
        assert (survived.resets, survived.dead) == (0, ()), survived
        assert survived.mib_poured > 1
        assert sent > 200 * moves
        assert passed == 0, evidence
        for host in ("host1", "host2"):
            assert_only_its_own(cast, host)


@pytest.mark.timeout(240)
def test_nothing_remains_on_the_source_and_a_late_source_cleans_nothing_of_a_vm_that_came_back():
    with fleet_lab(1) as cast:
        _, server = pair(cast, 1)
        traffic = client_traffic(cast, 1, speaking(server), idle(server))
        assert all(remains(cast, "host2").values()), f"this test sees what stands for a guest: {remains(cast, 'host2')}"
        cast.centre.migrate("server-1", "host1")
        wait_until("nothing remains of it", lambda: not any(remains(cast, "host2").values()), seconds=10)
        for _ in range(5):  # back before the source may be done with cleaning, and away again
            move(cast, "server-1")
        assert cast.centre.host_of("server-1") == "host2"
        time.sleep(3)  # more than the two seconds in which a source has cleaned
        assert_only_its_own(cast, "host2")
        traffic.has_gone_on()
        traffic.ask_idle()
        assert traffic.stop().holds


def assert_only_its_own(cast, host):
    """Each guest of the host has one tap, admitted once, with two links; nobody else has anything there."""
    count = len(guests_of(cast, host))

    def is_so():
        found = remains(cast, host)
        return [len(found[what]) for what in ("domains", "processes", "taps", "guard's ports", "map policies")] == [
            count
        ] * 5 and len(found["links"]) == 2 * count

    try:
        wait_until("only what its guests need stands", is_so, seconds=10)
    except Exception as error:
        raise AssertionError(f"{host} with {count} guests: {remains(cast, host)}") from error
