"""Runs commands in a guest over its virtio serial channel: no network is needed or used. See guest/probe/agent.c."""

from __future__ import annotations

import secrets
import socket
import time
from pathlib import Path

import msgspec

from buckler.lab.machine import LabFailed


class Answer(msgspec.Struct, frozen=True):
    """What a command wrote (both streams) and its exit code (124: it was stopped after its time)."""

    output: str
    code: int


class ChannelBroken(Exception):
    """The guest's end is away for now: it boots, moves or is gone."""


def execute(path: Path, command: str, seconds: int = 30) -> Answer:
    """Run ``command`` in the guest's shell. Raises ChannelBroken when nothing answers in time."""
    identity = secrets.token_hex(8)
    text = command.encode()
    deadline = time.monotonic() + seconds + 5
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(seconds + 5)
        try:
            channel.connect(str(path))
            channel.sendall(f"\nEXEC {identity} {seconds} {len(text)}\n".encode() + text)
            return _read_answer(channel, identity, deadline)
        except OSError as error:
            raise ChannelBroken(str(error)) from error


def _read_answer(channel: socket.socket, identity: str, deadline: float) -> Answer:
    """Skip what an earlier reader left unread, then take our answer."""
    marker = f"DONE {identity} ".encode()
    pending = b""
    while time.monotonic() < deadline:
        piece = channel.recv(65536)
        if not piece:
            raise ChannelBroken("the guest's end closed")
        pending += piece
        start = pending.find(marker)
        if start < 0 or b"\n" not in pending[start:]:
            continue
        header, _, body = pending[start:].partition(b"\n")
        code, length = (int(field) for field in header[len(marker) :].split())
        if len(body) >= length:
            return Answer(body[:length].decode(errors="replace"), code)
    raise ChannelBroken("no answer in time")


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
