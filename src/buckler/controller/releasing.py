"""Takes granted addresses back: leases that are over, VMs that stopped, networks that changed. Grants none."""

from __future__ import annotations

from buckler.controller.claims import event_of
from buckler.controller.grants import attribute_of
from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, STATE, Registered, State, load_state, merge_attributes
from buckler.controller.sights import is_active, sights
from buckler.model.event import EventKind
from buckler.model.ids import VmId
from buckler.policy.claim import Stale, ground_of, list_stale, owners_of
from buckler.ports.store import Unit

_PATIENCE = 30.0
"""Seconds. While a VM moves, its old host may say that it stopped before the new one says that it runs."""


def release_stale(parts: Parts) -> bool:
    """End every grant that must end; say whether there was one. Reads first: most of the time there is nothing."""
    with parts.store.read() as unit:
        if not _stale(parts, unit, load_state(unit)):
            return False
    with parts.store.write() as unit:
        state, now = load_state(unit), parts.clock()
        registered = {each.record.id: each for each in state.registered}
        stale = _stale(parts, unit, state)
        for each in stale:
            vm = registered[each.grant.vm]
            merge_attributes(unit, vm.record.id, {attribute_of(each.grant)[0]: ""}, now)
            kind = EventKind.ADDRESS_CHANGED
            parts.record(unit, event_of(kind, vm, each.grant, now, cause=each.why, change="released"))
        if stale:
            unit.revisions.allocate("address released", "controller", now)
    if stale:
        parts.work.ring()
    return bool(stale)


def _stale(parts: Parts, unit: Unit, state: State) -> tuple[Stale, ...]:
    held = [grant for each in state.registered for grant in each.grants]
    if not held:
        return ()
    now = parts.clock()
    stopped = _stopped(unit, state, now)
    return list_stale(ground_of(state.pool), owners_of(each.declared for each in state.registered), held, stopped, now)


def _stopped(unit: Unit, state: State, now: float) -> frozenset[VmId]:
    """VMs with grants that no host has had running for a while."""
    seen = sights(unit)
    return frozenset(
        each.record.id
        for each in state.registered
        if each.grants
        and not any(is_active(sight.domain) for sight in seen.get(each.vm.uuid, ()))
        and now - _changed_at(unit, each) > _PATIENCE
    )


def _changed_at(unit: Unit, each: Registered) -> float:
    rows = (item for item in unit.vms.attributes(each.record.id) if item.name in {HOST, STATE})
    return max((max(item.valid_from, item.valid_to) for item in rows), default=0.0)
