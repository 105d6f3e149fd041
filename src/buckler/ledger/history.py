"""Tell a VM's life in words from its ledger entries. Owns the phrases, not the selection of time or format of output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.ledger.entry import Entry
from buckler.ledger.moves import order_of, parts_of_moves
from buckler.model.event import EventKind


class Line(msgspec.Struct, frozen=True):
    """One line of a history; ``sequence`` is the ledger entry it stands for.

    ``part_of``: the entry that tells the whole of the move that this one is a part of (0: it stands for itself).
    """

    sequence: int
    at: float
    kind: str
    host: str
    text: str
    part_of: int = 0


_MOVES = frozenset({EventKind.MIGRATION_ARRIVED, EventKind.MIGRATION_ABORTED})
_DOCUMENTS = frozenset(
    {
        EventKind.VM_REGISTERED,
        EventKind.VM_ADOPTED,
        EventKind.VM_CHANGED,
        EventKind.VM_DELETED,
        EventKind.VM_LABELLED,
    }
)
"""What became of a VM's document. Their cause is the way (``apply``), the comment is the reason."""
_TOLD_BEFORE = frozenset({"kind", "name", "action", "digest", "comment"})
_PHRASES: Mapping[str, str] = {
    EventKind.VM_REGISTERED: "registered in the pool",
    EventKind.VM_ADOPTED: "adopted into the pool",
    EventKind.VM_CHANGED: "changed in its document",
    EventKind.VM_DELETED: "deleted from the pool",
    EventKind.VM_LABELLED: "labelled",
    EventKind.VM_QUARANTINED: "put into quarantine",
    EventKind.VM_RELEASED: "released from quarantine",
    EventKind.RESPONSE_TRIGGERED: "triggered a response",
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
    EventKind.NAME_CHANGED: "answers for names changed",
    EventKind.NAME_REFUSED: "refused an answer for a name",
    EventKind.GATE_ALLOWED: "allowed by the gate",
    EventKind.GATE_REFUSED: "refused by the gate",
    EventKind.MIGRATION_PREPARED: "awaited as a migration's arrival",
    EventKind.MIGRATION_ARRIVED: "arrived by migration",
    EventKind.MIGRATION_LEFT: "left by migration",
    EventKind.MIGRATION_ABORTED: "migration aborted",
    EventKind.DRIFT_REPAIRED: "shield repaired after drift",
    EventKind.CLOCK_DOUBTED: "clock not believed",
    EventKind.CLOCK_BELIEVED: "clock believed",
    EventKind.GAP: "not observed for a while",
    EventKind.TASK_ORDERED: "ordered to move",
    EventKind.TASK_ENDED: "order ended",
}


def history(entries: Iterable[Entry], names: Mapping[str, str] | None = None) -> list[Line]:
    """Tell entries of one VM, oldest first; ``names`` maps ids (of hosts) to names for the text."""
    told = list(entries)
    parts = parts_of_moves(told)
    return [
        _line(
            entry,
            names or {},
            parts.get(entry.sequence, 0),
            order_of(entry, told) if entry.kind in _MOVES else None,
        )
        for entry in told
    ]


def describe(entry: Entry, names: Mapping[str, str] | None = None) -> str:
    """Say in words what one entry records."""
    return _line(entry, names or {}).text


def _line(entry: Entry, names: Mapping[str, str], part_of: int = 0, order: Entry | None = None) -> Line:
    host = names.get(entry.host, entry.host)
    if entry.kind in _MOVES and entry.detail.get("handover"):
        text = _move(entry, host, order)
    else:
        parts = [_PHRASES.get(entry.kind, entry.kind)]
        parts += [f"on {host}"] if host else []
        parts += [f"by {entry.actor}"] if entry.actor else []
        text = " ".join(parts)
        why = entry.detail.get("comment") if entry.kind in _DOCUMENTS else entry.cause
        text += f" because {why}" if why else ""
        text = _labels(text, entry) if entry.kind == EventKind.VM_LABELLED else text
        facts = _detail(entry)
        text += f" ({facts})" if facts else ""
    return Line(entry.sequence, entry.at, entry.kind, host, text, part_of)


def _move(entry: Entry, host: str, order: Entry | None) -> str:
    """A move in one sentence: from, to, who, why, the policy before and after, what became of the connections."""
    detail = entry.detail
    verb = "did not move" if entry.kind == EventKind.MIGRATION_ABORTED else "moved"
    who = order.actor if order is not None else str(detail.get("who", ""))
    text = f"{verb} from {detail.get('from') or 'an unknown host'} to {detail.get('to') or host}"
    text += f", by {who}" if who else ""
    why = (order.cause if order is not None else "") or entry.cause
    text += f" because {why}" if why else ""
    facts = [_policies(str(detail.get("binding_before", "")), str(detail.get("binding_after", "")))]
    moved = detail.get("connections_moved", 0)
    facts.append(f"{moved} connection{'' if moved == 1 else 's'} moved")
    refused = detail.get("connections_refused", 0)
    facts += [f"{refused} refused"] if refused else []
    facts += [f"handover {detail['handover']}"]
    return f"{text} ({'; '.join(facts)})"


def _policies(before: str, after: str) -> str:
    if not before or not after:
        return f"policy {_short(before) or 'unknown'} before, {_short(after) or 'unknown'} after"
    return (
        f"policy {_short(before)} before and after"
        if before == after
        else (f"policy {_short(before)} before, {_short(after)} after")
    )


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _labels(text: str, entry: Entry) -> str:
    """Name what was set and what was taken away."""
    added, removed = entry.detail.get("set"), entry.detail.get("removed")
    words = [f"{key}={value}" for key, value in sorted(added.items())] if isinstance(added, dict) else []
    words += [f"{key}-" for key in removed] if isinstance(removed, list) else []
    return text.replace("labelled", f"labelled {', '.join(words)}", 1) if words else text


def _detail(entry: Entry) -> str:
    told = entry.detail
    if entry.kind in _DOCUMENTS:
        told = {key: value for key, value in told.items() if key not in _TOLD_BEFORE}
        told |= {"by": entry.cause} if entry.cause else {}
    if entry.kind == EventKind.VM_LABELLED:
        told = {key: value for key, value in told.items() if key not in ("set", "removed")}
    return ", ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in sorted(told.items()))


def _word(value: object) -> str:
    """Write a value as people do; what is nested deeper stays JSON."""
    match value:
        case str():
            return value or "none"
        case bool():
            return "yes" if value else "no"
        case list() | tuple() if all(isinstance(each, str | int | float) for each in value):
            return " and ".join(map(_word, value)) or "none"
        case dict() if all(isinstance(each, str | int | float) for each in value.values()):
            return " and ".join(f"{key} {_word(each)}" for key, each in sorted(value.items())) or "none"
    return msgspec.json.encode(value).decode()
