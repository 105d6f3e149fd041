"""ports/links.Links over rtnetlink. Owns listing and watching interfaces, not what follows from a change."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import TypeVar

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from buckler.drivers.netlink.dump import Message, attributes, dump
from buckler.drivers.netlink.notices import follow
from buckler.ports.links import Link, LinksFailed

_UP = 1
_GROUPS = 1 | 1 << 3
"""RTMGRP_LINK (bridge ports too) and RTMGRP_TC (qdiscs and filters)."""
_BUFFER = 1 << 20
_GET_LINK, _GET_ADDRESS = 18, 22
_LINK_HEAD = struct.Struct("=BBHiII")
_ADDRESS_HEAD = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_NO_STATISTICS = struct.pack("=HHI", 8, 29, 8)
"""IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS."""
_ADDRESS, _NAME, _MASTER, _LINK_INFO = 1, 3, 10, 18
_INFO_KIND, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 4, 5
_PORT_LEARNING = 8
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_Read = TypeVar("_Read")


class NetlinkLinks:
    """Works in the network namespace of the calling thread; a watch keeps the one it was started in."""

    def links(self) -> dict[int, Link]:
        """See the port."""
        raw = _read_all(_GET_LINK, bytes(_LINK_HEAD.size) + _NO_STATISTICS, _LINK_HEAD, _read_raw)
        bridges = {one.ifindex: one.name for one in raw if one.kind == "bridge"}
        return {one.ifindex: _read_link(one, bridges) for one in raw}

    def host_addresses(self) -> tuple[str, ...]:
        """See the port."""
        found = _read_all(_GET_ADDRESS, bytes(_ADDRESS_HEAD.size), _ADDRESS_HEAD, _read_address)
        return tuple(sorted(set(found) - {""}))

    def set_learning(self, ifindex: int, *, learning: bool) -> None:
        """See the port."""
        try:
            with IPRoute() as route:
                route.brport("set", index=ifindex, learning=int(learning))
        except (OSError, NetlinkError) as failure:
            raise LinksFailed(f"rtnetlink refused: {failure}") from failure

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port. Also calls ``changed`` when the kernel says that messages were lost."""
        try:
            notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            notices.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            notices.bind((0, _GROUPS))
        except OSError as failure:
            raise LinksFailed(f"cannot watch interfaces: {failure}") from failure
        return follow(notices, changed, "links")


class _Raw(msgspec.Struct, frozen=True):
    """One interface by numbers; its bridge can only be named once all are known."""

    ifindex: int
    name: str
    kind: str
    mac: str
    master: int
    up: bool
    learning: bool


def _read_all(request: int, question: bytes, head: struct.Struct, read: Callable[[Message], _Read]) -> list[_Read]:
    try:
        return [read(message) for message in dump(request, question, head.size)]
    except (OSError, struct.error) as failure:
        raise LinksFailed(f"rtnetlink refused: {failure}") from failure


def _read_address(message: Message) -> str:
    head, values = message
    family = _ADDRESS_HEAD.unpack(head)[0]
    address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
    return socket.inet_ntop(family, address) if address and family in (socket.AF_INET, socket.AF_INET6) else ""


def _read_raw(message: Message) -> _Raw:
    head, values = message
    _, _, _, ifindex, flags, _ = _LINK_HEAD.unpack(head)
    info = attributes(values.get(_LINK_INFO, b""))
    port = attributes(info[_INFO_SLAVE_DATA]) if _text(info.get(_INFO_SLAVE_KIND)) == "bridge" else {}
    return _Raw(
        ifindex=ifindex,
        name=_text(values.get(_NAME)),
        kind=_text(info.get(_INFO_KIND)),
        mac=values.get(_ADDRESS, b"").hex(":"),
        master=_U32.unpack(values[_MASTER])[0] if _MASTER in values else 0,
        up=bool(flags & _UP),
        learning=port.get(_PORT_LEARNING, b"\1") != b"\0",
    )


def _read_link(raw: _Raw, bridges: dict[int, str]) -> Link:
    return Link(raw.ifindex, raw.name, raw.kind, raw.mac, bridges.get(raw.master, ""), up=raw.up, learning=raw.learning)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.rstrip(b"\0").decode("utf-8", "replace")
