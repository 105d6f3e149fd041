"""Events of this host into the spool. Owns their tenant and time, not their meaning."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId
from buckler.ports.state import State

_log = structlog.get_logger()


class Recorder:
    """``wake`` tells the uplink that something waits."""

    def __init__(self, state: State, host: HostId, wake: Callable[[], None]) -> None:
        self._state = state
        self._host = host
        self._wake = wake

    def record(
        self, kind: EventKind, *, vm: str = "", tenant: str = "", cause: str = "", at: float = 0.0, **detail: Any
    ) -> None:
        """Store the event durably, then let it be handed over. Raises StateFailed."""
        self._state.record(
            Event(
                kind,
                at=at or time.time(),
                host=self._host,
                vm=vm,
                tenant=tenant,
                actor="agent",
                cause=cause,
                detail=detail,
            )
        )
        _log.info(kind.value, vm=vm, cause=cause, **detail)
        self._wake()
