"""Whether this host's wall clock may be believed: allowances with an end hang on it. Sets no clock.

Behind is what is not believed: there an allowance would outlive its end. A clock that is ahead ends it early, which opens nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from buckler.agent.recorder import Recorder
from buckler.model.bundle import Manifest
from buckler.model.event import EventKind
from buckler.ports.shield import ShieldFailed, Upkeep

_log = structlog.get_logger()
_TOLERANCE = 5.0
_MANIFEST, _CONTROLLER = "the newest manifest", "the controller"


class Timekeeper:
    """Offsets of clocks against boot time, which nobody steps. One thread keeps; others may note what they hear."""

    def __init__(
        self,
        upkeep: Upkeep,
        recorder: Recorder,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._upkeep = upkeep
        self._recorder = recorder
        self._wall, self._boot = wall, boot
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._issued = 0.0
        self._doubt = ""
        self._has_told_doubt = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the clock is not believed."""
        return (self._doubt,) if self._doubt else ()

    def hear(self, at: float) -> None:
        """The controller said what time it was, some moments ago. Its newest word counts: it may have been wrong before."""
        with self._lock:
            self._said[_CONTROLLER] = at - self._boot()

    def keep(self, manifest: Manifest | None) -> None:
        """Judge the clock and tell the programs. Needs no disk: one that is full must not keep the pass from anything."""
        if manifest is not None and manifest.issued_at != self._issued:
            self._issued = manifest.issued_at
            with self._lock:
                self._said[_MANIFEST] = manifest.issued_at - self._boot()
        self._doubt = self._judge()
        try:
            if self._upkeep.keep_time(is_believed=not self._doubt) and not self._doubt:
                _log.info("the programs follow the clock")
        except ShieldFailed as error:
            _log.warning("the programs could not be told of the clock", error=str(error))

    def tell(self) -> None:
        """Record it when the judgement has changed. Raises StateFailed."""
        if bool(self._doubt) != self._has_told_doubt:
            kind = EventKind.CLOCK_DOUBTED if self._doubt else EventKind.CLOCK_BELIEVED
            self._recorder.record(kind, cause=self._doubt or "the clock goes right again")
            self._has_told_doubt = bool(self._doubt)

    def _judge(self) -> str:
        with self._lock:
            said = dict(self._said)
        now = self._wall() - self._boot()
        whose, behind = max(
            ((whose, offset - now) for whose, offset in said.items()), key=lambda x: x[1], default=("", 0)
        )
        if behind <= _TOLERANCE:
            return ""
        return f"the clock is {behind:.0f} seconds behind {whose}: allowances with an end are taken as ended"
