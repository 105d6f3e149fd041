"""Signed notes (C2SP signed-note) with Ed25519. Owns the form of text and signature lines, not what a text says."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from enum import IntEnum

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buckler.trust.statement import Untrusted, public_bytes

_DASH = "\u2014"
_MOST = 100_000
_SIGNATURES = 100


class Algorithm(IntEnum):
    """The signature's type, as it goes into the key's id."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


class Line(msgspec.Struct, frozen=True):
    """One signature: who says to have signed, four bytes that name the key, and what follows them."""

    name: str
    key_id: bytes
    content: bytes


class Note(msgspec.Struct, frozen=True):
    """``text`` ends with a newline, and is what is signed."""

    text: str
    lines: tuple[Line, ...]


def note_key_id(name: str, algorithm: Algorithm, key: Ed25519PublicKey) -> bytes:
    """Name a key within a note: four bytes, a hint and no proof."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((algorithm,)) + public_bytes(key)).digest()[:4]


def read_note(text: str) -> Note:
    """Take a note apart; nothing of it is verified yet. Raises Untrusted."""
    body, blank, signatures = text.rpartition("\n\n")
    if (
        not blank
        or len(text) > _MOST
        or not text.endswith("\n")
        or any(ord(each) < 32 for each in text if each != "\n")
    ):
        raise Untrusted("not a signed note")
    lines = signatures[:-1].split("\n")
    if len(lines) > _SIGNATURES:
        raise Untrusted("a note with too many signatures")
    return Note(body + "\n", tuple(_read_line(line) for line in lines))


def write_note(note: Note) -> str:
    """Write what ``read_note`` reads."""
    return note.text + "\n" + "".join(_write_line(line) for line in note.lines)


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> Note:
    """Sign a text that ends with a newline, in the name of ``name``."""
    return Note(text, (Line(name, note_key_id(name, Algorithm.ED25519, key.public_key()), key.sign(text.encode())),))


def verify_note(note: Note, name: str, keys: Iterable[Ed25519PublicKey]) -> None:
    """Check that one of ``keys`` signed in the name of ``name``. Other signers' lines are ignored. Raises Untrusted."""
    candidates = {note_key_id(name, Algorithm.ED25519, key): key for key in keys}
    mine = [line for line in note.lines if line.name == name and line.key_id in candidates]
    if not mine:
        raise Untrusted("not signed by a key that the pool's root named")
    for line in mine:
        try:
            candidates[line.key_id].verify(line.content, note.text.encode())
        except InvalidSignature as error:
            raise Untrusted("the signature does not fit") from error


def _read_line(line: str) -> Line:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH or not parts[1] or "+" in parts[1]:
        raise Untrusted("not a signature line")
    try:
        raw = base64.b64decode(parts[2].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise Untrusted("not a signature line") from error
    # Base64 has unused bits: one signature is to have one form.
    if len(raw) < 5 or base64.b64encode(raw).decode() != parts[2]:
        raise Untrusted("not a signature line")
    return Line(parts[1], raw[:4], raw[4:])


def _write_line(line: Line) -> str:
    return f"{_DASH} {line.name} {base64.b64encode(line.key_id + line.content).decode()}\n"
