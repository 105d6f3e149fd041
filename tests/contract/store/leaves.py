"""Events as leaves of a store's ledger. Owns no claim."""

from __future__ import annotations

from buckler.ledger.entry import entry_of, leaf_of
from buckler.model.event import Event
from buckler.ports.store import Unit


def append(unit: Unit, event: Event, salt: bytes = b"s" * 32) -> None:
    entry = entry_of(event, unit.ledger.edge().size + 1)
    unit.ledger.append(entry, leaf_of(entry, salt))
