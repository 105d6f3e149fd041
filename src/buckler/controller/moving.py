"""Orders to move VMs between hosts, and when a drained host is empty. Owns placement's first form: the emptiest host."""

from __future__ import annotations

from collections import Counter

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, Registered, State, load_state
from buckler.controller.problems import Refused
from buckler.controller.sights import is_active, sights
from buckler.model.agentapi import Task, TaskKind, TaskState
from buckler.model.canonical import canonical_bytes
from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId, Revision
from buckler.model.pool import Host, HostState
from buckler.ports.roster import TaskRecord
from buckler.ports.store import Unit
from buckler.trust.statement import Kind, sign

_LIFETIME = 600.0
_ENDED = frozenset({TaskState.DONE, TaskState.FAILED})


def order_move(
    parts: Parts, unit: Unit, vm: Registered, source: Host, destination: Host, actor: str, *, dry_run: bool
) -> TaskRecord:
    """Order one VM's move. Raises Refused when it cannot even begin."""
    refuse_impossible(unit, vm, source, destination, parts.clock())
    now = parts.clock()
    manifest = unit.manifests.order(destination.id)
    task = Task(
        id=parts.new_id(),
        host=source.id,
        kind=TaskKind.MIGRATE,
        vm=vm.vm.id,
        destination=destination.id,
        destination_uri=destination.migrate_uri,
        expires_at=round(now + _LIFETIME, 3),
        revision=manifest.revision if manifest else Revision(0),
        actor=actor,
    )
    statement = sign(Kind.TASK, canonical_bytes(task), parts.keys.issuing)
    record = TaskRecord(task, statement, now, now, actor, vm_name=vm.vm.name)
    if dry_run:
        return msgspec.structs.replace(record, state=TaskState.DONE, message="would be ordered")
    unit.tasks.put(record)
    detail = {"task": task.id, "destination": destination.name}
    event = Event(EventKind.TASK_ORDERED, now, source.id, vm=vm.vm.id, tenant=vm.vm.tenant, actor=actor, detail=detail)
    parts.record(unit, event)
    return record


def refuse_impossible(unit: Unit, vm: Registered, source: Host, destination: Host, now: float) -> None:
    """Refuse moves that no host should be asked for. Raises Refused."""
    why = ""
    if source.id == destination.id:
        why = f"it is on {destination.name} already"
    elif destination.state is not HostState.ACTIVE:
        why = f"{destination.name} is {destination.state.value} and takes no VM"
    elif not destination.migrate_uri:
        why = f"{destination.name} told no address to migrate to"
    elif any(record.task.vm == vm.vm.id for record in unit.tasks.open_for(source.id, now)):
        why = "an earlier order to move it has not ended"
    if why:
        raise Refused(409, f"{vm.vm.name} cannot move", why)


def order_moves(
    parts: Parts, unit: Unit, source: Host, actor: str, *, dry_run: bool
) -> tuple[tuple[TaskRecord, ...], tuple[str, ...]]:
    """Order every VM that runs on ``source`` away; return the orders, and who stays and why."""
    state = load_state(unit)
    load = Counter(each.attributes.get(HOST, "") for each in state.registered)
    targets = [host for host in state.hosts if host.state is HostState.ACTIVE and host.id != source.id]
    records: list[TaskRecord] = []
    staying: list[str] = []
    for uuid, name in _running_on(unit, source):
        vm = state.by_uuid(uuid)
        if vm is None:
            staying.append(f"{name}: a rogue; adopt it, or stop it there")
            continue
        target = min(targets, key=lambda host: (load[host.name], host.name), default=None)
        if target is None:
            staying.append(f"{vm.vm.name}: no other host is active")
            continue
        try:
            records.append(order_move(parts, unit, vm, source, target, actor, dry_run=dry_run))
            load[target.name] += 1
        except Refused as refused:
            staying.append(f"{vm.vm.name}: {refused.problem.detail}")
    return tuple(records), tuple(staying)


def end_moves(parts: Parts, unit: Unit, host: Host, actor: str) -> None:
    """Take back every open order from or to a host that is no member any more: no VM goes there."""
    now = parts.clock()
    for record in unit.tasks.all():
        if record.state in _ENDED or host.id not in {record.task.host, record.task.destination}:
            continue
        message = f"{host.name} was revoked"
        ended = msgspec.structs.replace(record, state=TaskState.FAILED, message=message, updated_at=now)
        unit.tasks.put(ended)
        detail = {"task": record.task.id, "state": TaskState.FAILED.value, "message": message}
        event = Event(EventKind.TASK_ENDED, now, record.task.host, vm=record.task.vm, actor=actor, detail=detail)
        parts.record(unit, event)


def note_drained(parts: Parts, unit: Unit, state: State) -> bool:
    """Call a draining host drained once its newest report shows nothing that runs; say whether any changed."""
    changed = False
    if all(host.state is not HostState.DRAINING for host in state.hosts):
        return False
    observed = unit.observations.all()
    for host in state.hosts:
        if host.state is not HostState.DRAINING or host.id not in observed or _running_on(unit, host):
            continue
        record = unit.hosts.get(HostId(host.id))
        if record is not None:
            unit.hosts.put(msgspec.structs.replace(record, host=msgspec.structs.replace(host, state=HostState.DRAINED)))
            detail = {"name": host.name, "empty": True}
            parts.record(unit, Event(EventKind.HOST_DRAINED, parts.clock(), host=host.id, detail=detail))
            changed = True
    return changed


def _running_on(unit: Unit, host: Host) -> list[tuple[str, str]]:
    found = []
    for uuid, seen in sorted(sights(unit).items()):
        for sight in seen:
            if sight.host.id == host.id and is_active(sight.domain):
                found.append((uuid, sight.domain.name))
    return found
