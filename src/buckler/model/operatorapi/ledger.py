"""The ledger over the operator API. Verifies nothing."""

from __future__ import annotations

import msgspec

from buckler.model.operatorapi.body import Answer


class LedgerPage(Answer, frozen=True):
    """``entries`` are signed statements (kind LEDGER), in order from index ``first``; ``size`` is the whole ledger's."""

    first: int
    size: int
    entries: tuple[str, ...]


class LedgerKeys(Answer, frozen=True):
    """``issuers``: every ISSUERS statement that the pool's root ever signed, oldest first; ``hosts``: id → public key."""

    pool: str
    root_key: str
    issuers: tuple[str, ...]
    hosts: dict[str, str] = msgspec.field(default_factory=dict)
