"""Counts failures per client and says when one has had too many. Bounded; forgets the oldest clients."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque

_CLIENTS = 10_000


class Throttle:
    """At most ``limit`` failures in ``window`` seconds per client. Threadsafe."""

    def __init__(self, limit: int = 20, window: float = 60.0) -> None:
        self._limit = limit
        self._window = window
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._turn = threading.Lock()

    def is_closed_to(self, client: str, now: float) -> bool:
        """Say whether the client must wait."""
        with self._turn:
            times = self._failures.get(client)
            return times is not None and len(times) == self._limit and now - times[0] < self._window

    def note_failure(self, client: str, now: float) -> None:
        """Count one."""
        with self._turn:
            times = self._failures.setdefault(client, deque(maxlen=self._limit))
            times.append(now)
            self._failures.move_to_end(client)
            while len(self._failures) > _CLIENTS:
                self._failures.popitem(last=False)
