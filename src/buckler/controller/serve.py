"""The two listeners: TLS for agents, a root-only unix socket for operators. Owns sockets, not what is said on them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.h11_impl import H11Protocol

from buckler.controller.settings import Settings

_STREAM_GRACE = 2


class PeerProtocol(H11Protocol):
    """HTTP whose client is named by the kernel: ``uid:N`` and the pid of the peer of the unix socket."""

    def connection_made(self, transport: Any) -> None:
        """Ask SO_PEERCRED; only root may speak, whatever the mode of the socket file became."""
        super().connection_made(transport)
        credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _gid = struct.unpack("3i", credentials)
        self.client = (f"uid:{uid}", pid)
        if uid not in {0, os.geteuid()}:
            transport.abort()


class Listener(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def agents_listener(app: Litestar, settings: Settings, keys: Path) -> Listener:
    """Listen for agents on TLS 1.3."""
    config = uvicorn.Config(
        app,
        host=settings.listen_address,
        port=settings.listen_port,
        ssl_certfile=str(keys / "server.crt"),
        ssl_keyfile=str(keys / "server.pem"),
        **_common(),
    )
    config.load()
    if config.ssl is None:
        raise RuntimeError("agents are never served without TLS")
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return Listener(config)


def operators_listener(app: Litestar) -> Listener:
    """Serve operators; the socket comes from ``open_operator_socket``."""
    return Listener(uvicorn.Config(app, http=PeerProtocol, **_common()))


def open_operator_socket(path: Path) -> socket.socket:
    """Bind the unix socket with mode 0600 from its first moment, in place of one that nobody listens on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _refuse_living(path)
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    finally:
        os.umask(before)
    return listening


async def serve_all(*servers: tuple[Listener, list[socket.socket] | None]) -> None:
    """Serve until one of them ends, then end all."""
    running = [asyncio.create_task(server.serve(sockets=sockets)) for server, sockets in servers]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop_serving(*(server for server, _ in servers))
        await asyncio.gather(*running, return_exceptions=True)


def stop_serving(*servers: Listener) -> None:
    """Ask servers to end: streams are cut after a moment."""
    for server in servers:
        server.should_exit = True


def _refuse_living(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise FileExistsError(f"{path}: a controller listens there already")


def _common() -> dict[str, Any]:
    return {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "server_header": False,
        "timeout_graceful_shutdown": _STREAM_GRACE,
        "h11_max_incomplete_event_size": 64 * 1024,
        "limit_concurrency": 4000,
    }
