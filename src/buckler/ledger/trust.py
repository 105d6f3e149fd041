"""Whose signatures under checkpoints are believed: keys that the pool's root named. Reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buckler.ledger.checkpoint import origin_of
from buckler.model.agentapi import Issuers
from buckler.trust.statement import KeySet, Kind, Untrusted, key_from_text, key_id, verify


class Trust(msgspec.Struct, frozen=True):
    """``current`` may sign the newest checkpoint, ``ever`` an older one; ``hosts`` (id → key) cosign."""

    origin: str
    current: KeySet
    ever: KeySet
    hosts: dict[str, Ed25519PublicKey] = {}


def trust_root(root_key: str, pool: str, issuers: Iterable[str], hosts: Mapping[str, str] | None = None) -> Trust:
    """Read every ISSUERS statement of one pool, all by its root. Raises Untrusted for any that is not."""
    root = key_from_text(root_key)
    found = [_issuers(statement, root, pool) for statement in issuers]
    if not found:
        raise Untrusted("no statement names the pool's keys")
    newest = max(found, key=lambda each: each.version)
    return Trust(
        origin=origin_of(pool, root),
        current=_keys(newest.keys),
        ever=_keys(key for each in found for key in each.keys),
        hosts={host: key_from_text(key) for host, key in (hosts or {}).items()},
    )


def _issuers(statement: str, root: Ed25519PublicKey, pool: str) -> Issuers:
    try:
        issuers = msgspec.json.decode(verify(Kind.ISSUERS, statement, {key_id(root): root}), type=Issuers)
    except msgspec.DecodeError as error:
        raise Untrusted(f"a statement of keys that cannot be read: {error}") from error
    if issuers.pool != pool:
        raise Untrusted(f"keys of pool {issuers.pool!r} were given for pool {pool!r}")
    return issuers


def _keys(texts: Iterable[str]) -> KeySet:
    keys = [key_from_text(text) for text in texts]
    return {key_id(key): key for key in keys}
