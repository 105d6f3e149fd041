"""Tells when any nft table changed, by whomever. Owns which notices these are, not the waiting."""

from __future__ import annotations

import socket
from collections.abc import Callable

from buckler.drivers.netlink.notices import follow
from buckler.ports.guard import GuardFailed

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_GROUP_NFTABLES = 7


def watch_tables(changed: Callable[[], None]) -> Callable[[], None]:
    """Call ``changed`` from another thread soon after a change; return a function that stops. Raises GuardFailed."""
    try:
        notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        notices.bind((0, 0))
        notices.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
    except OSError as failure:
        raise GuardFailed(f"cannot watch nft: {failure}") from failure
    return follow(notices, changed, "nft")
