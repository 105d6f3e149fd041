"""An agent's real uplink against a real controller: what it does with answers for names that wait to be told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from buckler.agent.claims import PendingClaims
from buckler.agent.lookups import MAX_WAITING_PER_VM, PendingNames
from buckler.agent.outbox import Outbox
from buckler.agent.uplink import Uplink
from buckler.client.agentside import ControllerClient
from buckler.drivers.inmemory.state import InMemoryState
from buckler.model.agentapi import Acknowledgement, NameClaim, Observation, TaskReport, TaskState
from buckler.model.ids import Revision

from .conftest import Agent, ControllerProcess, wait_for
from .shop import WEB_MAC, WEB_UUID
from .test_controller_claims import told
from .test_controller_names import claim, pool, running

__all__ = ["pool"]
Ground = tuple[ControllerProcess, Agent, Agent]
GOOD, OTHER, GATEWAY = "203.0.113.7", "203.0.113.8", "10.0.0.254"


class Line:
    """The uplink of one host, and what waits for it."""

    def __init__(self, controller: ControllerProcess, agent: Agent) -> None:
        self.outbox, self.names = Outbox(), PendingNames()
        client = ControllerClient(controller.url, agent.answer.host, agent.key, agent.answer.ca_certificate)
        self.uplink = Uplink((client,), InMemoryState(), self.outbox, PendingClaims(), self.names)
        self.uplink.start()

    def put(self, *claims: NameClaim) -> bool:
        """As the agent's reader of the shields does; say whether any waits now that did not."""
        waits = self.names.put(claims)
        self.outbox.wake()
        return waits

    @property
    def waiting(self) -> list[str]:
        return [each.address for each in self.names.oldest(10_000)[0]]

    def wait_told(self) -> None:
        wait_for("all is told", lambda: not self.waiting, 60)


@pytest.fixture
def lines(pool: Ground) -> Iterator[tuple[Line, Line]]:
    made = Line(pool[0], pool[1]), Line(pool[0], pool[2])
    yield made
    for line in made:
        line.uplink.stop()


def learned(controller: ControllerProcess) -> set[str]:
    with controller.operator() as client:
        return {each.address for each in client.names()}


def test_what_was_granted_or_refused_waits_no_more_and_is_not_told_at_once_again(
    pool: Ground, lines: tuple[Line, Line]
) -> None:
    controller, line = pool[0], lines[0]
    good, bad = claim(controller, address=GOOD), claim(controller, address=GATEWAY)
    assert line.put(good, bad)
    line.wait_told()
    assert learned(controller) == {GOOD}
    assert len(told(controller, "name.refused")) == 1
    assert not line.put(msgspec.structs.replace(good, at=good.at + 1)), "the controller holds it for longer by far"
    assert line.put(msgspec.structs.replace(bad, at=bad.at + 1)), "it may be wrong no longer"


def test_what_a_dead_controller_was_not_told_waits_until_it_is_back(pool: Ground, lines: tuple[Line, Line]) -> None:
    controller, line = pool[0], lines[0]
    first, second = claim(controller, address=GOOD), claim(controller, address=OTHER)
    line.put(first)
    line.wait_told()
    controller.kill()
    line.put(second)
    wait_for("it was tried", lambda: line.uplink._complaint != "")
    assert line.waiting == [OTHER]
    controller.start()
    line.wait_told()
    assert learned(controller) == {GOOD, OTHER}


def test_what_comes_before_its_vm_waits_for_it(pool: Ground, lines: tuple[Line, Line]) -> None:
    """A guest asks as soon as it runs, which the controller may not have heard of yet."""
    controller, one, two = pool
    early, unknown = claim(controller, address=GOOD), claim(controller, address=OTHER)
    line = lines[1]
    line.put(early, msgspec.structs.replace(unknown, vm="nobody"))
    wait_for("both were answered", lambda: line.waiting == [GOOD])
    assert learned(controller) == set()
    one.observe()
    two.observe(running(WEB_UUID, WEB_MAC))
    line.wait_told()
    assert learned(controller) == {GOOD}


def test_what_found_no_room_is_told_as_a_number_once(pool: Ground, lines: tuple[Line, Line]) -> None:
    controller, line = pool[0], lines[0]
    base = claim(controller)
    crowd = [
        msgspec.structs.replace(base, name=f"a{n}.example.org", address=f"198.18.{n // 200}.{n % 200 + 1}")
        for n in range(MAX_WAITING_PER_VM + 44)
    ]
    line.put(*crowd)
    line.wait_told()
    line.put(msgspec.structs.replace(base, address=GATEWAY))
    line.wait_told()
    assert len(learned(controller)) == 128
    shed = [each for each in controller.log().splitlines() if "answers for names were shed" in each]
    assert len(shed) == 1
    assert "count=44 host=host-a" in shed[0]


def test_what_the_controller_refuses_of_one_kind_keeps_no_other_back(pool: Ground, lines: tuple[Line, Line]) -> None:
    """Guests name a part of what is observed: none of them may silence a host."""
    controller, line = pool[0], lines[0]
    too_much = Observation(time.time(), Revision(1), (), ("x" * (5 << 20),))
    line.outbox.put_state(Acknowledgement(Revision(1), time.time()), too_much)
    line.put(claim(controller, address=GOOD))
    line.wait_told()
    assert learned(controller) == {GOOD}


def test_the_report_of_a_task_that_the_controller_forgot_keeps_none_behind_it(
    pool: Ground, lines: tuple[Line, Line]
) -> None:
    line = lines[0]
    for number in range(2):
        line.outbox.put_report(TaskReport(f"gone-{number}", TaskState.DONE))
    wait_for("no report waits", lambda: not line.outbox.reports(), 60)
