"""What a VM used and what was counted of it goes on over ten moves: no gap, nothing lost, nothing twice."""

import contextlib
import itertools
import json
import time

import msgspec
import pytest
import yaml

from buckler.lab.pool import BUCKLER, Pool
from buckler.lab.story.cast import TENANT, Cast, wait_until
from buckler.lab.story.motion_steps import migrate_by_task
from buckler.lab.story.probing import hammer

PERIOD = 1.0
DOWNTIME = 2.0
MOVES = 10
ANNOUNCED = 18
"""At most so many frames QEMU itself sends for a VM after a move, for switches to learn where it is (14 were seen).

A move whose frames were counted twice would show: some 150 of the guest's own belong to each."""
BY_THE_WAY = 6
"""So many frames may pass (neighbours are asked for) between reading the guest's own counts and the next sample."""


@pytest.fixture
def sampled(pool: Pool, cast: Cast) -> Cast:
    """Every agent takes a sample each second."""
    for host in pool.centre.plan.hosts:
        path = pool.centre.root(host.name) / "etc/buckler/agent.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "sample-seconds": PERIOD}))
        pool.kill(host.name, "buckler agent")
        pool.start_agent(host.name)
    pool.wait_for_hosts()
    return cast


def series(cast: Cast, since: float = 0):
    with cast.operator() as client:
        return client.samples("app", TENANT, since)


def own_counts(cast: Cast) -> tuple[int, int]:
    """(received, sent) packets as the guest's own kernel counts them: they move with its memory."""
    answer = cast.centre.execute("app", "cd /sys/class/net/eth0/statistics; cat rx_packets tx_packets")
    received, sent = answer.output.split()
    return int(received), int(sent)


def counted(cast: Cast, verdict: str) -> int:
    """Packets of what app began with db, answers included, as app's own shields counted."""
    with cast.operator() as client:
        items = client.counters()
    wanted = ("app", "db", "egress", verdict)
    return sum(item.packets for item in items if (item.local, item.peer, item.direction, item.verdict) == wanted)


def newest(cast: Cast):
    """A sample that was taken after this was asked."""
    asked = time.time()
    found = []

    def is_there() -> bool:
        found[:] = series(cast, asked + 0.2)
        return bool(found)

    wait_until("there is a new sample", is_there)
    return found[-1]


def settled_counts(cast: Cast) -> tuple[int, int]:
    """(allowed, denied) once they have not risen for longer than agents take to tell it."""
    seen = [(counted(cast, "allow"), counted(cast, "deny"))]

    def is_settled() -> bool:
        time.sleep(6)
        seen.append((counted(cast, "allow"), counted(cast, "deny")))
        return seen[-1] == seen[-2]

    wait_until("the counts stand", is_settled, seconds=40)
    return seen[-1]


@pytest.mark.timeout(400)
def test_a_series_over_ten_moves_has_no_gap_and_equals_what_was_sent(sampled: Cast):
    cast, db = sampled, sampled.guest("db")
    targets = [f"icmp/{db.ipv4}/7", f"icmp/{db.ipv6}/7"]
    warm = hammer(cast.centre, "app", "warm", targets)
    wait_until("the allowed speak", lambda: int(warm.read().get("answered", 0)) > 10)
    warm.stop()
    allowed_before, denied_before = settled_counts(cast)
    rx_before, tx_before = own_counts(cast)
    before, entries = newest(cast), len(cast.ledger())

    pings = hammer(cast.centre, "app", "pings", targets, 20)
    forbidden = hammer(cast.centre, "app", "forbidden", [f"udp/{db.ipv4}/514", f"udp/{db.ipv6}/514"], 20)
    hosts = [host.name for host in cast.centre.plan.hosts]
    for _ in range(MOVES):
        home = cast.centre.host_of("app")
        migrate_by_task(cast, "app", next(name for name in hosts if name != home))
    denied = int(forbidden.stop()["sent"])
    sent, answered = (int(count) for name, count in pings.stop().items() if name in ("sent", "answered"))
    rx_after, tx_after = own_counts(cast)
    after = newest(cast)

    found = [item for item in series(cast, before.at - 0.001) if item.at <= after.at]
    assert {item.host for item in found} == set(hosts)
    pauses = [later.at - earlier.at for earlier, later in itertools.pairwise(found)]
    assert max(pauses) <= 2 * PERIOD + DOWNTIME, pauses
    for earlier, later in itertools.pairwise(found):
        figures = [(getattr(earlier, name), getattr(later, name)) for name in msgspec.structs.asdict(later)
                   if name not in ("at", "host", "memory")]  # fmt: skip
        assert all(a <= b for a, b in figures), (earlier, later)
    assert before.memory > 10_000_000 < after.memory
    assert after.cpu_seconds - before.cpu_seconds > 1
    assert sent > 500 < denied

    # The guest's own kernel is the witness: what it sent, its shields passed or refused, and QEMU announced it.
    judged = after.sent_packets + after.refused_packets - before.sent_packets - before.refused_packets
    assert -BY_THE_WAY <= judged - (tx_after - tx_before) <= ANNOUNCED * MOVES + BY_THE_WAY
    arrived = after.received_packets - before.received_packets
    lost_at_stop = arrived - (rx_after - rx_before)
    assert -BY_THE_WAY <= lost_at_stop <= BY_THE_WAY + 50 * MOVES * DOWNTIME
    arrivals = [entry.detail for entry in cast.ledger()[entries:] if entry.kind == "migration.arrived"]
    assert len(arrivals) == MOVES
    assert all({"counters", "performance"} <= set(each["sections"]) for each in arrivals), arrivals
    status = cast.centre.run_on(cast.centre.host_of("app"), *BUCKLER, "agent", "status", "-o", "json")
    here = next(each for each in json.loads(status)["vms"].values() if each["name"] == "app")
    assert abs(here["sent_packets"] - after.sent_packets) <= BY_THE_WAY * MOVES

    allowed_after, denied_after = settled_counts(cast)
    assert denied_after - denied_before == denied
    assert answered <= allowed_after - allowed_before - sent <= answered + lost_at_stop + BY_THE_WAY


@pytest.mark.timeout(200)
def test_with_the_controller_away_samples_wait_and_come_once(sampled: Cast):
    cast = sampled
    before = newest(cast)
    cast.pool.stop_controller()
    try:
        target = f"icmp/{cast.guest('db').ipv4}/8"
        pings = hammer(cast.centre, "app", "away", [target], 20)
        time.sleep(5)
        sent = int(pings.stop()["sent"])
    finally:
        cast.pool.start_controller()
    cast.pool.wait_for_hosts()
    after = newest(cast)
    found = [item for item in series(cast, before.at - 0.001) if item.at <= after.at]
    pauses = [later.at - earlier.at for earlier, later in itertools.pairwise(found)]
    assert max(pauses) <= 2 * PERIOD + DOWNTIME, pauses
    assert len({(item.at, item.host) for item in found}) == len(found)
    assert after.sent_packets - before.sent_packets >= sent
    with contextlib.closing(cast.operator()) as client:
        assert "buckler_samples_shed_total" in client.metrics()
