"""The door to the kernel's network interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Link(msgspec.Struct, frozen=True):
    """One interface. ``bridge`` is the name of the bridge it is a port of, if any; ``kind`` as rtnetlink says (tun, veth, vxlan…)."""

    ifindex: int
    name: str
    kind: str
    mac: str
    bridge: str
    up: bool
    learning: bool = True


class LinksFailed(Exception):
    """The kernel refused or the watch broke."""


class Links(Protocol):
    """Interfaces of the current network namespace."""

    def links(self) -> dict[int, Link]:
        """All interfaces by index."""

    def host_addresses(self) -> tuple[str, ...]:
        """All addresses of the host itself, without prefix length."""

    def set_learning(self, ifindex: int, *, learning: bool) -> None:
        """Let or forbid a bridge port to learn MACs."""

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` soon after any link, filter or qdisc change, from another thread; returns a function that stops."""
