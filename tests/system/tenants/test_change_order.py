"""Hundreds of changes under fire, one host late again and again: no mix of two revisions ever lets a packet pass."""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from buckler.lab.host import start_service
from buckler.lab.machine import processes_of
from buckler.lab.plan import CONTROLLER
from buckler.lab.pool import PATIENCE
from buckler.lab.story.probing import hammer, watch
from buckler.lab.story.traffic import Traffic
from buckler.model.operatorapi.documents import ApplyRequest
from tests.system.tenants.lab import as_file
from tests.system.tenants.swaps import ADDRESSES, ALWAYS, ASKING, FAR, LAST, NEAR, Sets, arrival, documents, forbidden

pytestmark = pytest.mark.timeout(900)
SEED = 20361231
CHANGES, HURRIED_CHANGES, MOST_HASTY_CHANGES = 160, 80, 160
ROOT = Path(__file__).parents[3]
KINDS = {"rules", "lamps", "seats"}


class Fire:
    """The asking VM asks for everything forbidden in turn, all the time; eyes at each target."""

    def __init__(self, lab):
        self.lab, self.shots = lab, forbidden(lab)
        for address, owners in ADDRESSES.items():
            for name in owners:
                run_in(lab, name, f"ip addr add {address}/24 dev eth0 2>/dev/null; true")
            run_in(lab, ASKING, f"arp -s {address} {lab.centre.plan.guest(owners[1]).mac}")
        self.eyes = {
            name: watch(
                lab.centre, name, "mixed", [arrival(lab, target) for whose, target, _ in self.shots if whose == name]
            )
            for name in (FAR, LAST, NEAR)
        }
        self.gun = hammer(lab.centre, ASKING, "mixing", [target for _, target, _ in self.shots], interval_ms=2)

    def stop(self):
        """Return how many were sent, answered and seen to arrive, the last by the switch that they belong to."""
        counts = self.gun.stop()
        time.sleep(0.5)
        return (
            int(counts["sent"]),
            int(counts["answered"]),
            self.arrived({name: job.stop() for name, job in self.eyes.items()}),
        )

    def arrived(self, seen=None):
        """Return what was seen so far."""
        seen = seen or {name: job.read() for name, job in self.eyes.items()}
        arrived = Counter()
        for name, target, kind in self.shots:
            arrived[kind] += int(seen[name].get(arrival(self.lab, target), 0))
        return +arrived


def run_in(lab, guest, command):
    answer = lab.centre.execute(guest, command)
    assert answer.code == 0, answer.output


@contextmanager
def late(lab, host, seconds):
    """The host's agent does nothing for a while: it acknowledges late, its kernel goes on with what it has."""
    found = processes_of([lab.centre.plan.host(host).namespace]).items() if host else ()
    pids = [pid for pid, line in found if " -m buckler agent run" in line]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, lambda: [os.kill(pid, signal.SIGCONT) for pid in pids])
    timer.start()
    try:
        yield
    finally:
        timer.join()


def change_often(lab, count, dice, one_hurried_in=0):
    """Flip one switch or more at a time; ``hurried``: the next change begins before this one is through."""
    sets, done = Sets(), Counter()
    with lab.pool.operator() as client:
        for _ in range(count):
            flips = dice.sample(Sets._fields, dice.choice((1, 1, 2, 3)))
            sets = sets._replace(**{name: not getattr(sets, name) for name in flips})
            host = dice.choice(("", "", "", "host1", "host2"))
            is_hurried = bool(one_hurried_in) and not dice.randrange(one_hurried_in)
            with late(lab, host, dice.uniform(0.1, 0.6)):
                files = (as_file("sets", documents(sets)),)
                result = client.apply(ApplyRequest(files=files, wait=0 if is_hurried else PATIENCE))
            assert is_hurried or not result.waiting
            done.update({"changes": 1, "late": bool(host), "hurried": is_hurried})
    lab.pool.wait_for_hosts()
    return done


def test_no_mix_of_two_revisions_lets_a_packet_pass_while_hosts_are_late(lab):
    lab.pool.apply(as_file("sets", documents(Sets())))
    lab.pool.wait_for_hosts()
    allowed = [f"{ALWAYS[0]}/{lab.party(name).ipv4}/{ALWAYS[1]}" for name in (FAR, LAST, NEAR)]
    traffic = Traffic(lab.centre, ASKING, allowed)
    fire, dice = Fire(lab), random.Random(SEED)
    done = change_often(lab, CHANGES, dice)
    traffic.has_gone_on()
    survived = traffic.stop()
    done += change_often(lab, HURRIED_CHANGES, dice, one_hurried_in=2)
    sent, answered, arrived = fire.stop()
    print(f"{dict(done)}: {sent} sent, {answered} answered, arrived {dict(arrived)}; {survived}")  # noqa: T201
    assert done["changes"] == CHANGES + HURRIED_CHANGES
    assert done["late"] > done["changes"] / 5
    assert done["hurried"] > HURRIED_CHANGES / 5
    assert sent > 20 * done["changes"]
    assert (answered, arrived) == (0, Counter())
    assert survived.holds, "what every set allows is not cut"


def test_without_the_change_order_every_kind_of_mix_is_seen(lab):
    """The control: the same changes, the same probes, a controller that tells every host at once what is wanted."""
    lab.pool.apply(as_file("sets", documents(Sets())))
    assert lab.pool.kill(CONTROLLER, "buckler controller")
    environment = ("env", f"PYTHONPATH={ROOT}:{os.environ.get('PYTHONPATH', '')}")
    command = (sys.executable, "-m", "tests.system.tenants.hasty", "controller", "run")
    start_service(
        lab.centre.pid(CONTROLLER), "controller", *environment, *command, "--config", "/etc/buckler/controller.yaml"
    )
    try:
        lab.pool.wait_for_hosts()
        fire = Fire(lab)
        dice, changes = random.Random(SEED), 0
        while changes < MOST_HASTY_CHANGES and set(fire.arrived()) != KINDS:
            changes += change_often(lab, 20, dice)["changes"]
        sent, _, arrived = fire.stop()
        print(f"without the order: {sent} sent, arrived {dict(arrived)}")  # noqa: T201
        assert set(arrived) == KINDS
    finally:
        assert lab.pool.kill(CONTROLLER, "tests.system.tenants.hasty controller")
        lab.pool.start_controller()
        lab.pool.wait_for_hosts()
