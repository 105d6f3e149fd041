"""One entry of the ledger and how entries are chained and signed. Where they are kept is the store's affair."""

from __future__ import annotations

from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.event import Event
from buckler.model.ids import Digest
from buckler.trust.statement import Kind, sign

GENESIS = Digest("sha256:" + "0" * 64)
"""What the first entry names as the one before it."""


class Head(msgspec.Struct, frozen=True):
    """The end of a chain: how many entries it has and the digest of the last."""

    sequence: int = 0
    digest: Digest = GENESIS


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed. ``at`` is Unix seconds as the witness told them, ``origin`` its own sequence number (0: none)."""

    sequence: int
    previous: Digest
    kind: str
    at: float
    tenant: str = ""
    actor: str = ""
    cause: str = ""
    host: str = ""
    vm: str = ""
    origin: int = 0
    detail: dict[str, Any] = {}


class Signed(msgspec.Struct, frozen=True):
    """An entry, its digest, and the statement (compact JWS of kind LEDGER) that is kept and shown to auditors."""

    entry: Entry
    digest: Digest
    statement: str


def chain_event(event: Event, head: Head, key: Ed25519PrivateKey) -> Signed:
    """Make the entry that follows ``head``."""
    entry = Entry(
        sequence=head.sequence + 1,
        previous=head.digest,
        kind=event.kind.value,
        at=event.at,
        tenant=event.tenant,
        actor=event.actor,
        cause=event.cause,
        host=event.host,
        vm=event.vm,
        origin=event.sequence,
        detail=event.detail,
    )
    payload = canonical_bytes(entry)
    return Signed(entry=entry, digest=digest_of(payload), statement=sign(Kind.LEDGER, payload, key))


def head_after(signed: Signed) -> Head:
    """Return the chain's end once ``signed`` is appended."""
    return Head(sequence=signed.entry.sequence, digest=signed.digest)
