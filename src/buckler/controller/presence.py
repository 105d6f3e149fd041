"""Which agents are heard, and when last. In memory only; the watchman writes it to the store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from buckler.model.ids import HostId


class Presence:
    """Threadsafe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._heard: dict[HostId, float] = {}
        self._streams: Counter[HostId] = Counter()

    def hear(self, host: HostId, at: float) -> None:
        """Note that the host's agent said something."""
        with self._turn:
            self._heard[host] = at

    @contextmanager
    def stream(self, host: HostId, at: float) -> Iterator[None]:
        """Count one open stream of the host."""
        with self._turn:
            self._streams[host] += 1
            self._heard[host] = at
        try:
            yield
        finally:
            with self._turn:
                self._streams[host] -= 1

    def is_connected(self, host: HostId) -> bool:
        """Say whether a stream of the host is open now."""
        with self._turn:
            return self._streams[host] > 0

    def connected(self) -> frozenset[HostId]:
        """All hosts with an open stream."""
        with self._turn:
            return frozenset(host for host, count in self._streams.items() if count > 0)

    def take_heard(self) -> dict[HostId, float]:
        """Return who was heard since the last call."""
        with self._turn:
            heard, self._heard = self._heard, {}
            return heard
