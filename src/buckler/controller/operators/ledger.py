"""The ledger over the API: entries, keys, checkpoint, proofs. Owns no proof."""

from __future__ import annotations

from litestar import get
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.controller.proving import inclusion, newest_checkpoint
from buckler.ledger.export import base64_of
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.ledger import (
    EntryProof,
    LedgerCheckpoint,
    LedgerKeys,
    LedgerPage,
    SealedEntry,
    WitnessView,
)
from buckler.trust.statement import key_text

_PAGE = 10_000


def ledger_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything that auditors read."""

    @get(PREFIX + "/ledger/entries", sync_to_thread=True)
    def ledger_entries(
        after: int = Parameter(query="after", ge=0, default=0),
        limit: int = Parameter(query="limit", ge=0, default=0),
    ) -> LedgerPage:
        with parts.store.read() as unit:
            found = unit.ledger.leaves(after, min(limit or 1000, _PAGE))
            entries = tuple(
                SealedEntry(each.leaf.text, base64_of(each.leaf.salt), base64_of(each.hash)) for each in found
            )
            return LedgerPage(first=after + 1, size=unit.ledger.edge().size, entries=entries)

    @get(PREFIX + "/ledger/entries/{number:int}/proof", sync_to_thread=True)
    def entry_proof(number: int) -> EntryProof:
        with parts.store.read() as unit:
            note, signed = newest_checkpoint(parts, unit)
            path = inclusion(unit, number - 1, signed.size)
            found = unit.ledger.leaves(number - 1, 1)
        if not found or found[0].sequence != number:
            raise Refused(404, "no such entry", f"entry {number} is missing from the store; run ledger verify")
        leaf = found[0].leaf
        return EntryProof(number, leaf.text, base64_of(leaf.salt), tuple(base64_of(each) for each in path), note)

    @get(PREFIX + "/ledger/checkpoint", sync_to_thread=True)
    def ledger_checkpoint() -> LedgerCheckpoint:
        with parts.store.read() as unit:
            note, signed = newest_checkpoint(parts, unit)
            names = {record.host.id: record.host.name for record in unit.hosts.all()}
            witnesses = tuple(
                WitnessView(names.get(each.host, each.host), each.size, each.at, each.note)
                for each in unit.ledger.witnessed()
            )
        return LedgerCheckpoint(signed.size, base64_of(signed.root), note, witnesses)

    @get(PREFIX + "/ledger/keys", sync_to_thread=True)
    def ledger_keys() -> LedgerKeys:
        with parts.store.read() as unit:
            return LedgerKeys(
                pool=parts.settings.pool,
                root_key=key_text(parts.keys.root.public_key()),
                issuers=tuple(record.statement for record in unit.keys.issuers()),
                hosts={record.host.id: record.host.public_key for record in unit.hosts.all()},
            )

    return [ledger_entries, entry_proof, ledger_checkpoint, ledger_keys]
