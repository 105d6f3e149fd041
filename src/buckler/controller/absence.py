"""What a controller says of itself when it starts: that it was away, and whether its ledger is as it left it. Repairs nothing."""

from __future__ import annotations

import structlog

from buckler.controller.parts import Parts
from buckler.controller.passports import every_issuer
from buckler.ledger.checkpoint import read_checkpoint
from buckler.ledger.entry import BadEntry, read_entry
from buckler.model.event import Event, EventKind
from buckler.model.pool import HostState
from buckler.ports.store import Unit
from buckler.trust.statement import Untrusted

_log = structlog.get_logger("buckler.controller")
_LOOKED_AT = 1000


def tell_start(parts: Parts, unit: Unit, version: str) -> None:
    """Record the start and, unless it is the first, the time before it in which no controller watched.

    Hosts went on meanwhile, and tell later what happened: what is lost is only who was heard.
    """
    now, complaint = parts.clock(), complaint_about(parts, unit)
    since = _last_sign(unit, now)
    if complaint:
        _log.error("the ledger is not as it was left", reason=complaint)
    if since:
        heard = {
            record.host.name: round(record.seen_at, 3)
            for record in unit.hosts.all()
            if record.host.state is not HostState.REVOKED
        }
        detail = {"since": since, "until": now, "last_heard": heard, "revision": unit.revisions.current()}
        cause = "no controller was running"
        parts.record(unit, Event(EventKind.GAP, now, actor="controller", cause=cause, detail=detail))
    started = {"version": version} | ({"ledger": complaint} if complaint else {})
    parts.record(unit, Event(EventKind.CONTROLLER_STARTED, now, actor="controller", detail=started))


def complaint_about(parts: Parts, unit: Unit) -> str:
    """Say how the ledger differs from its own newest checkpoint; empty when it does not."""
    note, edge = unit.ledger.checkpoint(), unit.ledger.edge()
    if not note:
        return ""
    try:
        signed = read_checkpoint(note, parts.origin, every_issuer(parts, unit))
    except Untrusted as error:
        return f"its checkpoint is not to be believed: {error}"
    if signed.size != edge.size:
        return f"its checkpoint covers {signed.size} entries, and it has {edge.size}"
    return "" if signed.root == edge.root else "its entries are not those that its checkpoint covers"


def _last_sign(unit: Unit, now: float) -> float:
    """When a controller was last known to run: by its own entries, and by when it last heard a host. 0: never."""
    size = unit.ledger.edge().size
    signs = [record.seen_at for record in unit.hosts.all()]
    for stored in unit.ledger.leaves(max(size - _LOOKED_AT, 0), _LOOKED_AT):
        try:
            entry = read_entry(stored.leaf.text)
        except BadEntry:
            continue
        signs += [entry.at] if not entry.origin else []
    return max((at for at in signs if at <= now), default=0.0)
