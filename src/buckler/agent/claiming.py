"""Takes claims and DNS out of the kernel, in a thread of its own, until they wait for the controller. Reads no message itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from buckler.agent.claims import PendingClaims, read_claims
from buckler.agent.lookups import Lookups, PendingNames
from buckler.agent.names import Meant, Names
from buckler.model.ids import Zone
from buckler.model.shield import Tap
from buckler.ports.claims import Claims, ClaimSource
from buckler.ports.shield import ShieldFailed

_log = structlog.get_logger()
_PERIOD = 0.25
_AT_ONCE = 2048
"""More than the ring holds."""
_DNS = frozenset({ClaimSource.DNS_QUERY, ClaimSource.DNS_ANSWER})


class Claiming:
    """``taps`` are those that the shield is to hold now, ``wake`` calls whoever sends."""

    def __init__(
        self,
        claims: Claims,
        names: Callable[[], Names],
        taps: Callable[[], Mapping[int, Tap]],
        pending: PendingClaims,
        pending_names: PendingNames,
        wake: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._names = names
        self._taps = taps
        self._pending = pending
        self._pending_names = pending_names
        self._lookups = Lookups()
        self._meant: Mapping[Zone, Meant] = {}
        self._wake = wake
        self._shed = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claiming", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(5)

    def take(self) -> None:
        """Take what is there. Raises ShieldFailed."""
        names, taps = self._names(), self._taps()
        if names.meant != self._meant:
            self._meant = names.meant
            self._pending_names.tell_again()
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        seen = self._claims.claims(_AT_ONCE)
        claims = read_claims((one for one in seen if one.source not in _DNS), taps, names, booted_at)
        told = self._lookups.match((one for one in seen if one.source in _DNS), taps, names, names.meant, booted_at)
        counted = self._claims.shed()
        now = counted.lost + counted.suppressed
        # A kernel whose programs were loaded anew counts from zero again.
        shed, self._shed = max(now - self._shed, 0), now
        if taps:
            here = frozenset(names.by_number[tap.vm].vm for tap in taps.values() if tap.vm in names.by_number)
            self._pending.keep(here)
            self._pending_names.keep(here)
        if claims or shed:
            self._pending.put(claims, shed)
        if self._pending_names.put(told) or claims or shed:
            self._wake()

    def _run(self) -> None:
        while not self._is_over.wait(_PERIOD):
            try:
                self.take()
            except ShieldFailed as error:
                _log.warning("claims cannot be read", error=str(error))
            except Exception:
                _log.exception("claims cannot be read")
