"""ports/links in memory: interfaces that a test puts and takes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from buckler.ports.links import Link, LinksFailed


class InMemoryLinks:
    """Tells watchers at once, in the thread that changes something."""

    def __init__(self, links: dict[int, Link] | None = None, addresses: tuple[str, ...] = ()) -> None:
        self._links = dict(links or {})
        self._addresses = addresses
        self._watchers: list[Callable[[], None]] = []

    def links(self) -> dict[int, Link]:
        """See the port."""
        return dict(self._links)

    def host_addresses(self) -> tuple[str, ...]:
        """See the port."""
        return self._addresses

    def set_learning(self, ifindex: int, *, learning: bool) -> None:
        """See the port."""
        if ifindex not in self._links or not self._links[ifindex].bridge:
            raise LinksFailed(f"interface {ifindex} is no port of a bridge")
        self.put(msgspec.structs.replace(self._links[ifindex], learning=learning))

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def put(self, link: Link) -> None:
        """Make or change an interface."""
        self._links[link.ifindex] = link
        self._tell()

    def take(self, ifindex: int) -> None:
        """Delete an interface."""
        self._links.pop(ifindex, None)
        self._tell()

    def _tell(self) -> None:
        for changed in list(self._watchers):
            changed()
