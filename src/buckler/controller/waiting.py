"""Who does not yet enforce what is wanted, and waiting until nobody is left. Reads only."""

from __future__ import annotations

import asyncio

from buckler.controller.parts import Parts
from buckler.controller.rollout_state import read_rollout
from buckler.model.operatorapi.body import HostWait
from buckler.model.pool import HostState
from buckler.ports.store import Unit


async def wait_enforced(parts: Parts, revision: int, seconds: float) -> tuple[HostWait, ...]:
    """Wait until every host enforces the change ``revision``, at most ``seconds``; return who does not."""
    deadline = parts.clock() + seconds
    while True:
        count = parts.news.count
        waiting = await asyncio.to_thread(_look, parts, revision)
        left = deadline - parts.clock()
        if not waiting or left <= 0:
            return waiting
        await parts.news.wait(count, min(left, 1.0))


def who_waits(parts: Parts, unit: Unit, revision: int = 0) -> tuple[HostWait, ...]:
    """Hosts whose kernel lags behind; all of them while ``revision`` is not even published in full."""
    rollout = read_rollout(unit)
    acks = unit.acks.all()
    is_published = rollout.source >= revision and rollout.is_done
    waits = []
    for record in unit.hosts.all():
        if record.host.state is HostState.REVOKED:
            continue
        manifest = unit.manifests.order(record.host.id)
        ack = acks.get(record.host.id)
        wanted, enforced = (manifest.revision if manifest else 0), (ack.revision if ack else 0)
        if enforced >= wanted and is_published:
            continue
        reason = "; ".join(ack.problems) if ack and ack.problems else ""
        if not parts.presence.is_connected(record.host.id):
            reason = reason or "its agent is not connected"
        elif enforced >= wanted:
            reason = f"the change is at its stage {rollout.current_stage().value}: it waits for other hosts"
        waits.append(HostWait(host=record.host.name, wanted=wanted, enforced=enforced, reason=reason))
    return tuple(waits)


def _look(parts: Parts, revision: int) -> tuple[HostWait, ...]:
    with parts.store.read() as unit:
        return who_waits(parts, unit, revision)
