"""Whether a domain is still running here, has stopped for a move, or is gone: from libvirt's events. Asks libvirt nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from buckler.ports.hypervisor import DomainEvent

_SWITCHING = frozenset({"migrated", "postcopy"})


class Phase(IntEnum):
    """``STOPPED``: its CPUs stand still for good or ill; ``GONE``: it runs elsewhere; ``STAYED``: it does not move."""

    RUNNING = 0
    STOPPED = 1
    GONE = 2
    STAYED = 3


class Departures:
    """Follows only those whose departure somebody waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._phases: dict[str, Phase] = {}
        self._followers: dict[str, int] = {}

    @contextmanager
    def follow(self, uuid: str) -> Iterator[None]:
        with self._changed:
            self._followers[uuid] = self._followers.get(uuid, 0) + 1
            self._phases.setdefault(uuid, Phase.RUNNING)
        try:
            yield
        finally:
            with self._changed:
                self._followers[uuid] -= 1
                if not self._followers[uuid]:
                    del self._followers[uuid], self._phases[uuid]

    def note(self, event: DomainEvent) -> None:
        """Something happened to a domain."""
        with self._changed:
            before = self._phases.get(event.uuid)
            phase = None if before is None else _phase_after(before, event)
            if phase is not None:
                self._phases[event.uuid] = phase
                self._changed.notify_all()

    def phase(self, uuid: str) -> Phase:
        with self._changed:
            return self._phases.get(uuid, Phase.STAYED)

    def wait(self, uuid: str, seconds: float) -> Phase:
        """Until it is not running any more, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._phases.get(uuid) is not Phase.RUNNING, seconds)
            return self._phases.get(uuid, Phase.STAYED)


def _phase_after(before: Phase, event: DomainEvent) -> Phase | None:
    match event.what, event.detail:
        case "suspended", detail if detail in _SWITCHING:
            return Phase.STOPPED
        case "stopped", "migrated":
            return Phase.GONE
        case (("stopped" | "crashed"), _):
            return Phase.STAYED
        case "resumed", _ if before is Phase.STOPPED:
            return Phase.STAYED  # it was about to go, and goes on here
    return None
