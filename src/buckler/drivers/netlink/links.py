"""ports/links.Links over rtnetlink. Owns listing and watching interfaces, not what follows from a change."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from buckler.drivers.netlink.notices import follow
from buckler.ports.links import Link, LinksFailed

_UP = 1
_GROUPS = 1 | 1 << 3
"""RTMGRP_LINK (bridge ports too) and RTMGRP_TC (qdiscs and filters)."""
_BUFFER = 1 << 20


class NetlinkLinks:
    """Works in the network namespace of the calling thread; a watch keeps the one it was started in."""

    def links(self) -> dict[int, Link]:
        """See the port."""
        dump = self._with_route(lambda route: list(route.get_links()))
        names = {link["index"]: str(link.get("ifname", "")) for link in dump}
        kinds = {link["index"]: _read_kind(link) for link in dump}
        return {link["index"]: _read_link(link, names, kinds) for link in dump}

    def host_addresses(self) -> tuple[str, ...]:
        """See the port."""
        dump = self._with_route(lambda route: list(route.get_addr()))
        found = {str(message.get("local") or message.get("address")) for message in dump}
        return tuple(sorted(found - {"None"}))

    def set_learning(self, ifindex: int, *, learning: bool) -> None:
        """See the port."""
        self._with_route(lambda route: route.brport("set", index=ifindex, learning=int(learning)))

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port. Also calls ``changed`` when the kernel says that messages were lost."""
        try:
            notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            notices.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            notices.bind((0, _GROUPS))
        except OSError as failure:
            raise LinksFailed(f"cannot watch interfaces: {failure}") from failure
        return follow(notices, changed, "links")

    def _with_route(self, action: Callable[[IPRoute], Any]) -> Any:
        try:
            with IPRoute() as route:
                return action(route)
        except (OSError, NetlinkError) as failure:
            raise LinksFailed(f"rtnetlink refused: {failure}") from failure


def _read_kind(link: Any) -> str:
    info = link.get("linkinfo")
    return str(info.get("kind") or "") if info else ""


def _read_link(link: Any, names: dict[int, str], kinds: dict[int, str]) -> Link:
    info = link.get("linkinfo")
    master = link.get("master") or 0
    data = info.get("slave_data") if info and info.get("slave_kind") == "bridge" else None
    learning = data.get_attr("IFLA_BRPORT_LEARNING") if data else None
    return Link(
        ifindex=link["index"],
        name=names[link["index"]],
        kind=kinds[link["index"]],
        mac=str(link.get("address") or ""),
        bridge=names.get(master, "") if kinds.get(master) == "bridge" else "",
        up=bool(link["flags"] & _UP),
        learning=True if learning is None else bool(learning),
    )
