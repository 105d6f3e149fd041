"""Quarantine as orders kept with a VM: begun, ended, and which hosts enforce it. Judges no packet and builds no program."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.pool_state import (
    QUARANTINE,
    QUARANTINE_ALLOW,
    QUARANTINE_BY,
    QUARANTINE_REVISION,
    QUARANTINE_RULE,
    Registered,
    merge_attributes,
)
from buckler.controller.rollout_state import read_rollout
from buckler.model.event import Event, EventKind
from buckler.model.ids import Revision
from buckler.model.operatorapi.body import HostWait
from buckler.model.operatorapi.vms import Allowance, HostStand, QuarantineView
from buckler.model.pool import HostState
from buckler.ports.store import Unit

_NAMES = (QUARANTINE, QUARANTINE_ALLOW, QUARANTINE_BY, QUARANTINE_REVISION, QUARANTINE_RULE)


class Order(msgspec.Struct, frozen=True):
    """Who wants a VM in quarantine, or out of it, and why. ``rule``: the Response that decided; ``figures``: on what."""

    actor: str
    reason: str
    allow: Allowance = Allowance.NOTHING
    rule: str = ""
    figures: Mapping[str, object] = {}


def begin_quarantine(parts: Parts, unit: Unit, vm: Registered, order: Order) -> Revision:
    """Put a VM into quarantine, or change what it leaves open, with author and reason in the ledger. Twice is once."""
    held = vm.attributes
    if QUARANTINE in held and held.get(QUARANTINE_ALLOW, "") == order.allow.value:
        return Revision(int(held.get(QUARANTINE_REVISION, "0")))
    now = parts.clock()
    revision = unit.revisions.allocate("quarantine", order.actor, now)
    made = (order.reason.strip(), order.allow.value, order.actor, str(revision), order.rule)
    merge_attributes(unit, vm.vm.id, dict(zip(_NAMES, made, strict=True)), now)
    detail = {"revision": revision, **order.figures}
    detail |= {"allow": order.allow.value} if order.allow.value else {}
    detail |= {"response": order.rule} if order.rule else {}
    _tell(parts, unit, EventKind.VM_QUARANTINED, vm, order, detail)
    return revision


def end_quarantine(parts: Parts, unit: Unit, vm: Registered, order: Order) -> Revision:
    """Take a VM out of quarantine: what the pool's documents say is all that is left. Twice is once."""
    if QUARANTINE not in vm.attributes:
        return unit.revisions.current()
    now = parts.clock()
    merge_attributes(unit, vm.vm.id, dict.fromkeys(_NAMES, ""), now)
    revision = unit.revisions.allocate("release", order.actor, now)
    _tell(parts, unit, EventKind.VM_RELEASED, vm, order, {"revision": revision})
    return revision


def _tell(parts: Parts, unit: Unit, kind: EventKind, vm: Registered, order: Order, detail: dict[str, object]) -> None:
    event = Event(
        kind,
        parts.clock(),
        vm=vm.vm.id,
        tenant=vm.vm.tenant,
        actor=order.actor,
        cause=order.reason.strip(),
        detail=detail,
    )
    parts.record(unit, event)


def quarantine_view(parts: Parts, unit: Unit, vm: Registered) -> QuarantineView | None:
    """Show a VM's quarantine with every host that enforces it or does not yet; None: it is in none."""
    held = vm.attributes
    if QUARANTINE not in held:
        return None
    revision = Revision(int(held.get(QUARANTINE_REVISION, "0")))
    allow = held.get(QUARANTINE_ALLOW, "")
    since = [each.valid_from for each in unit.vms.attributes(vm.vm.id) if each.name == QUARANTINE and not each.valid_to]
    return QuarantineView(
        reason=held[QUARANTINE],
        allow=Allowance(allow) if allow in set(Allowance) else Allowance.NOTHING,
        by=held.get(QUARANTINE_BY, ""),
        response=held.get(QUARANTINE_RULE, ""),
        at=since[0] if since else 0,
        hosts=hosts_at(parts, unit, revision),
    )


def hosts_at(parts: Parts, unit: Unit, revision: Revision) -> tuple[HostStand, ...]:
    """Say of every member whether its kernel has closed what ``revision`` closed.

    Every manifest after that revision is of a plan whose every stage allows at most what that plan's end allows: the
    first one that a host acknowledges has closed there, whatever still waits for other hosts to open.
    """
    is_planned = read_rollout(unit).source >= revision
    acks = unit.acks.all()
    stands = []
    for record in unit.hosts.all():
        host = record.host
        if host.state is HostState.REVOKED:
            continue
        manifest, ack = unit.manifests.order(host.id), acks.get(host.id)
        wanted, held = (manifest.revision if manifest else 0), (ack.revision if ack else 0)
        is_closed = is_planned and ack is not None and held > 0 and (held > revision or held >= wanted)
        reason = "" if is_closed or ack is None else "; ".join(ack.problems)
        if not is_closed and not parts.presence.is_connected(host.id):
            reason = reason or "its agent is not connected"
        stands.append(HostStand(host.name, is_closed, wanted, held, reason))
    return tuple(stands)


async def wait_closed(parts: Parts, revision: Revision, seconds: float) -> tuple[HostWait, ...]:
    """Wait until every host has closed, at most ``seconds``; return who has not."""
    deadline = parts.clock() + seconds
    while True:
        count = parts.news.count
        stands = await asyncio.to_thread(_look, parts, revision)
        waiting = tuple(
            HostWait(each.host, each.wanted, each.enforced_revision, each.reason)
            for each in stands
            if not each.enforced
        )
        left = deadline - parts.clock()
        if not waiting or left <= 0:
            return waiting
        await parts.news.wait(count, min(left, 1.0))


def _look(parts: Parts, revision: Revision) -> tuple[HostStand, ...]:
    with parts.store.read() as unit:
        return hosts_at(parts, unit, revision)
