"""A VM's life in words."""

from __future__ import annotations

from buckler.ledger.entry import Entry
from buckler.ledger.history import describe, history
from buckler.model.event import EventKind

BEFORE, AFTER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
MOVE = {
    "from": "h1", "to": "h2", "who": "libvirt", "binding_before": BEFORE, "binding_after": BEFORE,
    "connections_moved": 12, "connections_refused": 0, "handover": "whole",
}  # fmt: skip


def entry(sequence: int, kind: EventKind, **rest: object) -> Entry:
    return Entry(sequence=sequence, kind=kind.value, at=float(sequence), **rest)  # type: ignore[arg-type]


def test_entries_are_told_with_host_actor_and_cause() -> None:
    entries = [
        entry(1, EventKind.VM_REGISTERED, vm="v", actor="uid:0(root)"),
        entry(3, EventKind.VM_QUARANTINED, vm="v", actor="uid:0(root)", cause="it scans"),
        entry(4, EventKind.MIGRATION_ARRIVED, vm="v", host="h", detail={"source": "b"}),
    ]
    assert [line.text for line in history(entries, {"h": "host-a"})] == [
        "registered in the pool by uid:0(root)",
        "put into quarantine by uid:0(root) because it scans",
        "arrived by migration on host-a (source b)",
    ]


def test_every_kind_of_event_can_be_told() -> None:
    assert all(describe(entry(1, kind)) for kind in EventKind)


def test_labels_are_named() -> None:
    detail = {"set": {"tier": "web", "env": "test"}, "removed": ["old"], "revision": 7}
    told = describe(entry(1, EventKind.VM_LABELLED, actor="uid:0", detail=detail))
    assert told == "labelled env=test, tier=web, old- by uid:0 (revision 7)"


def test_a_document_is_told_with_its_reason_and_without_what_is_said_already() -> None:
    detail = {"action": "created", "kind": "VM", "name": "web", "digest": BEFORE, "revision": 3, "file": "a.yaml"}
    told = describe(entry(1, EventKind.VM_REGISTERED, actor="uid:0", cause="apply", detail=detail))
    assert told == "registered in the pool by uid:0 (by apply, file a.yaml, revision 3)"
    told = describe(entry(1, EventKind.VM_DELETED, actor="uid:0", cause="delete", detail={**detail, "comment": "old"}))
    assert told == "deleted from the pool by uid:0 because old (by delete, file a.yaml, revision 3)"


def test_facts_are_told_in_words_and_one_is_one() -> None:
    detail = {"seen_at": ["a", "b"], "is_new": True, "ports": {"tcp": 80}, "left": [], "deep": [[1]]}
    told = describe(entry(1, EventKind.INTERFACE_REFUSED, detail=detail))
    assert told == "interface refused (deep [[1]], is new yes, left none, ports tcp 80, seen at a and b)"
    moved = describe(entry(1, EventKind.MIGRATION_ARRIVED, host="2", detail={**MOVE, "connections_moved": 1}))
    assert "1 connection moved" in moved


def test_a_move_is_one_line_with_from_to_who_why_and_the_policy_before_and_after() -> None:
    entries = [
        entry(1, EventKind.TASK_ORDERED, host="1", actor="uid:0(root)", cause="drain of h1", detail={"task": "t"}),
        entry(2, EventKind.MIGRATION_PREPARED, host="2"),
        entry(3, EventKind.INTERFACE_ADMITTED, host="2"),
        entry(4, EventKind.MIGRATION_LEFT, host="1", detail=MOVE),
        entry(5, EventKind.MIGRATION_ARRIVED, host="2", detail={**MOVE, "task": "t"}),
        entry(6, EventKind.TASK_ENDED, host="1", detail={"task": "t", "state": "done"}),
    ]
    lines = history(entries, {"1": "h1", "2": "h2"})
    assert [(line.sequence, line.part_of) for line in lines] == [(1, 5), (2, 5), (3, 0), (4, 5), (5, 0), (6, 5)]
    assert lines[4].text == (
        "moved from h1 to h2, by uid:0(root) because drain of h1 "
        "(policy sha256:abababababab before and after; 12 connections moved; handover whole)"
    )


def test_a_move_that_failed_or_changed_the_policy_says_so() -> None:
    detail = {**MOVE, "binding_after": AFTER, "connections_refused": 2, "handover": "the source was not reached"}
    aborted = describe(entry(1, EventKind.MIGRATION_ABORTED, host="2", cause="failed", detail=detail))
    assert aborted == (
        "did not move from h1 to h2, by libvirt because failed (policy sha256:abababababab before, "
        "sha256:cdcdcdcdcdcd after; 12 connections moved; 2 refused; handover the source was not reached)"
    )


def test_ten_moves_back_and_forth_keep_their_parts_apart_in_any_order_of_telling() -> None:
    entries: list[Entry] = []
    for number in range(10):
        source, destination = ("1", "2") if number % 2 == 0 else ("2", "1")
        ends = {"from": source, "to": destination, "handover": "whole"}
        arrived = Entry(0, EventKind.MIGRATION_ARRIVED.value, 100.0 * number + 3, host=destination, detail=ends)
        left = Entry(0, EventKind.MIGRATION_LEFT.value, 100.0 * number + 2.5, host=source, detail=ends)
        prepared = Entry(0, EventKind.MIGRATION_PREPARED.value, 100.0 * number, host=destination)
        order = [prepared, left, arrived] if number % 3 else [prepared, arrived, left]
        for each in order:
            fields = {name: getattr(each, name) for name in ("kind", "at", "host", "detail")}
            entries.append(Entry(len(entries) + 1, **fields))
    lines = {line.sequence: line for line in history(entries)}
    for each in entries:
        whole = lines[each.sequence].part_of
        if each.kind != EventKind.MIGRATION_ARRIVED:
            assert whole, each
            assert abs(entries[whole - 1].at - each.at) < 10
        else:
            assert not whole
