"""Runs commands in a guest over its virtio serial channel: no network is needed or used. See guest/probe/agent.c.

A port loses bytes when its host's end closes, and does not say so: requests and answers carry check sums, and what is
asked again under the same identity is answered again, not run again.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
import zlib
from pathlib import Path

import msgspec

from buckler.lab.machine import LabFailed


class Answer(msgspec.Struct, frozen=True):
    """What a command wrote (both streams) and its exit code (124: it was stopped after its time)."""

    output: str
    code: int


class ChannelBroken(Exception):
    """The guest's end is away for now: it boots, moves or is gone."""


MOST_COMMAND = 65535
"""Bytes of a command that a guest takes."""


def execute(path: Path, command: str, seconds: int = 30, identity: str = "") -> Answer:
    """Run ``command`` in the guest's shell, once for one ``identity``. Raises ChannelBroken when nothing answers in time."""
    identity = identity or new_identity()
    request = request_line(identity, command.encode(), seconds)
    deadline = time.monotonic() + seconds + 5
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(seconds + 5)
        try:
            channel.connect(str(path))
            channel.sendall(request)
            return _read_answer(channel, identity, deadline)
        except OSError as error:
            raise ChannelBroken(str(error)) from error


def new_identity() -> str:
    """Name one request, so that it can be asked again."""
    return secrets.token_hex(8)


def request_line(identity: str, command: bytes, seconds: int) -> bytes:
    """One line of its own, whatever half of another one stands before it."""
    if len(command) > MOST_COMMAND:
        raise LabFailed(f"a command of {len(command)} bytes is too long for a guest")
    return f"\nEXEC {identity} {seconds} {zlib.crc32(command):08x} {command.hex()}\n".encode()


def _read_answer(channel: socket.socket, identity: str, deadline: float) -> Answer:
    """Take our answer from what comes: parts of earlier ones that nobody read may stand before it."""
    pending = b""
    while (left := deadline - time.monotonic()) > 0:
        channel.settimeout(left)
        piece = channel.recv(65536)
        if not piece:
            raise ChannelBroken("the guest's end closed")
        pending += piece
        if (answer := find_answer(pending, identity)) is not None:
            return answer
    raise ChannelBroken("no answer in time")


def find_answer(received: bytes, identity: str) -> Answer | None:
    """Find the first whole answer to a request; None when there is none (yet)."""
    for match in re.finditer(rb"DONE %s (\d+) ([0-9a-f]{8}) (\d+)\n" % identity.encode(), received):
        code, checksum, length = int(match[1]), int(match[2], 16), int(match[3])
        body = received[match.end() : match.end() + length]
        if len(body) == length and zlib.crc32(body) == checksum:
            return Answer(body.decode(errors="replace"), code)
    return None


def wait_for_guest(path: Path, seconds: float = 120) -> None:
    """Return as soon as the guest answers. Raises LabFailed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            execute(path, "true", seconds=5)
        except ChannelBroken:
            time.sleep(0.2)
        else:
            return
    raise LabFailed(f"the guest behind {path.name} does not answer after {seconds:g} s")
