"""Where a VM was, and which revision each host enforced meanwhile, from entries of the ledger. Knows no policy.

All times are those that the entries tell: of the host that saw it. Clocks of hosts differ, and no order is made up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from buckler.ledger.entry import Entry
from buckler.model.event import EventKind

_BEGINS = frozenset({EventKind.DOMAIN_STARTED, EventKind.MIGRATION_ARRIVED, EventKind.INTERFACE_ADMITTED})
_ENDS = frozenset(
    {EventKind.DOMAIN_STOPPED, EventKind.DOMAIN_CRASHED, EventKind.MIGRATION_LEFT, EventKind.MIGRATION_ABORTED}
)
_INACTIVE = frozenset({"absent", "shutoff", "crashed"})
RESIDENCE_KINDS: frozenset[str] = frozenset({*_BEGINS, *_ENDS, EventKind.MIGRATION_PREPARED, EventKind.VM_DELETED})
"""Entries about a VM that tell where it is."""
HOST_KINDS: frozenset[str] = frozenset({EventKind.REVISION_ENFORCED, EventKind.GAP})
"""Entries about a host that tell what binds the VMs on it, and when nobody watched."""


class Stay(msgspec.Struct, frozen=True):
    """A time on one host (``until`` 0: still), and the entries that begin and end it. ``note``: what is not certain."""

    host: str
    since: float
    until: float = 0
    entries: tuple[int, ...] = ()
    note: str = ""


class Enforced(msgspec.Struct, frozen=True):
    """A time in which a host enforced one revision; ``policy`` digests what that revision says of packets."""

    host: str
    since: float
    until: float
    revision: int
    policy: str
    entry: int


class Span(msgspec.Struct, frozen=True):
    """A stay, or the part of it in which one revision bound; ``enforced`` None: no revision was enforced there yet."""

    stay: Stay
    since: float
    until: float
    enforced: Enforced | None


def stays_of(entries: Iterable[Entry], gaps: Iterable[Entry] = (), uuid: str = "") -> tuple[Stay, ...]:
    """List where a VM was, oldest first, from its own entries and its hosts' gaps, all in the order of the ledger.

    A stay begins when the first interface was admitted, before the guest ran; on a migration's destination when the VM
    arrived. What began or ended while nobody watched did so somewhere in the gap.
    """
    told = sorted([*entries, *gaps], key=lambda entry: entry.sequence)
    open_stays: dict[str, Stay] = {}
    awaited: set[str] = set()
    done: list[Stay] = []
    for entry in told:
        if entry.kind == EventKind.GAP:
            _take_gap(entry, uuid, open_stays, done)
        elif entry.kind == EventKind.MIGRATION_PREPARED:
            awaited.add(entry.host)
        elif entry.kind == EventKind.VM_DELETED:
            done += [_ended(stay, entry, entry.at) for stay in open_stays.values()]
            open_stays.clear()
        elif entry.kind in _ENDS:
            awaited.discard(entry.host)
            if entry.host in open_stays:
                done.append(_ended(open_stays.pop(entry.host), entry, entry.at))
        elif entry.kind in _BEGINS and entry.host:
            if entry.kind == EventKind.INTERFACE_ADMITTED and entry.host in awaited:
                continue
            awaited.discard(entry.host)
            open_stays.setdefault(entry.host, Stay(entry.host, entry.at, entries=(entry.sequence,)))
    return tuple(sorted([*done, *open_stays.values()], key=lambda stay: (stay.since, stay.entries)))


def enforced_on(entries: Iterable[Entry]) -> tuple[Enforced, ...]:
    """List what hosts enforced, from their entries in the order of the ledger."""
    found: dict[str, list[Enforced]] = {}
    for entry in entries:
        revision = entry.detail.get("revision")
        if entry.kind != EventKind.REVISION_ENFORCED or not isinstance(revision, int):
            continue
        policy = str(entry.detail.get("policy", ""))
        mine = found.setdefault(entry.host, [])
        if mine and (mine[-1].revision, mine[-1].policy) == (revision, policy):
            continue
        if mine:
            mine[-1] = msgspec.structs.replace(mine[-1], until=entry.at)
        mine.append(Enforced(entry.host, entry.at, 0, revision, policy, entry.sequence))
    return tuple(each for mine in found.values() for each in mine)


def spans_of(stays: Sequence[Stay], enforced: Sequence[Enforced]) -> tuple[Span, ...]:
    """Cut every stay at the moments at which its host began to enforce another revision."""
    spans: list[Span] = []
    for stay in stays:
        mine = [each for each in enforced if each.host == stay.host and _overlap(stay, each)]
        first = mine[0].since if mine else stay.until
        if not mine or first > stay.since:
            spans.append(Span(stay, stay.since, first, None))
        for each in mine:
            spans.append(Span(stay, max(stay.since, each.since), _earlier(stay.until, each.until), each))
    return tuple(spans)


def holds_at(span: Span, at: float) -> bool:
    """Whether a moment is in a span: its beginning is, its end is not."""
    return span.since <= at and (not span.until or at < span.until)


def _overlap(stay: Stay, enforced: Enforced) -> bool:
    began_before_end = not stay.until or enforced.since < stay.until
    ended_after_begin = not enforced.until or enforced.until > stay.since
    return began_before_end and ended_after_begin


def _earlier(one: float, other: float) -> float:
    return min(one, other) if one and other else one or other


def _ended(stay: Stay, entry: Entry, at: float, note: str = "") -> Stay:
    # A host whose clock was set back tells of an end before the beginning.
    until = max(at, stay.since)
    return msgspec.structs.replace(stay, until=until, entries=(*stay.entries, entry.sequence), note=note or stay.note)


def _take_gap(entry: Entry, uuid: str, open_stays: dict[str, Stay], done: list[Stay]) -> None:
    change = _change_in(entry.detail, uuid)
    if change is None:
        return
    since, until = _moment(entry, "since"), _moment(entry, "until")
    then, now = change
    if now in _INACTIVE and entry.host in open_stays:
        note = "it ended while nobody watched, some time in the gap that ends then"
        done.append(_ended(open_stays.pop(entry.host), entry, until, note))
    elif then in _INACTIVE and now not in _INACTIVE and entry.host not in open_stays:
        note = "it began while nobody watched, some time in the gap that begins then"
        open_stays[entry.host] = Stay(entry.host, since, entries=(entry.sequence,), note=note)


def _change_in(detail: dict[str, Any], uuid: str) -> tuple[str, str] | None:
    domains = detail.get("domains")
    change = domains.get(uuid) if isinstance(domains, dict) else None
    if isinstance(change, list) and len(change) == 2 and all(isinstance(each, str) for each in change):
        return change[0], change[1]
    return None


def _moment(entry: Entry, name: str) -> float:
    told = entry.detail.get(name)
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else entry.at
