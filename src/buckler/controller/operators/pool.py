"""The pool as a whole: status, who is unprotected, metrics."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from buckler.controller.metrics import render_metrics, sum_told
from buckler.controller.operators.callers import AnyRequest
from buckler.controller.operators.views import host_views, list_rogues
from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, STATE, State, load_state
from buckler.controller.rollout_state import read_rollout
from buckler.controller.sights import is_active, sights
from buckler.controller.waiting import who_waits
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.pool import PoolStatus, Rollout, Unprotected
from buckler.model.pool import ShieldMode
from buckler.policy.language import Kind
from buckler.ports.store import Unit


def pool_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Status and what belongs to it."""

    @get(PREFIX + "/status", sync_to_thread=True)
    def status() -> PoolStatus:
        return _status(parts)

    @get(PREFIX + "/unprotected", sync_to_thread=True)
    def unprotected() -> list[Unprotected]:
        with parts.store.read() as unit:
            return list_unprotected(unit, load_state(unit))

    @get(PREFIX + "/metrics")
    async def metrics() -> Response[bytes]:
        text = await asyncio.to_thread(_metrics, parts)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @get(PREFIX + "/openapi.json", include_in_schema=False, sync_to_thread=True)
    def openapi(request: AnyRequest) -> dict[str, Any]:
        return request.app.openapi_schema.to_schema()

    return [status, unprotected, metrics, openapi]


def _metrics(parts: Parts) -> bytes:
    with parts.store.read() as unit:
        hosts = {record.host.id: record.host.name for record in unit.hosts.all()}
        told = sum_told(unit.counters.totals(), unit.samples.intakes(), hosts)
        return render_metrics(pool_status(parts, unit), told)


def _status(parts: Parts) -> PoolStatus:
    with parts.store.read() as unit:
        return pool_status(parts, unit)


def pool_status(parts: Parts, unit: Unit) -> PoolStatus:
    """Tell how the pool is."""
    state, rollout = load_state(unit), read_rollout(unit)
    waiting = who_waits(parts, unit)
    under_way = None
    if waiting or not rollout.is_done:
        under_way = Rollout(revision=rollout.source, stage=rollout.current_stage().value, waiting=waiting)
    return PoolStatus(
        pool=parts.settings.pool,
        revision=unit.revisions.current(),
        version=version("buckler"),
        at=parts.clock(),
        hosts=host_views(parts, unit, state, unit.hosts.all()),
        rollout=under_way,
        vms=len(state.registered),
        policies=sum(document.kind in {Kind.POLICY, Kind.FLOW} for document in state.documents),
        rogues=len(list_rogues(unit, state)),
        unprotected=len(list_unprotected(unit, state)),
        ledger_entries=unit.ledger.edge().size,
    )


def list_unprotected(unit: Unit, state: State) -> list[Unprotected]:
    """VMs that only observe, and those that run with an interface that is not admitted (which is closed)."""
    seen, found = sights(unit), []
    for each in state.registered:
        vm, host = each.vm, each.attributes.get(HOST, "")
        if vm.mode is ShieldMode.OBSERVE:
            found.append(Unprotected(vm.name, vm.tenant, host, "its shield observes: what policy denies passes"))
        if not each.attributes.get(STATE):
            continue
        for sight in seen.get(vm.uuid, ()):
            if sight.host.name != host or not is_active(sight.domain):
                continue
            for card in sight.domain.interfaces:
                if not card.admitted:
                    reason = f"interface {card.mac} is closed: {card.reason or 'not admitted yet'}"
                    found.append(Unprotected(vm.name, vm.tenant, host, reason))
    return found
