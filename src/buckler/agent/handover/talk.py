"""What two agents say to each other in a handover, in order, and how long each may be. Owns no bytes on a wire.

=============  =============  ==================================================================================
from           message        what follows
=============  =============  ==================================================================================
destination    Hello          Welcome
destination    Want           as many objects as it names, in order; any number of times
destination    Give           Handed and the bodies of its sections by name; each is answered by Taken
either         Refused        nothing: the connection ends
=============  =============  ==================================================================================
"""

from __future__ import annotations

import msgspec

from buckler.model.ids import Digest, HostId, Revision, VmId

VERSION = 2
MAX_MESSAGE = 64 * 1024
MAX_WELCOME = 64 * 1024 * 1024
MAX_WANTED = 256


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """``residence`` as the VM carries it: who shows it has got the domain from libvirt. ``revision`` is what is believed."""

    version: int
    vm: VmId
    uuid: str
    residence: str
    nonce: str
    revision: Revision
    issuers: int


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """``issuers`` and ``manifest`` are there when newer than what was said. ``refusal``: why nothing else will be given.

    ``stays``: the VM runs there and is not leaving, so whatever comes is a copy. ``went`` is the member that the VM went to from there. ``task`` and ``actor`` say who moves it: empty for somebody who
    asked libvirt.
    """

    revision: Revision
    issuers: str = ""
    manifest: str = ""
    refusal: str = ""
    stays: bool = False
    went: HostId = HostId("")
    task: str = ""
    actor: str = ""


class Want(msgspec.Struct, frozen=True, tag="want"):
    digests: tuple[Digest, ...]


class Give(msgspec.Struct, frozen=True, tag="give"):
    """The VM's taps stand behind their shields: what is handed over can be put there."""


class Handed(msgspec.Struct, frozen=True, tag="handed"):
    """``statement``: see bundle.Bundle."""

    statement: str


class Taken(msgspec.Struct, frozen=True, tag="taken"):
    serial: int
    moved: int
    refused: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    why: str


Message = Hello | Welcome | Want | Give | Handed | Taken | Refused
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Unreadable(ValueError):
    """Not a message of ours."""


def read_message(raw: bytes) -> Message:
    """Raises Unreadable."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unreadable(f"not a message of a handover: {error}") from error


def write_message(message: Message) -> bytes:
    return msgspec.json.encode(message)
