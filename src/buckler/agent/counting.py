"""Keeps totals of what shields counted and hands over what changed. Sends nothing; frees counts only when they are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from buckler.agent.names import Names
from buckler.agent.outbox import Outbox
from buckler.agent.tally import NOBODY, SHED, add_pairs, add_up, forget_pairs
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import State, StateFailed, Tally
from buckler.ports.telemetry import Telemetry

_log = structlog.get_logger()
_PERIOD = 5.0


class Counting:
    """A thread of its own reads; ``later`` does what must not meet an arriving VM, in the worker's thread.

    Order: read, keep on disk, hand over; freed in the kernel only after that. ``residents`` are the numbers of the VMs
    whose taps are here.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        state: State,
        names: Callable[[], Names],
        residents: Callable[[], frozenset[int]],
        outbox: Outbox,
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._telemetry = telemetry
        self._state = state
        self._names = names
        self._residents = residents
        self._outbox = outbox
        self._later = later
        self._tallies = state.tallies()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting", daemon=True)

    def start(self) -> None:
        """Whatever an earlier agent kept is told again: who has it already counts nothing twice."""
        self._outbox.put_counters([tally.counter for tally in self._tallies.values()])
        self._thread.start()

    def stop(self) -> None:
        """Keep the last counts; the next agent tells them."""
        self._is_over.set()
        self._thread.join(5)
        self._try(self.read)

    def read(self) -> None:
        """Carry all totals on. Raises ShieldFailed, StateFailed."""
        with self._lock:
            shed = self._telemetry.shed()
            counts = self._telemetry.pairs()
            lost = {SHED: shed.lost + shed.suppressed, f"{SHED}/agent": self._outbox.dropped}
            changed = add_up(self._tallies, counts, lost, self._names(), time.time_ns())
            self._keep(changed)
            self._drop_what_is_over()
        if {count.vm for count in counts} - {*self._residents(), NOBODY}:
            self._later(lambda: self._try(self._free))

    def _keep(self, changed: dict[str, Tally]) -> None:
        if changed:
            self._state.put_tallies(changed.values())
            self._tallies.update(changed)
            self._outbox.put_counters([tally.counter for tally in changed.values()])

    def _drop_what_is_over(self) -> None:
        """Told, and not in the kernel any more: should it come back, it begins a new epoch, which adds to this one."""
        waiting = self._outbox.counter_keys()
        over = {key for key, tally in self._tallies.items() if not tally.packets and key not in waiting}
        if over:
            self._state.forget_tallies(over)
            self._tallies = {key: tally for key, tally in self._tallies.items() if key not in over}

    def _free(self) -> None:
        """In the worker's thread nobody arrives between the last look and the freeing."""
        with self._lock:
            counts = [count for count in self._telemetry.pairs() if count.vm not in {*self._residents(), NOBODY}]
            self._keep(add_pairs(self._tallies, counts, self._names(), time.time_ns()))
            self._telemetry.forget_pairs(frozenset(count.vm for count in counts))
            self._keep(forget_pairs(self._tallies, counts))

    def _run(self) -> None:
        while not self._is_over.wait(_PERIOD):
            self._try(self.read)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ShieldFailed, StateFailed) as error:
            _log.warning("counters cannot be read", error=str(error))
        except Exception:
            _log.exception("counters cannot be read")
