"""Where other members reach this host: one port on its fabric address. Lets in members only, a bounded number, for a bounded time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable

import structlog

from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline, Identity
from buckler.model.bundle import Member
from buckler.trust.statement import Untrusted, key_from_text, public_bytes

_log = structlog.get_logger()
_HANDSHAKE_SECONDS = 3.0
_MAX_STRANGERS = 16
_MAX_OF_ONE = 64
_MAX_OF_ALL = 256
_RETRY_SECONDS = 1.0


class Listener:
    """``address`` is asked until it can be bound: a host's fabric may come up after its agent."""

    def __init__(
        self,
        identity: Identity,
        address: Callable[[], tuple[str, int] | None],
        members: Callable[[], tuple[Member, ...]],
        attend: Callable[[Member, Channel], None],
    ) -> None:
        self._identity = identity
        self._address = address
        self._members = members
        self._attend = attend
        self._lock = threading.Lock()
        self._strangers = 0
        self._inside: Counter[str] = Counter()
        self._is_over = threading.Event()
        self._socket: socket.socket | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="handover", daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _run(self) -> None:
        complaint = ""
        while not self._is_over.is_set():
            try:
                self._listen()
            except OSError as error:
                if str(error) != complaint and not self._is_over.is_set():
                    _log.warning("other members cannot reach this host", error=str(error))
                complaint = str(error)
            self._is_over.wait(_RETRY_SECONDS)

    def _listen(self) -> None:
        address = self._address()
        if address is None:
            return
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_MAX_STRANGERS)
            self._socket = listening
            while not self._is_over.is_set():
                plain, _ = listening.accept()
                with self._lock:
                    is_full = self._strangers >= _MAX_STRANGERS
                    self._strangers += not is_full
                if is_full:
                    plain.close()
                else:
                    threading.Thread(target=self._meet, args=(plain,), name="member", daemon=True).start()

    def _meet(self, plain: socket.socket) -> None:
        """A stranger until the handshake is over, and then a member of this very moment or nobody."""
        channel = Channel(self._identity, plain, is_server=True)
        member: Member | None = None
        try:
            try:
                key = channel.shake_hands(Deadline(_HANDSHAKE_SECONDS))
            finally:
                with self._lock:
                    self._strangers -= 1
            member = self._enter(key)
            self._attend(member, channel)
        except ChannelFailed as error:
            _log.info("a handover ended", member="" if member is None else member.name, why=str(error))
        except Exception:
            _log.exception("a handover failed")
        finally:
            channel.close()
            if member is not None:
                with self._lock:
                    self._inside[member.id] -= 1

    def _enter(self, key: bytes) -> Member:
        found = next((member for member in self._members() if _key_of(member) == key), None)
        if found is None:
            raise ChannelFailed("somebody who is no member asked")
        with self._lock:
            if self._inside[found.id] >= _MAX_OF_ONE or self._inside.total() >= _MAX_OF_ALL:
                raise ChannelFailed(f"{found.name} asks for too much at once")
            self._inside[found.id] += 1
        return found


def _key_of(member: Member) -> bytes:
    try:
        return public_bytes(key_from_text(member.public_key))
    except Untrusted:
        return b""
