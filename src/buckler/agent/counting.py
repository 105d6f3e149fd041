"""Keeps totals of what shields counted and hands over what changed. Sends nothing; frees counts only when they are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from buckler.agent.counted import Inherited, fold_counters, own_counters, total_counters
from buckler.agent.names import Names
from buckler.agent.outbox import Outbox
from buckler.agent.tally import NOBODY, SHED, add_pairs, add_staged, add_up, forget_counts, forget_pairs
from buckler.model.agentapi import Counter
from buckler.model.ids import VmId
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import State, StateFailed, Tally
from buckler.ports.telemetry import Telemetry

_log = structlog.get_logger()
_PERIOD = 5.0
_KIND = "counters"
_UNTOLD = "untold-flows"
_SHED_HERE = f"{SHED}/agent"


class Counting:
    """A thread of its own reads; ``later`` does what must not meet an arriving VM, in the worker's thread.

    Order: read, keep on disk, hand over; freed in the kernel only after that. ``residents`` are the numbers of the VMs
    whose taps are here, None while that is not known: then nothing is over.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        state: State,
        names: Callable[[], Names],
        residents: Callable[[], frozenset[int] | None],
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
        self._inherited = {vm: msgspec.json.decode(body, type=Inherited) for vm, body in state.carried(_KIND).items()}
        if _SHED_HERE in self._tallies:  # that count is this agent's own: it begins at zero with it
            self._tallies |= forget_counts(self._tallies, [_SHED_HERE])
        self._untold = -1
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting", daemon=True)

    def start(self) -> None:
        """Whatever an earlier agent kept is told again: who has it already counts nothing twice.

        Flows that it had not told died with it: they are counted as shed, by its last word (at most five seconds old).
        """
        self._outbox.lose_flows(int(self._state.document(_UNTOLD) or 0))
        self._outbox.put_counters([tally.counter for tally in self._tallies.values()])
        self._thread.start()

    def stop(self) -> None:
        """Keep the last counts; the next agent tells them."""
        self._is_over.set()
        self._thread.join(5)
        self._try(self.read)

    def close(self) -> None:
        """Nothing is told any more."""
        self._try(self.note_untold)

    def read(self) -> None:
        """Carry all totals on. Raises ShieldFailed, StateFailed."""
        with self._lock:
            shed = self._telemetry.shed()
            counts = self._telemetry.pairs()
            lost = {SHED: shed.lost + shed.suppressed, _SHED_HERE: self._outbox.dropped}
            changed = add_up(self._tallies, counts, lost, self._names(), time.time_ns(), self._telemetry.staged())
            self._keep(changed)
            self._drop_what_is_over()
        self.note_untold()
        residents = self._residents()
        if residents is not None and {count.vm for count in counts} - {*residents, NOBODY}:
            self._later(lambda: self._try(self._free))

    def note_untold(self) -> None:
        """How many flows would be lost if this agent ended now. Raises StateFailed."""
        untold = self._outbox.untold_flows()
        if untold != self._untold:
            self._state.put_document(_UNTOLD, str(untold))
            self._untold = untold

    def own(self, vm: VmId) -> tuple[Counter, ...]:
        """What this host counted for a VM, to this moment, and keeps. Raises ShieldFailed, StateFailed."""
        self.read()
        return self._own(vm, {})

    def totals(self, vm: VmId) -> tuple[Counter, ...]:
        """Of all hosts that the VM was on, as far as is known here, to this moment. Raises ShieldFailed."""
        number = self.number_of(vm)
        counts = [count for count in self._telemetry.pairs() if count.vm == number]
        staged = [each for each in self._telemetry.staged() if each.count.vm == number]
        names, now = self._names(), time.time_ns()
        with self._lock:
            fresh = add_pairs(self._tallies, counts, names, now) | add_staged(self._tallies, staged, names, now)
        return fold_counters(total_counters(self._inherited.get(vm, Inherited()), self._own(vm, fresh)), number or 0)

    def known_totals(self, vm: VmId) -> tuple[Counter, ...]:
        """Those as last read."""
        return total_counters(self._inherited.get(vm, Inherited()), self._own(vm, {}))

    def adopt(self, vm: VmId, inherited: Inherited) -> None:
        """Go on from what a VM brought along. Raises StateFailed."""
        with self._lock:
            self._state.put_carried(_KIND, vm, msgspec.json.encode(inherited))
            self._inherited[vm] = inherited

    def number_of(self, vm: VmId) -> int | None:
        """How programs in the kernel know a VM."""
        return next((number for number, each in self._names().by_number.items() if each.vm == vm), None)

    def _own(self, vm: VmId, fresh: Mapping[str, Tally]) -> tuple[Counter, ...]:
        number = self.number_of(vm)
        with self._lock:
            return () if number is None else own_counters({**self._tallies, **fresh}, number)

    def _keep(self, changed: dict[str, Tally]) -> None:
        if changed:
            self._state.put_tallies(changed.values())
            self._tallies.update(changed)
            self._outbox.put_counters([tally.counter for tally in changed.values()])

    def _drop_what_is_over(self) -> None:
        """Told, gone from the kernel and its VM from here: should it come back, it begins a new epoch, which adds to this."""
        waiting, residents = self._outbox.counter_keys(), self._residents()
        over = {key for key, tally in self._tallies.items() if not tally.packets and key not in waiting}
        over = set() if residents is None else {key for key in over if key.split("/", 1)[0] not in map(str, residents)}
        if over:
            self._state.forget_tallies(over)
            self._tallies = {key: tally for key, tally in self._tallies.items() if key not in over}

    def _free(self) -> None:
        """In the worker's thread nobody arrives between the last look and the freeing."""
        residents = self._residents()
        if residents is None:
            return
        with self._lock:
            counts = [count for count in self._telemetry.pairs() if count.vm not in {*residents, NOBODY}]
            self._keep(add_pairs(self._tallies, counts, self._names(), time.time_ns()))
            staged = [each for each in self._telemetry.staged() if each.count.vm not in {*residents, NOBODY}]
            self._keep(add_staged(self._tallies, staged, self._names(), time.time_ns()))
            gone = {count.vm for count in counts} | {each.count.vm for each in staged}
            self._telemetry.forget_pairs(frozenset(gone))
            self._keep(forget_pairs(self._tallies, counts, staged))

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
