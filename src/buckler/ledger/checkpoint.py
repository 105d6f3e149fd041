"""Checkpoints (C2SP tlog-checkpoint) and hosts' cosignatures (C2SP tlog-cosignature). Knows no tree and no host's state."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from urllib.parse import quote

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.ledger.note import Algorithm, Line, Note, note_key_id, read_note, sign_note, verify_note, write_note
from buckler.ledger.tree import Hash
from buckler.trust.statement import KeySet, Untrusted, public_bytes

_HASH_SIZE = 32
_SIGNATURE_SIZE = 64


class Checkpoint(msgspec.Struct, frozen=True):
    """The whole ledger in two values: how many entries it has, and the root over them."""

    size: int
    root: Hash


class Cosignature(msgspec.Struct, frozen=True):
    """A host's word that it saw the checkpoint, and none that contradicts it. ``at``: Unix seconds by its clock."""

    host: str
    at: int


def origin_of(pool: str, root_key: Ed25519PublicKey) -> str:
    """Name a pool's ledger for ever: by the pool's name and its root key, so that equal names are not confused."""
    return f"buckler/{quote(pool, safe='')}/{hashlib.sha256(public_bytes(root_key)).hexdigest()[:16]}"


def sign_checkpoint(checkpoint: Checkpoint, origin: str, key: Ed25519PrivateKey) -> str:
    """Write and sign a checkpoint."""
    text = f"{origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"
    return write_note(sign_note(text, origin, key))


def read_checkpoint(text: str, origin: str, keys: KeySet) -> Checkpoint:
    """Read a checkpoint of exactly ``origin``, signed by one of ``keys``. Raises Untrusted."""
    note = read_note(text)
    verify_note(note, origin, keys.values())
    return _checkpoint_in(note, origin)


def witness_name(host: str) -> str:
    """The name under which a host cosigns."""
    return f"buckler/host/{quote(host, safe='')}"


def cosign(text: str, host: str, at: int, key: Ed25519PrivateKey) -> str:
    """Add a host's cosignature to a checkpoint, in place of the witnesses' that it had."""
    note, name = read_note(text), witness_name(host)
    signature = key.sign(_cosigned(note.text, at))
    line = Line(name, note_key_id(name, Algorithm.COSIGNATURE, key.public_key()), struct.pack(">Q", at) + signature)
    kept = tuple(each for each in note.lines if not each.name.startswith(witness_name("")))
    return write_note(Note(note.text, (*kept, line)))


def read_cosignatures(text: str, keys: dict[str, Ed25519PublicKey]) -> tuple[Cosignature, ...]:
    """Check the cosignatures of those hosts (id → key) that ``keys`` names. One that does not fit raises Untrusted."""
    note, found = read_note(text), []
    names = {witness_name(host): host for host in keys}
    for line in note.lines:
        if line.name in names:
            found.append(_cosignature(note.text, line, names[line.name], keys[names[line.name]]))
    return tuple(found)


def read_cosigned(text: str, origin: str, host: str, key: Ed25519PublicKey) -> Checkpoint:
    """Read a checkpoint that ``host`` cosigned; whoever signed it for the pool is not asked. Raises Untrusted."""
    if not read_cosignatures(text, {host: key}):
        raise Untrusted(f"not cosigned by host {host}")
    return _checkpoint_in(read_note(text), origin)


def _cosignature(text: str, line: Line, host: str, key: Ed25519PublicKey) -> Cosignature:
    if line.key_id != note_key_id(line.name, Algorithm.COSIGNATURE, key) or len(line.content) != 8 + _SIGNATURE_SIZE:
        raise Untrusted(f"the cosignature of host {host} is by another key")
    (at,) = struct.unpack(">Q", line.content[:8])
    try:
        key.verify(line.content[8:], _cosigned(text, at))
    except InvalidSignature as error:
        raise Untrusted(f"the cosignature of host {host} does not fit") from error
    return Cosignature(host, at)


def _cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _checkpoint_in(note: Note, origin: str) -> Checkpoint:
    lines = note.text.split("\n")
    if len(lines) != 4 or lines[0] != origin:
        raise Untrusted("a checkpoint of another ledger")
    number, encoded = lines[1], lines[2]
    if not (number.isascii() and number.isdigit()) or str(int(number[:20])) != number:
        raise Untrusted("a checkpoint without a size")
    try:
        root = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Untrusted("a checkpoint without a root hash") from error
    if len(root) != _HASH_SIZE or base64.b64encode(root).decode() != encoded:
        raise Untrusted("a checkpoint without a root hash")
    return Checkpoint(int(number), root)
