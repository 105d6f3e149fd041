"""What a controller that is somebody else's by now can make an agent swallow: answers without end, small ones that unpack to large."""

from __future__ import annotations

import datetime as dt
import resource
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from buckler.client import agentside
from buckler.client.agentside import ControllerAway, ControllerClient
from buckler.model.ids import Digest, HostId, Revision

MIB = 1 << 20
Say = Callable[["_Hostile"], None]


class _Hostile(BaseHTTPRequestHandler):
    say: Say

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path.endswith("/nonce"):
            return self.answer(b'{"nonce":"n"}')
        if self.path.endswith("/token"):
            return self.answer(b'{"token":"t","expires_in":600}')
        return self.server.say(self)  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        self.server.say(self)  # type: ignore[attr-defined]

    def answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def facing(say: Say) -> Iterator[ControllerClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    server.say = say  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = ControllerClient(
        f"http://127.0.0.1:{server.server_port}", HostId("h"), Ed25519PrivateKey.generate(), certificate()
    )
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate() -> str:
    key, name = Ed25519PrivateKey.generate(), x509.Name([])
    day = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + dt.timedelta(1))
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode()


def flood(handler: _Hostile) -> None:
    """Go on as long as anybody listens."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(4096):
            handler.wfile.write(b"x" * MIB)
    except OSError:
        return


def drip(handler: _Hostile) -> None:
    """A byte now and then, never a whole line: no read times out."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        for _ in range(1200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)


def bomb(handler: _Hostile) -> None:
    handler.answer(PACKED, content_encoding="gzip")


def pack(size: int) -> bytes:
    """Pack a text that is never here whole: the test's own memory is what is looked at."""
    packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    return b"".join(packer.compress(b"[" * MIB) for _ in range(size)) + packer.flush()


PACKED = pack(512)


ASKED: dict[str, Callable[[ControllerClient], Any]] = {
    "objects": lambda client: client.objects([Digest("a" * 64)]),
    "proof": lambda client: client.consistency(1, 2),
    "watch": lambda client: list(client.watch(Revision(0), lambda: False)),
}


@pytest.mark.parametrize("say", [flood, bomb])
@pytest.mark.parametrize("ask", sorted(ASKED))
def test_no_answer_fills_the_hosts_memory(say: Say, ask: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with facing(say) as client, suppress(ControllerAway):
        given = ASKED[ask](client)
        assert ask == "objects", "what is no object is seen behind the client; all else is refused"
        assert sum(map(len, given.values())) < agentside.MAX_ANSWER
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 4 * (agentside.MAX_ANSWER >> 20), f"{grown} MiB more"


@pytest.mark.parametrize("ask", sorted(ASKED))
def test_no_answer_that_trickles_is_waited_for_without_end(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agentside, "MOST_SECONDS", 0.5)
    with facing(drip) as client, pytest.raises(ControllerAway, match="takes too long"):
        ASKED[ask](client)
