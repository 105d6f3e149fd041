"""Looks often and cheaply whether every shield still hangs where it should: nobody tells of a removed link. Repairs nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from buckler.ports.shield import ShieldFailed, Upkeep

_log = structlog.get_logger()
_PERIOD = 0.4


class Sentry:
    """A thread of its own: a worker that is busy does not keep it from looking. ``fell`` asks for a pass."""

    def __init__(self, upkeep: Upkeep, fell: Callable[[], None]) -> None:
        self._upkeep = upkeep
        self._fell = fell
        self._known: frozenset[int] = frozenset()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sentry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(5)

    def look(self) -> None:
        """Tell of what fell since the last look; what a pass could not put back is left to the ordinary ones."""
        fallen = self._upkeep.fallen()
        if fallen - self._known:
            self._fell()
        self._known = fallen

    def _run(self) -> None:
        while not self._is_over.wait(_PERIOD):
            try:
                self.look()
            except ShieldFailed as error:
                _log.warning("the shields cannot be looked at", error=str(error))
            except Exception:
                _log.exception("the shields cannot be looked at")
