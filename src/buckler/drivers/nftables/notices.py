"""Tells when any nft table changed, by whomever. Owns the waiting, not what follows from it."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable

from buckler.ports.guard import GuardFailed

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_GROUP_NFTABLES = 7
_RECEIVE = 1 << 16


def watch_tables(changed: Callable[[], None]) -> Callable[[], None]:
    """Call ``changed`` from another thread soon after a change; return a function that stops. Raises GuardFailed."""
    try:
        notices = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        notices.bind((0, 0))
        notices.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
    except OSError as failure:
        raise GuardFailed(f"cannot watch nft: {failure}") from failure
    wake_read, wake_write = os.pipe()
    thread = threading.Thread(target=_follow, args=(notices, wake_read, changed), name="nft", daemon=True)
    thread.start()

    def stop() -> None:
        os.write(wake_write, b"x")
        thread.join()
        notices.close()
        os.close(wake_read)
        os.close(wake_write)

    return stop


def _follow(notices: socket.socket, wake: int, changed: Callable[[], None]) -> None:
    """Messages that were lost are told like a change: whoever is told looks anew."""
    while True:
        ready, _, _ = select.select([notices.fileno(), wake], [], [])
        if wake in ready:
            return
        try:
            while True:
                notices.recv(_RECEIVE, socket.MSG_DONTWAIT)
        except OSError as stopped:
            if stopped.errno not in (errno.EAGAIN, errno.ENOBUFS):
                return
        changed()
