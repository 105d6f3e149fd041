"""A VM's life in words."""

from __future__ import annotations

from buckler.ledger.entry import Entry
from buckler.ledger.history import describe, history
from buckler.model.event import EventKind


def entry(sequence: int, kind: EventKind, **rest: object) -> Entry:
    return Entry(sequence=sequence, kind=kind.value, at=float(sequence), **rest)  # type: ignore[arg-type]


def test_only_the_vms_own_entries_are_told_with_host_actor_and_cause() -> None:
    entries = [
        entry(1, EventKind.VM_REGISTERED, vm="v", actor="uid:0(root)"),
        entry(2, EventKind.DOMAIN_STARTED, vm="other", host="h"),
        entry(3, EventKind.VM_QUARANTINED, vm="v", actor="uid:0(root)", cause="it scans"),
        entry(4, EventKind.MIGRATION_ARRIVED, vm="v", host="h", detail={"source": "b"}),
    ]
    assert [line.text for line in history(entries, "v", {"h": "host-a"})] == [
        "registered in the pool by uid:0(root)",
        "put into quarantine by uid:0(root) because it scans",
        "arrived by migration on host-a (source b)",
    ]


def test_every_kind_of_event_can_be_told() -> None:
    assert all(describe(entry(1, kind)) for kind in EventKind)
