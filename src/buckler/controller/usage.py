"""Rules of the pool that met no packet, in words, with which hosts did not tell. Decides nothing (policy.usage)."""

from __future__ import annotations

import datetime as dt

from buckler.controller.pool_state import load_documents
from buckler.model.operatorapi.answers import UnusedRule, UnusedRules
from buckler.model.pool import HostState
from buckler.policy.usage import Unused, find_unused, sum_counted
from buckler.ports.store import Unit


def list_unused(unit: Unit, now: float, days: int) -> UnusedRules:
    """List them by what all hosts told so far."""
    totals = ((each.policy, each.rule, each.packets, each.changed) for each in unit.counters.totals())
    documents = [(document, stored.valid_from) for stored, document in load_documents(unit).values()]
    found = find_unused(documents, sum_counted(totals), now, days)
    silent = tuple(
        each.host.name for each in unit.hosts.all() if each.host.state is not HostState.REVOKED and each.lost_at
    )
    return UnusedRules(days, tuple(_told(each, days) for each in found), silent)


def _told(each: Unused, days: int) -> UnusedRule:
    document = each.document
    return UnusedRule(
        kind=document.kind.value,
        tenant=document.tenant,
        policy=document.name,
        rule=each.rule,
        text=_words(each, days),
        since=each.since,
        packets=each.packets,
        known=each.is_known,
        file=document.file,
        line=each.line,
    )


def _words(each: Unused, days: int) -> str:
    day = dt.datetime.fromtimestamp(each.since, dt.UTC).date().isoformat() if each.since else ""
    if each.packets and not day:
        return f"met {each.packets} packets, but when was not kept then"
    if each.packets:
        return f"no packet met it since {day}; {each.packets} did before"
    if each.is_known:
        return f"no packet met it so far; written on {day}"
    return (
        f"no packet met it so far, but it was written on {day}, less than {days} {'day' if days == 1 else 'days'} ago"
    )
