"""A TLS 1.3 connection between two agents, each known by its host's key. Owns frames and deadlines, not what is said."""

from __future__ import annotations

import contextlib
import datetime as dt
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from buckler.agent.handover.talk import MAX_MESSAGE, Message, Unreadable, read_message, write_message
from buckler.trust.statement import public_bytes

_Result = TypeVar("_Result")
_GLANCE_SECONDS = 0.25
_CHUNK = 256 * 1024
_LENGTH = struct.Struct("!I")


class ChannelFailed(Exception):
    """The other side is away, too slow, or not who it should be; the message says which."""


class Deadline:
    """A moment until which something may last."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds. Raises ChannelFailed when none are left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise ChannelFailed("it took too long")
        return left


class Identity:
    """The host in a handshake: its own key in a certificate that nobody else vouches for."""

    def __init__(self, host: str, key: Ed25519PrivateKey) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        start = dt.datetime(2000, 1, 1)  # a key is believed for what it is, not for when
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2100))
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.use_privatekey(key)
        context.use_certificate(builder.sign(key, None))
        # Chains say nothing here: whose key it is, is compared once the peer has proven that it holds it.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        self.context = context


class Channel:
    """Used by one thread at a time. Everything raises ChannelFailed."""

    def __init__(self, identity: Identity, plain: socket.socket, *, is_server: bool) -> None:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plain = plain
        self._tls = SSL.Connection(identity.context, plain)
        if is_server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()

    def shake_hands(self, deadline: Deadline) -> bytes:
        """Return the peer's public key, 32 bytes: it has proven to hold the private one."""
        self._do(self._tls.do_handshake, deadline)
        certificate = self._tls.get_peer_certificate(as_cryptography=True)
        key = None if certificate is None else certificate.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise ChannelFailed("the other side showed no host key")
        return public_bytes(key)

    def send(self, message: Message, deadline: Deadline) -> None:
        self.send_bytes(write_message(message), deadline)

    def receive(self, deadline: Deadline, limit: int = MAX_MESSAGE) -> Message:
        try:
            return read_message(self.receive_bytes(limit, deadline))
        except Unreadable as error:
            raise ChannelFailed(str(error)) from error

    def send_bytes(self, content: bytes, deadline: Deadline) -> None:
        view = memoryview(_LENGTH.pack(len(content)) + content)
        while view:
            part = bytes(view[:_CHUNK])
            view = view[self._do(partial(self._tls.send, part), deadline) :]

    def receive_bytes(self, limit: int, deadline: Deadline) -> bytes:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size, deadline))
        if length > limit:
            raise ChannelFailed(f"a message of {length} bytes where {limit} are the most")
        return self._exactly(length, deadline)

    def close(self) -> None:
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.shutdown()
        self._plain.close()

    def _exactly(self, count: int, deadline: Deadline) -> bytes:
        parts: list[bytes] = []
        while count and deadline.left:
            parts.append(self._do(partial(self._tls.recv, min(count, _CHUNK)), deadline))
            count -= len(parts[-1])
        return b"".join(parts)

    def _do(self, action: Callable[[], _Result], deadline: Deadline) -> _Result:
        while True:
            try:
                return action()
            except SSL.WantReadError:
                self._wait(select.POLLIN, deadline)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT, deadline)
            except SSL.ZeroReturnError as error:
                raise ChannelFailed("the other side ended the connection") from error
            except SSL.SysCallError as error:
                raise ChannelFailed(f"the connection broke: {error.args[-1]}") from error
            except (SSL.Error, OSError) as error:
                raise ChannelFailed(f"TLS failed: {error}") from error

    def _wait(self, what: int, deadline: Deadline) -> None:
        poll = select.poll()
        poll.register(self._plain, what)
        while not poll.poll(min(deadline.left, _GLANCE_SECONDS) * 1000):
            continue  # how much is left may have changed meanwhile


def connect(identity: Identity, address: tuple[str, int], expected: bytes, deadline: Deadline) -> Channel:
    """Reach the one member whose key is ``expected``. Raises ChannelFailed."""
    try:
        plain = socket.create_connection(address, deadline.left)
    except OSError as error:
        raise ChannelFailed(f"{address[0]} does not answer: {error.strerror or error}") from error
    channel = Channel(identity, plain, is_server=False)
    try:
        if channel.shake_hands(deadline) != expected:
            raise ChannelFailed(f"at {address[0]} answers somebody else")
    except BaseException:
        channel.close()
        raise
    return channel
