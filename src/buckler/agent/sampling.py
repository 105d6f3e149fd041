"""Measures what VMs use, in a thread of its own, and keeps it until it is told. Sends nothing; decides nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
import structlog

from buckler.agent.names import Names
from buckler.agent.series import (
    Inherited,
    close_tap,
    packets_of,
    read_domain,
    read_taps,
    sample_of,
    take_base,
    total_of,
)
from buckler.model.ids import VmId
from buckler.model.sample import Totals
from buckler.model.shield import Tap
from buckler.ports.hypervisor import HypervisorFailed
from buckler.ports.performance import Performance, Reading
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import Share, State, StateFailed
from buckler.ports.telemetry import Telemetry

_log = structlog.get_logger()
_KIND = "performance"


class Sampling:
    """The hypervisor is asked without the lock: the worker, which tells of taps that come and go, never waits for it.

    ``residents`` are the registered domains that are here (uuid → VM); ``most`` samples are kept while nobody takes them.
    """

    def __init__(
        self,
        performance: Performance,
        telemetry: Telemetry,
        state: State,
        names: Callable[[], Names],
        residents: Callable[[], Mapping[str, VmId]],
        wake: Callable[[], None],
        period: float,
        most: int,
    ) -> None:
        self._performance = performance
        self._telemetry = telemetry
        self._state = state
        self._names = names
        self._residents = residents
        self._wake = wake
        self._period = period
        self._most = most
        self._lock = threading.Lock()
        self._shares = state.shares()
        self._inherited = {vm: msgspec.json.decode(body, type=Inherited) for vm, body in state.carried(_KIND).items()}
        self._owners = {ifindex: share.vm for share in self._shares.values() for ifindex in share.taps}
        self._urgent: set[VmId] = set()
        self._is_due = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def settle(self, held: frozenset[int], taps: Mapping[int, Tap]) -> None:
        """Of what an earlier agent left, ``held`` are in the kernel still: any other index would mean another tap."""
        with self._lock:
            self._owners = {ifindex: vm for ifindex, vm in self._owners.items() if ifindex in held}
            for vm, share in self._shares.items():
                kept = {ifindex: seen for ifindex, seen in share.taps.items() if ifindex in held}
                self._shares[vm] = msgspec.structs.replace(share, taps=kept)
        for tap in taps.values():
            self.expect(tap)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over = True
        self._is_due.set()
        self._thread.join(5)

    def hurry(self, vm: VmId) -> None:
        """Measure this VM at once: its domain is about to end here, or has just begun."""
        with self._lock:
            self._urgent.add(vm)
        self._is_due.set()

    def expect(self, tap: Tap) -> None:
        """A tap has its shield."""
        endpoint = self._names().by_number.get(tap.vm)
        if endpoint is not None:
            with self._lock:
                self._owners[tap.ifindex] = endpoint.vm

    def close(self, ifindex: int) -> None:
        """A tap's counts are about to be freed: keep and tell them. Never raises: the tap must close in any case."""
        with self._lock:
            vm = self._owners.pop(ifindex, None)
            if vm is None:
                return
            try:
                last = packets_of(self._telemetry.reasons(ifindex))
                share = self._shares[vm] = close_tap(self._share(vm), ifindex, last)
                self._state.put_shares([share], [sample_of(share, time.time())], self._most)
                self._wake()
            except (ShieldFailed, StateFailed) as error:
                _log.warning("the last counts of a tap may be lost", vm=vm, error=str(error))

    def read(self, only: frozenset[VmId] | None = None) -> None:
        """Take one sample of every VM that is here, or of some. Raises ShieldFailed, StateFailed."""
        readings = self._ask()
        residents = self._residents()
        with self._lock:
            found = {
                residents[reading.uuid.lower()]: reading for reading in readings if reading.uuid.lower() in residents
            }
            here = {*found, *residents.values(), *self._owners.values()}
            here &= here if only is None else only
            for vm in here:
                self._refresh(vm)
                if vm in found:
                    self._shares[vm] = read_domain(self._share(vm), found[vm])
            now = time.time()
            measured = [self._shares[vm] for vm in sorted(here) if vm in found or self._shares[vm].taps]
            self._state.put_shares(measured, [sample_of(share, now) for share in measured], self._most)
        if measured:
            self._wake()

    def total(self, vm: VmId) -> Totals:
        """Of all hosts that the VM was on, as far as is known here, packets to this moment. Raises ShieldFailed."""
        with self._lock:
            self._refresh(vm)
            return self._total(vm)

    def totals(self) -> dict[VmId, Totals]:
        """Those of all VMs that are here, as last measured."""
        with self._lock:
            return {vm: self._total(vm) for vm in {*self._residents().values(), *self._owners.values()}}

    def prepare(self, vm: VmId, given: Totals) -> Inherited:
        """From what an arriving VM's host gave to what would be gone on from."""
        with self._lock:
            return take_base(given, self._total(vm), self._share(vm).totals)

    def adopt(self, vm: VmId, inherited: Inherited) -> None:
        """Go on from there. Raises StateFailed."""
        with self._lock:
            self._state.put_carried(_KIND, vm, msgspec.json.encode(inherited))
            self._inherited[vm] = inherited

    def _total(self, vm: VmId) -> Totals:
        return total_of(self._inherited.get(vm, Inherited()), self._share(vm).totals)

    def _share(self, vm: VmId) -> Share:
        return self._shares.get(vm) or Share(vm)

    def _refresh(self, vm: VmId) -> None:
        taps = [ifindex for ifindex, owner in self._owners.items() if owner == vm]
        self._shares[vm] = read_taps(self._share(vm), self._count(taps))

    def _count(self, taps: Iterable[int]) -> dict[int, Totals]:
        return {ifindex: packets_of(self._telemetry.reasons(ifindex)) for ifindex in taps}

    def _ask(self) -> list[Reading]:
        try:
            return self._performance.readings()
        except HypervisorFailed as error:
            _log.info("libvirt tells no statistics", error=str(error))
            return []

    def _run(self) -> None:
        due = 0.0
        while not self._is_over:
            with self._lock:
                urgent, self._urgent = frozenset(self._urgent), set()
            is_regular = time.monotonic() >= due
            due = time.monotonic() + self._period if is_regular else due
            if is_regular or urgent:
                self._try(None if is_regular else urgent)
            self._is_due.wait(max(due - time.monotonic(), 0.0))
            self._is_due.clear()

    def _try(self, only: frozenset[VmId] | None) -> None:
        try:
            self.read(only)
        except (ShieldFailed, StateFailed) as error:
            _log.warning("no sample was taken", error=str(error))
        except Exception:
            _log.exception("no sample was taken")
