"""Asks rtnetlink for a whole list. Owns the form of its messages, not what an attribute means."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

Message = tuple[bytes, dict[int, bytes]]
"""The fixed head of one entry and its attributes by number."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=i")
_ERROR, _DONE = 2, 3
_REQUEST_DUMP = 0x301
_WAS_INTERRUPTED = 0x10
_NUMBER_ONLY = 0x3FFF
"""Without the flags that say how an attribute is nested."""
_RECEIVE = 1 << 17
_SECONDS = 5.0
_TRIES = 20


def dump(request: int, head: bytes, head_size: int) -> list[Message]:
    """Return every entry of one consistent list. Raises OSError.

    A list that changed while the kernel wrote it is asked for again: taps come and go while others wait for theirs.
    """
    for _ in range(_TRIES):
        found = _dump(request, head, head_size)
        if found is not None:
            return found
    raise OSError(errno.EAGAIN, f"the list changed each of {_TRIES} times that it was read")


def attributes(body: bytes) -> dict[int, bytes]:
    """Take a run of attributes apart. Raises OSError when it is cut short."""
    found = {}
    at, end = 0, len(body)
    while at + 4 <= end:
        length, number = _ATTRIBUTE.unpack_from(body, at)
        if length < 4 or at + length > end:
            raise OSError(errno.EBADMSG, "an attribute is cut short")
        found[number & _NUMBER_ONLY] = body[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _dump(request: int, head: bytes, head_size: int) -> list[Message] | None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_SECONDS)
        kernel.bind((0, 0))
        kernel.send(_HEADER.pack(_HEADER.size + len(head), request, _REQUEST_DUMP, 1, 0) + head)
        found: list[Message] = []
        is_whole = True
        while True:
            answer, (sender, _) = kernel.recvfrom(_RECEIVE)
            if sender != 0:
                continue  # not the kernel
            for kind, flags, body in _messages(answer):
                is_whole = is_whole and not flags & _WAS_INTERRUPTED
                if kind in (_ERROR, _DONE):
                    _check(body)
                    return found if is_whole else None
                found.append((body[:head_size], attributes(body[head_size:])))


def _messages(answer: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(answer):
        length, kind, flags, _, _ = _HEADER.unpack_from(answer, at)
        if length < _HEADER.size or at + length > len(answer):
            raise OSError(errno.EBADMSG, "a message is cut short")
        yield kind, flags, answer[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _check(body: bytes) -> None:
    """The end of a list carries an error's number as well."""
    number = _NUMBER.unpack_from(body)[0] if len(body) >= _NUMBER.size else 0
    if number:
        raise OSError(-number, os.strerror(-number))
