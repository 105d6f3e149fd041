"""ports/links.py in memory: interfaces are added and taken by the caller. Carries no frame."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from buckler.ports.links import Link, LinksFailed


class InMemoryLinks:
    """Every change is told to whoever watches."""

    def __init__(self, addresses: tuple[str, ...] = ()) -> None:
        self._links: dict[int, Link] = {}
        self._addresses = addresses
        self._watches: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    def links(self) -> dict[int, Link]:
        with self._lock:
            return dict(self._links)

    def host_addresses(self) -> tuple[str, ...]:
        return self._addresses

    def set_learning(self, ifindex: int, *, learning: bool) -> None:
        with self._lock:
            if ifindex not in self._links:
                raise LinksFailed(f"no interface {ifindex}")
            self._links[ifindex] = msgspec.structs.replace(self._links[ifindex], learning=learning)
        self._tell()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self._watches.append(changed)

        def stop() -> None:
            with self._lock:
                self._watches = [watch for watch in self._watches if watch is not changed]

        return stop

    def add(self, link: Link) -> None:
        """Make an interface appear, or change."""
        with self._lock:
            self._links[link.ifindex] = link
        self._tell()

    def remove(self, ifindex: int) -> None:
        """Make an interface vanish."""
        with self._lock:
            self._links.pop(ifindex, None)
        self._tell()

    def _tell(self) -> None:
        for watch in list(self._watches):
            watch()
