"""Takes claims out of the kernel, in a thread of its own, until they wait for the controller. Reads no message itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from buckler.agent.claims import PendingClaims, read_claims
from buckler.agent.names import Names
from buckler.model.shield import Tap
from buckler.ports.claims import Claims
from buckler.ports.shield import ShieldFailed

_log = structlog.get_logger()
_PERIOD = 0.25
_AT_ONCE = 512


class Claiming:
    """``taps`` are those that the shield is to hold now, ``wake`` calls whoever sends."""

    def __init__(
        self,
        claims: Claims,
        names: Callable[[], Names],
        taps: Callable[[], Mapping[int, Tap]],
        pending: PendingClaims,
        wake: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._names = names
        self._taps = taps
        self._pending = pending
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
        booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        claims = read_claims(self._claims.claims(_AT_ONCE), taps, names, booted_at)
        counted = self._claims.shed()
        now = counted.lost + counted.suppressed
        # A kernel whose programs were loaded anew counts from zero again.
        shed, self._shed = max(now - self._shed, 0), now
        if taps:
            self._pending.keep(
                frozenset(names.by_number[tap.vm].vm for tap in taps.values() if tap.vm in names.by_number)
            )
        if claims or shed:
            self._pending.put(claims, shed)
            self._wake()

    def _run(self) -> None:
        while not self._is_over.wait(_PERIOD):
            try:
                self.take()
            except ShieldFailed as error:
                _log.warning("claims cannot be read", error=str(error))
            except Exception:
                _log.exception("claims cannot be read")
