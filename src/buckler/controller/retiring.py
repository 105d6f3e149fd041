"""Ends the trust in old issuing keys once nothing that they signed is needed. Makes no key."""

from __future__ import annotations

from buckler.controller.parts import Parts
from buckler.controller.passports import issuing_id, keys_of
from buckler.controller.pool_state import PASSPORT, State, load_state
from buckler.model.agentapi import Issuers
from buckler.model.canonical import canonical_bytes
from buckler.model.event import Event, EventKind
from buckler.model.pool import HostState
from buckler.ports.roster import KeyRecord
from buckler.ports.store import Unit
from buckler.trust.statement import Kind, Untrusted, key_text, sign, verify


def retire_old_keys(parts: Parts, unit: Unit, actor: str) -> tuple[str, ...]:
    """Have the root name the issuing key alone; return what speaks against it (then nothing was done)."""
    records = unit.keys.issuers()
    known = keys_of(parts, records[-1]) if records else {}
    if issuing_id(parts) not in known:
        return ("the pool does not know the new key yet: start the controller first",)
    if len(known) == 1:
        return ("there is no old key",)
    waiting = (*_vms_that_wait(load_state(unit), issuing_id(parts)), *_hosts_that_wait(parts, unit))
    if waiting:
        return waiting
    key = parts.keys.issuing.public_key()
    version, now = records[-1].version + 1, parts.clock()
    issuers = Issuers(pool=parts.settings.pool, version=version, keys=(key_text(key),))
    unit.keys.add(KeyRecord(version, sign(Kind.ISSUERS, canonical_bytes(issuers), parts.keys.root), now))
    detail = {"key": key_text(key), "retired": len(known) - 1}
    parts.record(unit, Event(EventKind.KEY_ROTATED, now, actor=actor, detail=detail))
    return ()


def _vms_that_wait(state: State, current: str) -> tuple[str, ...]:
    return tuple(
        f"VM {each.vm.name} (tenant {each.vm.tenant}) carries a passport by an old key"
        for each in state.registered
        if each.attributes.get(PASSPORT, current) != current
    )


def _hosts_that_wait(parts: Parts, unit: Unit) -> tuple[str, ...]:
    """Name hosts whose state on disk, or whose orders, an old key signed."""
    keys = {issuing_id(parts): parts.keys.issuing.public_key()}
    acks, found = unit.acks.all(), []
    for host in (record.host for record in unit.hosts.all()):
        manifest, ack = unit.manifests.latest(host.id), acks.get(host.id)
        if host.state is HostState.REVOKED or manifest is None:
            continue
        try:
            verify(Kind.MANIFEST, manifest.statement, keys)
            for task in unit.tasks.open_for(host.id, parts.clock()):
                verify(Kind.TASK, task.statement, keys)
        except Untrusted:
            found.append(f"host {host.name} has a manifest or an order by an old key")
            continue
        if ack is None or ack.revision < manifest.revision:
            found.append(f"host {host.name} has not acknowledged what the new key signed")
    return tuple(found)
