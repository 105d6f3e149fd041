"""When documents hold: ``until`` and ``schedule`` → windows of time, known at a given moment. Reads no clock, judges nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from buckler.policy.language import Document, ExceptionSpec, FlowSpec, PolicySpec, ScheduleSpec
from buckler.policy.times import ALWAYS, NEVER, Times, edges_of, ended

AHEAD = 8
"""Windows of a schedule that are known ahead. Beyond them nothing is known, and so nothing is allowed by it or past it."""
MOST_UNKNOWN = 4
"""Schedules of which every case is thought through where they are not known; where more meet, nothing is allowed."""
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIRST_YEAR, LAST_YEAR = 1971, 2199
"""A deadline in the kernel counts nanoseconds in 63 bits."""
_MOMENT = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})\Z")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*\Z")
_SEARCHED = 7 * (AHEAD + 2)


class UnknownZone(ValueError):
    """No such time zone is known on this machine."""


class Untimed(ValueError):
    """A document begins or ends, and nobody said what time it is: ``active`` was left out."""


class Active(msgspec.Struct, frozen=True):
    """``documents`` with their times, without those that are ``over``. ``boundary``: when it must be asked again; 0: never."""

    documents: tuple[Document, ...]
    boundary: int
    over: tuple[Document, ...] = ()


def parse_moment(text: str) -> int:
    """Read a time with its offset (RFC 3339, 5.6) as whole seconds since 1970, cut off. Raises ValueError."""
    if not _MOMENT.match(text):
        raise ValueError("write it like 2027-01-31T18:00:00Z or 2027-01-31T19:00:00+01:00: the offset is required")
    moment = dt.datetime.fromisoformat(text)
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"a time from {FIRST_YEAR} to {LAST_YEAR}")
    return int(moment.timestamp() // 1)


def write_moment(seconds: int) -> str:
    """Write seconds since 1970 in UTC (RFC 3339)."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=1024)
def find_zone(name: str) -> ZoneInfo:
    """Find a time zone by its name. Raises UnknownZone."""
    if not _ZONE.match(name):
        raise UnknownZone(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a folder's name is an OSError
        raise UnknownZone(name) from error


def is_timed(document: Document) -> bool:
    """Say whether anything in a document begins or ends."""
    spec = document.spec
    if isinstance(spec, PolicySpec):
        return bool(spec.until or spec.schedule or any(rule.until for rule in (*spec.ingress, *spec.egress)))
    if isinstance(spec, FlowSpec):
        return bool(spec.until or spec.schedule)
    return isinstance(spec, ExceptionSpec)


def active(documents: Iterable[Document], now: float) -> Active:
    """Give each timed document its times as they are at ``now``, and leave out what is over. Asking twice is asking once."""
    kept: list[Document] = []
    over: list[Document] = []
    boundary = 0
    for document in documents:
        if not is_timed(document):
            kept.append(document)
            continue
        times = times_of(document, now)
        if not times.windows:
            over.append(document)
            continue
        ends = _rule_ends(document)
        ended_rules = tuple(name for name, end in ends.items() if end <= now)
        kept.append(msgspec.structs.replace(document, times=times, ended=ended_rules))
        for edge in (*edges_of(times), *(end for end in ends.values() if end > now)):
            boundary = min(boundary or edge, edge)
    return Active(tuple(kept), boundary, tuple(over))


def times_said(document: Document) -> Times | None:
    """Give the times of a document; None: it always holds. Raises Untimed."""
    if document.times is None and is_timed(document):
        raise Untimed(document.key)
    return document.times


def times_of(document: Document, now: float) -> Times:
    """Say when a document holds, from ``now`` on."""
    spec = document.spec
    schedule = spec.schedule if isinstance(spec, PolicySpec | FlowSpec) else None
    times = _scheduled(schedule, now) if schedule else ALWAYS
    until = spec.until if isinstance(spec, PolicySpec | FlowSpec | ExceptionSpec) else ""
    return ended(times, parse_moment(until), now) if until else times


def rule_times(document: Document, name: str, until: str) -> Times | None:
    """Say when a rule (``ingress/name``) holds; None: always. Raises Untimed."""
    times = times_said(document)
    if name in document.ended:
        return NEVER
    return ended(times, parse_moment(until)) if until and times is not None else times


def _rule_ends(document: Document) -> dict[str, int]:
    """Give the ends of the rules that have one."""
    spec = document.spec
    sides = (("ingress", spec.ingress), ("egress", spec.egress)) if isinstance(spec, PolicySpec) else ()
    return {f"{side}/{rule.name}": parse_moment(rule.until) for side, rules in sides for rule in rules if rule.until}


def _scheduled(schedule: ScheduleSpec, now: float) -> Times:
    zone = find_zone(schedule.timezone)
    today = dt.datetime.fromtimestamp(now, dt.UTC).astimezone(zone).date()
    left = [(first, last) for first, last in _windows(schedule, today.toordinal()) if last > now][:AHEAD]
    known = left[-1][1] if left else int(now)
    return Times(tuple((0 if first <= now else first, last) for first, last in left), known)


@lru_cache(maxsize=4096)
def _windows(schedule: ScheduleSpec, today: int) -> tuple[tuple[int, int], ...]:
    """List windows from two days before a day on; those that touch are one."""
    zone, joined = find_zone(schedule.timezone), list[tuple[int, int]]()
    start, end = _minutes(schedule.start), _minutes(schedule.end)
    for ordinal in range(today - 2, today + _SEARCHED):
        day = dt.date.fromordinal(ordinal)
        if DAYS[day.weekday()] not in schedule.days:
            continue
        first, last = _local(day, start, zone), _local(day, end if end > start else end + 24 * 60, zone)
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        elif first < last:  # a window within the hour that a change of clocks leaves out is none
            joined.append((first, last))
    return tuple(joined)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _local(day: dt.date, minutes: int, zone: ZoneInfo) -> int:
    """Place a local time. One that occurs twice is its first; one that is left out comes as much later as is left out."""
    midnight = dt.datetime.combine(day, dt.time(), zone) + dt.timedelta(minutes=minutes)  # wall clock, then placed
    return int(midnight.timestamp())
