"""Hours of days, by clocks that are put forward and back."""

from __future__ import annotations

import pytest

from buckler.policy.documents import read_documents
from buckler.policy.language import ScheduleSpec
from buckler.policy.source import Source
from buckler.policy.times import edges_of
from buckler.policy.timing import AHEAD, Untimed, active, find_zone, parse_moment, write_moment
from tests.policyworld import Store


def flow(**spec: str):
    given = {
        "description": "d",
        "owner": "o",
        "reason": "r",
        "review": "2030-01-01",
        "from": "[{vm: {}}]",
        "to": "[{vm: {}}]",
    }
    body = ", ".join(f"{key}: {value}" for key, value in {**given, **spec}.items())
    return read_documents(
        [Source("f", f"apiVersion: buckler.io/v1\nkind: Flow\nmetadata: {{name: f}}\nspec: {{{body}}}\n")]
    )


def windows(days: str, start: str, end: str, zone: str, now: str, until: str = "") -> list[tuple[str, str]]:
    said = {"schedule": f'{{days: {days}, from: "{start}", to: "{end}", timezone: {zone}}}'} | (
        {"until": until} if until else {}
    )
    reading = flow(**said)
    assert not reading.problems, reading.problems
    (document,) = active(reading.documents, parse_moment(now)).documents
    return [(write_moment(first) if first else "now", write_moment(last)) for first, last in document.times.windows]


def test_hours_follow_the_clock_of_their_zone_over_its_changes():
    found = windows("[sat, sun, mon]", "09:00", "17:00", "Europe/Berlin", "2026-10-24T06:00:00Z")
    assert found[:3] == [
        ("2026-10-24T07:00:00Z", "2026-10-24T15:00:00Z"),
        ("2026-10-25T08:00:00Z", "2026-10-25T16:00:00Z"),
        ("2026-10-26T08:00:00Z", "2026-10-26T16:00:00Z"),
    ]
    assert len(found) == AHEAD


def test_a_night_goes_over_midnight_and_over_a_change_of_clocks():
    found = windows("[sat]", "22:00", "06:00", "Europe/Berlin", "2026-03-28T23:00:00Z")
    assert found[0] == ("now", "2026-03-29T04:00:00Z"), "an hour is missing that night"
    assert windows("[sat]", "22:00", "06:00", "Europe/Berlin", "2026-10-24T21:00:00Z")[0] == (
        "now",
        "2026-10-25T05:00:00Z",
    )


def test_a_time_that_occurs_twice_is_its_first_and_one_that_does_not_exist_comes_later():
    found = windows("[sun]", "01:30", "02:30", "Europe/Berlin", "2026-10-24T12:00:00Z")
    assert found[0] == ("2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z")
    missing = windows("[sun]", "02:15", "02:45", "Europe/Berlin", "2026-03-28T12:00:00Z")
    assert missing[0] == ("2026-03-29T01:15:00Z", "2026-03-29T01:45:00Z")


def test_whole_days_that_follow_each_other_are_one_window():
    found = windows("[mon, tue, wed, thu, fri]", "00:00", "24:00", "UTC", "2026-06-03T12:00:00Z")
    assert found[:2] == [("now", "2026-06-06T00:00:00Z"), ("2026-06-08T00:00:00Z", "2026-06-13T00:00:00Z")]


def test_an_end_cuts_hours_off_for_good():
    found = windows("[mon]", "09:00", "17:00", "UTC", "2026-06-01T08:00:00Z", until="2026-06-08T10:00:00+00:00")
    assert found == [("2026-06-01T09:00:00Z", "2026-06-01T17:00:00Z"), ("2026-06-08T09:00:00Z", "2026-06-08T10:00:00Z")]
    reading = flow(until="2026-06-08T10:00:00Z")
    told = active(reading.documents, parse_moment("2026-06-08T10:00:00Z"))
    assert (told.documents, told.over, told.boundary) == ((), reading.documents, 0)


def test_a_boundary_is_every_moment_at_which_anything_changes():
    (document,) = flow(schedule='{days: [mon], from: "09:00", to: "17:00", timezone: UTC}').documents
    now, seen = parse_moment("2026-06-01T08:00:00Z"), []
    for _ in range(4):
        told = active([document], now)
        seen.append(write_moment(told.boundary))
        now = told.boundary
        assert edges_of(told.documents[0].times)[0] == told.boundary
    assert seen == ["2026-06-01T09:00:00Z", "2026-06-01T17:00:00Z", "2026-06-08T09:00:00Z", "2026-06-08T17:00:00Z"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{days: [mon], from: "09:00", to: "09:00", timezone: UTC}', "the same as from"),
        ('{days: [], from: "09:00", to: "10:00", timezone: UTC}', "names no day"),
        ('{days: [mon, mon], from: "09:00", to: "10:00", timezone: UTC}', "twice"),
        ('{days: [monday], from: "09:00", to: "10:00", timezone: UTC}', "no day"),
        ('{days: [mon], from: "9:00", to: "10:00", timezone: UTC}', "no time of day"),
        ('{days: [mon], from: "09:00", to: "25:00", timezone: UTC}', "no time of day"),
        ('{days: [mon], from: "09:00", to: "10:00", timezone: Europe/Bonn}', "no time zone"),
        ('{days: [mon], from: "09:00", to: "10:00", timezone: Europe}', "no time zone"),
        ('{days: [mon], from: "09:00", to: "10:00", timezone: ../../etc/passwd}', "no time zone"),
        ('{days: [mon], from: "09:00", to: "10:00"}', "timezone is missing"),
        ('{days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "24:00", timezone: UTC}', "is always"),
    ],
)
def test_hours_that_are_none_are_refused(said: str, why: str):
    found = [str(each) for each in flow(schedule=said).problems]
    assert any(why in each for each in found), found


def test_zones_are_those_of_the_tz_database():
    assert find_zone("Europe/Berlin").key == "Europe/Berlin"
    assert ScheduleSpec(("mon",), "09:00", "10:00", "UTC") == ScheduleSpec(("mon",), "09:00", "10:00", "UTC")


def test_without_a_time_nothing_is_decided():
    reading = flow(until="2026-06-08T10:00:00Z")
    store = Store()
    with pytest.raises(Untimed):
        store.allocate(store.pool(reading.documents), reading.documents)
