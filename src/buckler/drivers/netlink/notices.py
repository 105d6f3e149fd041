"""Follows the kernel's notices on a netlink socket in a thread of its own. Owns the waiting, not which notices they are."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable

_RECEIVE = 1 << 16


def follow(notices: socket.socket, changed: Callable[[], None], name: str) -> Callable[[], None]:
    """Call ``changed`` soon after each notice; return a function that stops and closes the socket."""
    wake_read, wake_write = os.pipe()
    thread = threading.Thread(target=_follow, args=(notices, wake_read, changed), name=name, daemon=True)
    thread.start()

    def stop() -> None:
        os.write(wake_write, b"x")
        thread.join()
        notices.close()
        os.close(wake_read)
        os.close(wake_write)

    return stop


def _follow(notices: socket.socket, wake: int, changed: Callable[[], None]) -> None:
    """Tell once for all that wait together; an overflow is told like a change: whoever is told looks anew."""
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
