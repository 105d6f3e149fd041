"""What waits for the controller. Durable things (events) are in the state; here are those that may be shed, counted."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from buckler.model.agentapi import Acknowledgement, Counter, FlowBatch, Observation, TaskReport
from buckler.model.flow import FlowRecord

_MAX_FLOWS = 20_000
_MAX_OTHERS = 15_000
"""Of flows that no rule logs: what is left is for those that one does."""
_REPEAT_SECONDS = 10.0
_Report = TypeVar("_Report", Acknowledgement, Observation)


class Outbox:
    """The newest acknowledgement and observation replace older ones; flows queue up to a bound."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._acknowledged = threading.Event()
        self._acknowledgement: Acknowledgement | None = None
        self._observation: Observation | None = None
        self._flows: list[FlowRecord] = []
        self._batch: FlowBatch | None = None
        self._batches = (f"{secrets.token_hex(8)}/{number}" for number in itertools.count())
        self._shed = 0
        self.dropped = 0
        """Flows that found no room here since the agent began, and those that an earlier agent lost untold."""
        self._counters: dict[str, Counter] = {}
        self._reports: list[TaskReport] = []

    def wake(self) -> None:
        self._wake.set()

    def wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()

    def wake_acknowledger(self) -> None:
        self._acknowledged.set()

    def wait_acknowledgement(self, seconds: float) -> None:
        self._acknowledged.wait(seconds)
        self._acknowledged.clear()

    def put_state(self, acknowledgement: Acknowledgement, observation: Observation) -> None:
        """Replace what was to be told; what says the same as before is told again only now and then."""
        with self._lock:
            if self._acknowledgement is not None and self._observation is not None:
                is_recent = observation.at - self._observation.at < _REPEAT_SECONDS
                is_same = _timeless(self._observation) == _timeless(observation)
                is_same &= _timeless(self._acknowledgement) == _timeless(acknowledgement)
                if is_same and is_recent:
                    return
            self._acknowledgement, self._observation = acknowledgement, observation
        self._acknowledged.set()
        self._wake.set()

    def put_flows(self, flows: list[FlowRecord], shed: int) -> None:
        with self._lock:
            before = len(self._flows)
            for flow in flows:
                if len(self._flows) < (_MAX_FLOWS if flow.logged else _MAX_OTHERS):
                    self._flows.append(flow)
            dropped = before + len(flows) - len(self._flows)
            self._shed += shed + dropped
            self.dropped += dropped
        self._wake.set()

    def put_counters(self, counters: Iterable[Counter]) -> None:
        """The newest of each replaces older ones: nothing of them may be shed."""
        with self._lock:
            self._counters.update({counter.key: counter for counter in counters})
        self._wake.set()

    def put_report(self, report: TaskReport) -> None:
        with self._lock:
            self._reports.append(report)
        self._wake.set()

    def acknowledgement(self) -> Acknowledgement | None:
        return self._acknowledgement

    def observation(self) -> Observation | None:
        return self._observation

    def lose_flows(self, count: int) -> None:
        """An earlier agent ended before it had told so many."""
        with self._lock:
            self._shed += count
            self.dropped += count

    def flows(self, limit: int) -> FlowBatch | None:
        """The oldest that wait: the very same batch until ``flows_sent``, so that it is known when it comes twice."""
        with self._lock:
            if self._batch is None and self._flows:
                self._batch = FlowBatch(tuple(self._flows[:limit]), self._shed, next(self._batches))
            return self._batch

    def flows_sent(self) -> None:
        with self._lock:
            if self._batch is not None:
                del self._flows[: len(self._batch.flows)]
                self._shed -= self._batch.shed
                self._batch = None

    def untold_flows(self) -> int:
        with self._lock:
            return len(self._flows)

    def counters(self, limit: int) -> tuple[Counter, ...]:
        """They stay until ``counters_sent``."""
        with self._lock:
            return tuple(itertools.islice(self._counters.values(), limit))

    def counter_keys(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._counters)

    def counters_sent(self, counters: Iterable[Counter]) -> None:
        """One that has changed since waits on."""
        with self._lock:
            for counter in counters:
                if self._counters.get(counter.key) == counter:
                    del self._counters[counter.key]

    def reports(self) -> tuple[TaskReport, ...]:
        with self._lock:
            return tuple(self._reports)

    def report_sent(self, report: TaskReport) -> None:
        with self._lock:
            self._reports.remove(report)


def _timeless(report: _Report) -> _Report:
    return msgspec.structs.replace(report, at=0.0)
