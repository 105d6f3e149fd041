"""A quarantine cuts what lives, and holds over a move, over restarts of VM, agent and controller; its end gives all back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from buckler.lab.plan import CONTROLLER
from buckler.lab.pool import Pool
from buckler.lab.story.probing import hold, is_reached, scan
from buckler.model.operatorapi.documents import ApplyRequest, SourceFile
from buckler.model.operatorapi.vms import Allowance, MigrateRequest, QuarantineRequest

pytestmark = pytest.mark.timeout(240)
TENANT = "shop"
PATIENCE = 40.0
REPAIR = """\
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: repair}
spec:
  description: What is in quarantine fetches its patches
  owner: incident-response
  reason: it has to be repaired
  review: 2036-12-31
  tier: quarantine
  from: [{vm: {matchLabels: {buckler.io/quarantine: remediation}}}]
  to: [{vm: {matchLabels: {tier: db}}}]
  ports: [{protocol: TCP, port: 22}]
"""


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def ways(pool: Pool) -> set[str]:
    """Every service of every guest that ``web1`` reaches now, and every one of its own that a neighbour reaches."""
    plan = pool.centre.plan
    mine = plan.guest("web1")
    targets = [
        f"tcp/{each.ipv4}/{port}" for each in plan.guests if each.name != "web1" for port in (22, 80, 8080, 5432)
    ]
    found = {target for target, answer in scan(pool.centre, "web1", targets, 1500).items() if is_reached(answer)}
    inward = [f"tcp/{address}/{port}" for address in (mine.ipv4, mine.ipv6) for port in (22, 80, 8080)]
    for origin in ("web2", "app"):
        answers = scan(pool.centre, origin, inward, 1500)
        found |= {f"{origin} → {target}" for target, answer in answers.items() if is_reached(answer)}
    return found


def restart_agent(pool: Pool, host: str) -> None:
    assert pool.kill(host, "buckler agent")
    pool.start_agent(host)
    pool.wait_for_hosts()


def move(pool: Pool, to: str) -> None:
    with pool.operator() as client:
        client.migrate("web1", MigrateRequest(to), TENANT)
        wait_until(
            "it moved", lambda: (client.vm("web1", TENANT).host, client.vm("web1", TENANT).state) == (to, "running")
        )


@pytest.fixture
def quarantined(pool: Pool) -> Iterator[int]:
    """Put ``web1`` into quarantine while a connection of its own speaks; give the answers that came after it."""
    target = f"tcp/{pool.centre.plan.guest('app').ipv4}/8080"
    connection = hold(pool.centre, "web1", "held", target)
    wait_until("the connection speaks", lambda: int(connection.read().get("received", 0)) > 5)
    with pool.operator() as client:
        view = client.quarantine("web1", QuarantineRequest("it scans", wait=30), TENANT)
    assert view.waiting == ()
    before = int(connection.read_settled()["received"])
    time.sleep(1.5)
    yield int(connection.stop()["received"]) - before
    with pool.operator() as client:
        assert client.release("web1", QuarantineRequest("cleaned", wait=30), TENANT).waiting == ()


def test_a_quarantine_cuts_what_lives_and_holds_wherever_and_however_the_vm_goes_on(
    pool: Pool, quarantined: int
) -> None:
    assert quarantined == 0, "not one answer after every host had closed"
    assert ways(pool) == set()
    move(pool, "host2")
    assert ways(pool) == set()
    restart_agent(pool, "host2")
    assert ways(pool) == set()
    pool.centre.restart("web1")
    assert ways(pool) == set()
    assert pool.kill(CONTROLLER, "buckler controller")
    pool.centre.restart("web1")
    assert ways(pool) == set(), "with the controller away too"
    pool.start_controller()
    pool.wait_for_hosts()
    move(pool, "host1")
    assert ways(pool) == set()
    with pool.operator() as client:
        view = client.vm("web1", TENANT).quarantine
    assert view is not None
    assert {each.host: each.enforced for each in view.hosts} == {"host1": True, "host2": True}


def test_after_its_release_everything_is_as_before(pool: Pool) -> None:
    found = ways(pool)
    assert f"tcp/{pool.centre.plan.guest('app').ipv4}/8080" in found
    with pool.operator() as client:
        client.apply(ApplyRequest(files=(SourceFile("repair.yaml", REPAIR),), wait=30))
        allow = QuarantineRequest("unpatched", Allowance.REMEDIATION, wait=30)
        assert client.quarantine("web1", allow, TENANT).waiting == ()
    pool.wait_for_hosts()
    repair = f"tcp/{pool.centre.plan.guest('db').ipv4}/22"
    assert ways(pool) == {repair}, "remediation is what the quarantine tier says, and nothing else"
    with pool.operator() as client:
        assert client.release("web1", QuarantineRequest("patched", wait=30), TENANT).waiting == ()
    pool.wait_for_hosts()
    assert ways(pool) == found
