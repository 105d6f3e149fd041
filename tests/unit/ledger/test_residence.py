"""Where a VM was and what was enforced there, at every moment and on every edge."""

from __future__ import annotations

from typing import Any

import pytest

from buckler.ledger.entry import Entry
from buckler.ledger.residence import Span, enforced_on, holds_at, spans_of, stays_of
from buckler.model.event import EventKind as K

UUID = "u"


def life(*told: tuple[K, str, float] | tuple[K, str, float, dict[str, Any]]) -> list[Entry]:
    entries = []
    for number, (kind, host, at, *detail) in enumerate(told, 1):
        entries.append(Entry(number, kind.value, at, host=host, detail=detail[0] if detail else {}))
    return entries


def revision(number: int) -> dict[str, Any]:
    return {"revision": number, "policy": f"p{number}"}


LIFE = life(
    (K.REVISION_ENFORCED, "a", 5, revision(1)),
    (K.REVISION_ENFORCED, "b", 6, revision(1)),
    (K.INTERFACE_ADMITTED, "a", 10),
    (K.DOMAIN_STARTED, "a", 11),
    (K.REVISION_ENFORCED, "a", 20, revision(2)),
    (K.REVISION_ENFORCED, "b", 21, revision(2)),
    (K.MIGRATION_PREPARED, "b", 30),
    (K.INTERFACE_ADMITTED, "b", 31),
    (K.MIGRATION_ARRIVED, "b", 33),
    (K.MIGRATION_LEFT, "a", 32.5),
    (K.REVISION_ENFORCED, "b", 40, revision(3)),
    (K.DOMAIN_STOPPED, "b", 50),
    (K.INTERFACE_ADMITTED, "b", 60),
    (K.VM_DELETED, "", 70),
)


def spans(entries: list[Entry]) -> tuple[Span, ...]:
    own = [entry for entry in entries if entry.kind not in (K.REVISION_ENFORCED, K.GAP)]
    gaps = [entry for entry in entries if entry.kind == K.GAP]
    return spans_of(stays_of(own, gaps, UUID), enforced_on(entries))


def bound(entries: list[Entry], at: float, host: str = "") -> list[tuple[str, int]]:
    found = [span for span in spans(entries) if holds_at(span, at) and host in {"", span.stay.host}]
    return [(span.stay.host, span.enforced.revision if span.enforced else 0) for span in found]


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        (9.99, []), (10, [("a", 1)]), (19.99, [("a", 1)]), (20, [("a", 2)]), (32.4, [("a", 2)]),
        (32.5, []), (33, [("b", 2)]), (39.99, [("b", 2)]), (40, [("b", 3)]), (49.99, [("b", 3)]),
        (50, []), (59, []), (60, [("b", 3)]), (69.99, [("b", 3)]), (70, []), (1e9, []),
    ],
)  # fmt: skip
def test_each_moment_has_its_revision_and_edges_belong_to_what_begins(at: float, wanted: list[tuple[str, int]]) -> None:
    assert bound(LIFE, at) == wanted


def test_a_host_that_it_is_not_on_binds_nothing() -> None:
    assert bound(LIFE, 15, "b") == []
    assert bound(LIFE, 45, "a") == []


def test_what_runs_now_has_no_end() -> None:
    now = life((K.REVISION_ENFORCED, "a", 5, revision(1)), (K.DOMAIN_STARTED, "a", 11))
    assert bound(now, 1e12) == [("a", 1)]
    assert [span.until for span in spans(now)] == [0]


def test_before_the_first_revision_no_revision_is_named() -> None:
    early = life((K.DOMAIN_STARTED, "a", 5), (K.REVISION_ENFORCED, "a", 8, revision(4)))
    assert [bound(early, at) for at in (5, 7.9, 8)] == [[("a", 0)], [("a", 0)], [("a", 4)]]
    assert bound(life((K.DOMAIN_STARTED, "a", 5)), 6) == [("a", 0)]


def test_the_same_revision_told_again_is_no_new_one() -> None:
    told = life(*((K.REVISION_ENFORCED, "a", float(at), revision(1)) for at in (1, 2, 3)))
    assert [(each.since, each.until) for each in enforced_on(told)] == [(1.0, 0)]


def test_a_migration_that_was_aborted_leaves_it_where_it_was() -> None:
    told = life(
        (K.REVISION_ENFORCED, "a", 1, revision(1)),
        (K.DOMAIN_STARTED, "a", 2),
        (K.MIGRATION_PREPARED, "b", 3),
        (K.INTERFACE_ADMITTED, "b", 4),
        (K.MIGRATION_ABORTED, "b", 5),
    )
    assert [bound(told, at) for at in (4.5, 6)] == [[("a", 1)], [("a", 1)]]


def test_what_ended_or_began_while_nobody_watched_is_not_certain() -> None:
    gap = {"since": 10.0, "until": 20.0, "domains": {UUID: ["running", "absent"]}}
    back = {"since": 30.0, "until": 40.0, "domains": {UUID: ["shutoff", "running"]}}
    told = life(
        (K.REVISION_ENFORCED, "a", 1, revision(1)),
        (K.DOMAIN_STARTED, "a", 2),
        (K.GAP, "a", 20, gap),
        (K.GAP, "a", 40, back),
    )
    assert [bound(told, at) for at in (15, 25, 35)] == [[("a", 1)], [], [("a", 1)]]
    notes = [span.stay.note for span in spans(told)]
    assert "ended while nobody watched" in notes[0]
    assert "began while nobody watched" in notes[1]


def test_a_gap_in_which_nothing_changed_changes_nothing() -> None:
    told = life(
        (K.REVISION_ENFORCED, "a", 1, revision(1)), (K.DOMAIN_STARTED, "a", 2), (K.GAP, "a", 20, {"domains": {}})
    )
    assert bound(told, 30) == [("a", 1)]


@pytest.mark.parametrize("domains", [None, [], {UUID: 1}, {UUID: ["a"]}, {UUID: [1, 2]}])
def test_a_gap_of_a_strange_form_tells_nothing(domains: object) -> None:
    told = life(
        (K.REVISION_ENFORCED, "a", 1, revision(1)), (K.DOMAIN_STARTED, "a", 2), (K.GAP, "a", 9, {"domains": domains})
    )
    assert bound(told, 30) == [("a", 1)]


def test_a_clock_that_was_set_back_makes_no_time_that_ends_before_it_begins() -> None:
    told = life((K.REVISION_ENFORCED, "a", 1, revision(1)), (K.DOMAIN_STARTED, "a", 50), (K.DOMAIN_STOPPED, "a", 40))
    assert all(not span.until or span.until >= span.since for span in spans(told))
    assert bound(told, 45) == []
