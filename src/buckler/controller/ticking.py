"""What time does to what is declared: documents as they hold now, when that changes, and what began or ended. Plans nothing."""

from __future__ import annotations

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.pool_state import State
from buckler.model.event import Event, EventKind
from buckler.policy.language import Document, ExceptionSpec, FlowSpec, PolicySpec
from buckler.policy.times import NOW, holds_at
from buckler.policy.timing import active, is_timed
from buckler.ports.store import Unit


class Ticked(msgspec.Struct, frozen=True):
    """``state`` has the documents as they hold now; ``boundary``: when that is another; ``held``: what began and will end."""

    state: State
    boundary: int
    held: tuple[str, ...]


def at_time(state: State, now: float) -> Ticked:
    """Take a state as it is at a moment. Asked again at ``boundary``, or after a restart at any time, nothing is missed."""
    timed = tuple([each for each in state.rest if is_timed(each)])
    if not timed:
        return Ticked(state, 0, ())
    told = active(timed, now)
    rest = tuple(each for each in state.rest if not is_timed(each))
    held = tuple(sorted(each.key for each in told.documents if _has_end(each) and holds_at(each.times, NOW)))
    return Ticked(msgspec.structs.replace(state, rest=(*rest, *told.documents)), told.boundary, held)


def record_ticks(parts: Parts, unit: Unit, before: tuple[str, ...], ticked: Ticked) -> None:
    """Record in the ledger which documents hold now and did not, and which do not any more."""
    now = parts.clock()
    for key in sorted({*before} ^ {*ticked.held}):
        began = key in ticked.held
        kind, tenant, name = key.split("/", 2)
        document = next((each for each in ticked.state.rest if each.key == key), None)
        detail = {"kind": kind, "name": name, **(_words(document) if document is not None else {})}
        told = EventKind.POLICY_BEGAN if began else EventKind.POLICY_ENDED
        cause = "" if began or key in ticked.state.stored else "deleted"
        parts.record(unit, Event(told, now, tenant=tenant, actor="controller", cause=cause, detail=detail))


def _has_end(document: Document) -> bool:
    spec = document.spec
    return isinstance(spec, ExceptionSpec) or (
        isinstance(spec, PolicySpec | FlowSpec) and bool(spec.until or spec.schedule)
    )


def _words(document: Document) -> dict[str, str]:
    spec = document.spec
    words = {name: getattr(spec, name, "") for name in ("owner", "reason", "until", "policy", "rule", "flow")}
    return {name: value for name, value in words.items() if value}
