"""Takes what shields saw out of the kernel, in a thread of its own, and passes it on named. Counts what was shed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from buckler.agent.flows import record_of
from buckler.agent.names import Names
from buckler.model.flow import FlowRecord
from buckler.ports.shield import ShieldFailed
from buckler.ports.telemetry import Telemetry

_log = structlog.get_logger()
_PERIOD = 0.25
_AT_ONCE = 4096


class Sensing:
    """``deliver`` gets the records and how many events the kernel had to drop before them."""

    def __init__(
        self,
        telemetry: Telemetry,
        names: Callable[[], Names],
        reasons: Mapping[int, str],
        host: str,
        deliver: Callable[[list[FlowRecord], int], None],
    ) -> None:
        self._telemetry = telemetry
        self._names = names
        self._reasons = reasons
        self._host = host
        self._deliver = deliver
        self._shed: int | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._is_over.wait(_PERIOD):
            try:
                self._take()
            except ShieldFailed as error:
                _log.warning("events cannot be read", error=str(error))
            except Exception:
                _log.exception("events cannot be read")

    def _take(self) -> None:
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        names = self._names()
        records = [
            record_of(event, names, self._reasons, self._host, booted_at) for event in self._telemetry.events(_AT_ONCE)
        ]
        now = self._telemetry.shed()
        # What was shed before this agent began is in the counters; programs that were loaded anew count from zero again.
        total = now.lost + now.suppressed
        shed, self._shed = 0 if self._shed is None else max(total - self._shed, 0), total
        if records or shed:
            self._deliver(records, shed)
