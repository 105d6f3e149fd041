"""What a kernel was proven to enforce goes out at once, whatever else waits or fails."""

from __future__ import annotations

import threading
import time

import pytest

from buckler.agent.acknowledging import Acknowledger
from buckler.agent.outbox import Outbox
from buckler.client.agentside import ControllerAway, ControllerRefused
from buckler.model.agentapi import Acknowledgement, Observation
from buckler.model.ids import Revision


class Controller:
    """Takes what it is told once it is there; notes everything."""

    def __init__(self, failures: int = 0, failure: Exception | None = None) -> None:
        self.heard: list[int] = []
        self._failures, self._failure = failures, failure
        self._news = threading.Condition()

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        with self._news:
            if self._failures:
                self._failures -= 1
                raise self._failure or ControllerAway("away")
            self.heard.append(acknowledgement.revision)
            self._news.notify_all()

    def wait_for(self, revision: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: revision in self.heard, 30), self.heard


@pytest.fixture
def outbox():
    return Outbox()


def _told(outbox: Outbox, revision: int) -> None:
    now = time.time()
    outbox.put_state(Acknowledgement(Revision(revision), now), Observation(now, Revision(revision), ()))


def _started(outbox: Outbox, *controllers: Controller) -> Acknowledger:
    acknowledger = Acknowledger(controllers, outbox)  # type: ignore[arg-type]
    acknowledger.start()
    return acknowledger


def test_each_newest_acknowledgement_is_sent_once(outbox: Outbox):
    controller = Controller()
    acknowledger = _started(outbox, controller)
    for revision in (1, 2, 3):
        _told(outbox, revision)
        controller.wait_for(revision)
    outbox.wake_acknowledger()
    acknowledger.stop()
    assert controller.heard == [1, 2, 3]


@pytest.mark.parametrize("failure", [ControllerAway("away"), ControllerRefused(409, {}), RuntimeError("a slip")])
def test_what_nobody_took_is_sent_again(outbox: Outbox, failure: Exception):
    controller = Controller(failures=1, failure=failure)
    acknowledger = _started(outbox, controller)
    _told(outbox, 7)
    controller.wait_for(7)
    acknowledger.stop()
    assert controller.heard == [7]


def test_another_controller_takes_it_where_the_first_does_not(outbox: Outbox):
    away, there = Controller(failures=1000), Controller()
    acknowledger = _started(outbox, away, there)
    _told(outbox, 5)
    there.wait_for(5)
    acknowledger.stop()
    assert away.heard == []


def test_it_goes_out_while_nobody_empties_the_rest_of_the_outbox(outbox: Outbox):
    controller = Controller()
    acknowledger = _started(outbox, controller)
    outbox.put_flows([], 3)
    _told(outbox, 9)
    controller.wait_for(9)
    acknowledger.stop()
    assert outbox.observation() is not None
