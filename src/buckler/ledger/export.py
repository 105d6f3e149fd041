"""The files that auditors keep: a whole ledger, or the proof of one entry. Owns their form; verifies nothing.

A ledger is lines of JSON: the Header, then one line for each entry: ``{"salt": …, "leaf": …, "entry": {…}}``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from buckler.ledger.entry import Leaf

T = TypeVar("T")


class BadFile(ValueError):
    """A file that is none of ours, or damaged beyond reading."""


class Pool(msgspec.Struct, frozen=True, rename="camel"):
    """Who vouches: the pool's root key, and every statement by which it named issuing keys."""

    pool: str
    root_key: str
    issuers: tuple[str, ...]
    hosts: dict[str, str] = {}


class Header(Pool, frozen=True, rename="camel", tag="buckler-ledger/1", tag_field="form"):
    """``checkpoint`` covers the lines that follow; ``witnesses`` are checkpoints as hosts cosigned them."""

    checkpoint: str = ""
    witnesses: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """An entry as it was kept. ``told`` is its hash as the tree has it, empty when the tree has none."""

    leaf: Leaf
    told: bytes


class Proof(Pool, frozen=True, rename="camel", tag="buckler-proof/1", tag_field="form"):
    """One entry with its salt, and the hashes that lead from it to the root of ``checkpoint`` (all Base64)."""

    checkpoint: str = ""
    number: int = 0
    salt: str = ""
    entry: msgspec.Raw = msgspec.Raw(b"{}")
    path: tuple[str, ...] = ()


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    salt: str
    leaf: str
    entry: msgspec.Raw


def base64_of(raw: bytes) -> str:
    """Write bytes as Base64 (RFC 4648, 4)."""
    return base64.b64encode(raw).decode()


def bytes_of(text: str) -> bytes:
    """Read what ``base64_of`` wrote, and no other spelling of it. Raises BadFile."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BadFile("not Base64") from error
    if base64_of(raw) != text:
        raise BadFile("not canonical Base64")
    return raw


def header_text(header: Header) -> str:
    """Write the first line."""
    return msgspec.json.encode(header).decode() + "\n"


def line_text(line: Line) -> str:
    """Write one entry's line."""
    entry = msgspec.Raw(line.leaf.text.encode())
    return msgspec.json.encode(_Line(base64_of(line.leaf.salt), base64_of(line.told), entry)).decode() + "\n"


def read_export(lines: Iterable[str]) -> tuple[Header, Iterator[Line]]:
    """Read a ledger's file line by line. Raises BadFile, for an entry's line when it is reached."""
    rest = iter(lines)
    return _decoded(next(rest, ""), Header), (_line(text) for text in rest)


def leaf_in(entry: msgspec.Raw, salt: str) -> Leaf:
    """Take an entry out of a file exactly as it was written there. Raises BadFile."""
    return Leaf(bytes(entry).decode(), bytes_of(salt))


def proof_text(proof: Proof) -> str:
    """Write a proof's file."""
    return msgspec.json.encode(proof).decode() + "\n"


def read_proof(text: str) -> Proof:
    """Read a proof's file. Raises BadFile."""
    return _decoded(text, Proof)


def _line(text: str) -> Line:
    line = _decoded(text, _Line)
    return Line(leaf_in(line.entry, line.salt), bytes_of(line.leaf))


def _decoded(text: str, form: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadFile(str(error)) from error
