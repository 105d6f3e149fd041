"""The ledger over the operator API. Verifies nothing."""

from __future__ import annotations

import msgspec

from buckler.model.operatorapi.body import Answer


class SealedEntry(Answer, frozen=True):
    """``entry`` is the canonical JSON text (RFC 8785) that the tree holds under ``salt``; ``leaf`` its hash there.

    ``salt`` and ``leaf`` are Base64.
    """

    entry: str
    salt: str
    leaf: str


class LedgerPage(Answer, frozen=True):
    """``limit`` entries in order from number ``first``, without any that is missing; ``size`` is the whole ledger's."""

    first: int
    size: int
    entries: tuple[SealedEntry, ...]


class LedgerKeys(Answer, frozen=True):
    """``issuers``: every ISSUERS statement that the pool's root ever signed, oldest first; ``hosts``: id → public key."""

    pool: str
    root_key: str
    issuers: tuple[str, ...]
    hosts: dict[str, str] = msgspec.field(default_factory=dict)


class WitnessView(Answer, frozen=True):
    """The newest checkpoint that a host cosigned: C2SP tlog-checkpoint with the host's line, and when it came."""

    host: str
    size: int
    at: float
    note: str


class LedgerCheckpoint(Answer, frozen=True):
    """``note``: the newest checkpoint, as C2SP tlog-checkpoint; ``root`` in Base64."""

    size: int
    root: str
    note: str
    witnesses: tuple[WitnessView, ...] = ()


class EntryProof(Answer, frozen=True):
    """What leads from one entry to the root of ``checkpoint``: the hashes of RFC 9162, 2.1.3, in Base64."""

    number: int
    entry: str
    salt: str
    path: tuple[str, ...]
    checkpoint: str
