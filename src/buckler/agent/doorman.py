"""The unix socket that the hook and ``agent status`` speak to. Passes questions on; answers none itself."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

_log = structlog.get_logger()
_MAX_REQUEST = 16 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """``operation`` and ``step`` as libvirt gives them to its hook; ``seconds`` is how long it can wait."""

    operation: str
    name: str = ""
    step: str = ""
    extra: str = ""
    xml: str = ""
    seconds: float = 10.0


class Answer(msgspec.Struct, frozen=True):
    """``allowed`` and why not; ``detail`` is the agent's state when that was the question."""

    allowed: bool
    reason: str = ""
    detail: dict[str, Any] = {}


class Doorman:
    """One short-lived thread per caller; only root may connect."""

    def __init__(self, path: Path, answer: Callable[[Request], Answer]) -> None:
        self._path = path
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Take the path over from whoever had it: an agent that was killed leaves its socket behind."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(64)
        threading.Thread(target=self._serve, name="doorman", daemon=True).start()

    def stop(self) -> None:
        self._path.unlink(missing_ok=True)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._attend, args=(connection,), name="caller", daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(10)
                answer = self._answer(_receive(connection))
                body = msgspec.json.encode(answer)
                connection.sendall(struct.pack("!I", len(body)) + body)
            except (OSError, msgspec.DecodeError, ValueError) as error:
                _log.warning("a caller was not answered", error=str(error))


def ask(path: Path, request: Request, seconds: float = 10.0) -> Answer:
    """Ask a running agent. Raises OSError when there is none."""
    body = msgspec.json.encode(request)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(str(path))
        connection.sendall(struct.pack("!I", len(body)) + body)
        return msgspec.json.decode(_receive_bytes(connection), type=Answer)


def _receive(connection: socket.socket) -> Request:
    return msgspec.json.decode(_receive_bytes(connection), type=Request)


def _receive_bytes(connection: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    if length > _MAX_REQUEST:
        raise ValueError("the request is too long")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 65536))
        if not part:
            raise OSError("the caller hung up")
        parts += part
    return bytes(parts)
