"""A scanning worm among the shop's guests: policy alone keeps it to what ``reach`` says; a Response stops it."""

from __future__ import annotations

import sys
import time

import msgspec
import pytest

from buckler.lab.plan import OUTSIDE_IPV4, SERVED
from buckler.lab.pool import Pool
from buckler.lab.story.probing import is_reached, scan
from buckler.model.operatorapi.documents import ApplyRequest, Reference, SourceFile
from buckler.model.operatorapi.vms import QuarantineRequest

pytestmark = pytest.mark.timeout(240)
TENANT = "shop"
ZERO = "web1"
PORTS = (22, 80, 5432, 8080)
"""In the order in which it tries them: every address at one port, then at the next."""
LIFE = 9000
GAP = 4
RESPONSE = """\
apiVersion: buckler.io/v1
kind: Response
metadata: {name: scanners}
spec:
  description: A VM that knocks at its neighbours is cut off
  owner: incident-response
  reason: nothing in the shop asks many others in vain
  review: 2036-12-31
  priority: high
  mode: MODE
  trigger: {refusals: 3, peers: 2, within: 5}
  exempt: {matchLabels: {scanner: "yes"}}
  action: quarantine
  limit: {vms: 5, within: 60}
"""


class Outbreak(msgspec.Struct, frozen=True):
    """What one run came to. ``stopped`` is in seconds from its start to each quarantine."""

    infected: frozenset[str]
    attempts: int
    stopped: dict[str, float]


def say(line: str) -> None:
    """Figures are shown with ``-s``."""
    sys.stdout.write(f"{line}\n")


def registered(pool: Pool) -> list[str]:
    return [guest.name for guest in pool.centre.plan.guests if guest.registered]


def run_in(pool: Pool, guest: str, command: str) -> str:
    return pool.centre.execute(guest, command).output


def reachable(pool: Pool, zero: str) -> frozenset[str]:
    """Whom policy lets a worm come to from ``zero``, over however many others, by what guests serve."""
    with pool.operator() as client:
        reach = client.reach(TENANT)
    guests = set(registered(pool))
    steps = {
        (pair.origin, pair.to)
        for pair in reach.pairs
        if {pair.origin, pair.to} <= guests
        and any(
            each.protocol in ("any", "TCP") and each.port <= port <= each.end_port
            for each in pair.allowed
            for port in PORTS
            if f"tcp/{port}" in SERVED
        )
    }
    found, ahead = {zero}, [zero]
    while ahead:
        here = ahead.pop()
        fresh = {to for origin, to in steps if origin == here} - found
        found |= fresh
        ahead += fresh
    return frozenset(found)


def let_loose(pool: Pool, zero: str) -> Outbreak:
    """Make every guest susceptible, start the worm in one, wait until all its offspring are dead."""
    guests = [guest.name for guest in pool.centre.plan.guests]
    for guest in guests:
        run_in(pool, guest, "rm -f /tmp/infected /tmp/worm; touch /tmp/susceptible")
    began = time.time()
    prefix = pool.centre.plan.guest(zero).ipv4.rpartition(".")[0] + "."
    ports = " ".join(map(str, PORTS))
    last = OUTSIDE_IPV4.rpartition(".")[2]
    command = f"touch /tmp/infected; probe worm {LIFE} {GAP} {prefix} 1 {last} {ports} >/dev/null 2>&1 &"
    run_in(pool, zero, command)
    stopped: dict[str, float] = {}
    while time.time() < began + LIFE / 1000 + 1:
        stopped |= {name: at - began for name, at in closed(pool).items() if name not in stopped}
        time.sleep(0.1)
    found, attempts = set(), 0
    for guest in guests:
        told = run_in(
            pool, guest, "[ -e /tmp/infected ] && echo infected; cat /tmp/worm 2>/dev/null; rm -f /tmp/susceptible"
        )
        found |= {guest} if "infected" in told else set()
        words = told.replace("infected", "").split()
        attempts += int(words[1]) if words else 0
    return Outbreak(frozenset(found), attempts, stopped)


def closed(pool: Pool) -> dict[str, float]:
    """Who is in quarantine on every host by now, and the time at which that was first seen."""
    with pool.operator() as client:
        found = [client.vm(each.name, TENANT) for each in client.vms(TENANT) if each.quarantined]
    return {
        each.name: time.time()
        for each in found
        if each.quarantine is not None and all(host.enforced for host in each.quarantine.hosts)
    }


def occurrences(pool: Pool, vm: str) -> list[dict[str, object]]:
    with pool.operator() as client:
        return [each.detail for each in client.history(vm, TENANT) if each.kind == "response.triggered"]


def apply_response(pool: Pool, mode: str) -> None:
    with pool.operator() as client:
        client.apply(ApplyRequest(files=(SourceFile("response.yaml", RESPONSE.replace("MODE", mode)),), wait=20))


@pytest.fixture(scope="module")
def without(pool: Pool) -> Outbreak:
    """The worm under the shop's policy alone; the Response only looks."""
    apply_response(pool, "observe")
    return let_loose(pool, ZERO)


def test_under_the_shops_policy_a_worm_comes_exactly_as_far_as_reach_says(pool: Pool, without: Outbreak) -> None:
    expected = reachable(pool, ZERO)
    say(f"without a response: {sorted(without.infected)} infected, {without.attempts} attempts")
    assert without.infected == expected
    assert {"app", "db"} <= expected < set(registered(pool)), "the shop keeps some from it, and not all"
    assert without.stopped == {}


def test_a_response_that_observes_records_who_it_would_have_cut_off(pool: Pool, without: Outbreak) -> None:
    assert without.attempts > 100
    told = occurrences(pool, ZERO)
    assert told
    assert {each["outcome"] for each in told} == {"observed"}
    assert all(each["refusals"] > 3 and each["peers"] > 2 for each in told)


def test_a_response_that_enforces_stops_the_worm_and_release_gives_the_shop_back(pool: Pool, without: Outbreak) -> None:
    apply_response(pool, "enforce")
    outbreak = let_loose(pool, ZERO)
    say(
        f"with it: {sorted(outbreak.infected)} infected, {outbreak.attempts} attempts, stopped after {outbreak.stopped} s"
    )
    assert ZERO in outbreak.stopped
    assert outbreak.stopped[ZERO] < 5
    assert outbreak.infected < without.infected, "it was stopped before it had all"
    with pool.operator() as client:
        view = client.vm(ZERO, TENANT)
        assert view.quarantine is not None
        assert (view.quarantine.response, view.quarantine.by) == ("scanners", "controller")
        assert "refused within 5 s" in view.quarantine.reason
        for guest in registered(pool):
            if client.vm(guest, TENANT).quarantined:
                client.release(guest, QuarantineRequest("the worm is dead", wait=20), TENANT)
        client.delete(Reference("Response", "scanners"))
    pool.wait_for_hosts()
    target = f"tcp/{pool.centre.plan.guest('app').ipv4}/8080"
    assert is_reached(scan(pool.centre, ZERO, [target])[target])
