"""Tell a VM's life in words from its ledger entries. Owns the phrases, not the selection of time or format of output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from buckler.ledger.entry import Entry
from buckler.model.event import EventKind


class Line(msgspec.Struct, frozen=True):
    """One line of a history; ``sequence`` is the ledger entry it stands for."""

    sequence: int
    at: float
    kind: str
    host: str
    text: str


_PHRASES: Mapping[str, str] = {
    EventKind.VM_REGISTERED: "registered in the pool",
    EventKind.VM_ADOPTED: "adopted into the pool",
    EventKind.VM_CHANGED: "changed in its document",
    EventKind.VM_DELETED: "deleted from the pool",
    EventKind.VM_LABELLED: "labelled",
    EventKind.VM_QUARANTINED: "put into quarantine",
    EventKind.VM_RELEASED: "released from quarantine",
    EventKind.DOMAIN_DEFINED: "defined as a domain",
    EventKind.DOMAIN_UNDEFINED: "undefined as a domain",
    EventKind.DOMAIN_STARTED: "started",
    EventKind.DOMAIN_RESUMED: "resumed",
    EventKind.DOMAIN_SUSPENDED: "suspended",
    EventKind.DOMAIN_REBOOTED: "rebooted",
    EventKind.DOMAIN_SHUTDOWN: "shut down",
    EventKind.DOMAIN_STOPPED: "stopped",
    EventKind.DOMAIN_CRASHED: "crashed",
    EventKind.DOMAIN_ROGUE: "seen as a rogue: a domain that nobody registered",
    EventKind.INTERFACE_ADMITTED: "interface admitted behind its shield",
    EventKind.INTERFACE_REFUSED: "interface refused",
    EventKind.INTERFACE_REMOVED: "interface removed",
    EventKind.INTERFACE_DETACHED: "interface detached by Buckler",
    EventKind.ADDRESS_CHANGED: "addresses changed",
    EventKind.ADDRESS_REFUSED: "refused an address that it claimed",
    EventKind.GATE_ALLOWED: "allowed by the gate",
    EventKind.GATE_REFUSED: "refused by the gate",
    EventKind.MIGRATION_PREPARED: "awaited as a migration's arrival",
    EventKind.MIGRATION_ARRIVED: "arrived by migration",
    EventKind.MIGRATION_LEFT: "left by migration",
    EventKind.MIGRATION_ABORTED: "migration aborted",
    EventKind.DRIFT_REPAIRED: "shield repaired after drift",
    EventKind.GAP: "not observed for a while",
    EventKind.TASK_ORDERED: "ordered to move",
    EventKind.TASK_ENDED: "order ended",
}


def history(entries: Iterable[Entry], vm: str, names: Mapping[str, str] | None = None) -> list[Line]:
    """Return the life of VM ``vm`` oldest first; ``names`` maps ids (of hosts) to names for the text."""
    return [_line(entry, names or {}) for entry in entries if entry.vm == vm]


def describe(entry: Entry, names: Mapping[str, str] | None = None) -> str:
    """Say in words what one entry records."""
    return _line(entry, names or {}).text


def stamp(at: float) -> str:
    """Write a time as UTC to the second (RFC 3339)."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(entry: Entry, names: Mapping[str, str]) -> Line:
    host = names.get(entry.host, entry.host)
    parts = [_PHRASES.get(entry.kind, entry.kind)]
    parts += [f"on {host}"] if host else []
    parts += [f"by {entry.actor}"] if entry.actor else []
    text = " ".join(parts)
    text += f" because {entry.cause}" if entry.cause else ""
    text += f" ({_detail(entry)})" if entry.detail else ""
    return Line(sequence=entry.sequence, at=entry.at, kind=entry.kind, host=host, text=text)


def _detail(entry: Entry) -> str:
    return ", ".join(f"{key} {_word(value)}" for key, value in sorted(entry.detail.items()))


def _word(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
