"""Hosts over the API: join tokens, drain, undrain, revoke. Moving VMs is moving's."""

from __future__ import annotations

import secrets

import msgspec
from litestar import get, post
from litestar.handlers import BaseRouteHandler

from buckler.controller.moving import end_moves, order_moves
from buckler.controller.operators.callers import AnyRequest, actor_of, find_host
from buckler.controller.operators.views import host_views, task_view
from buckler.controller.parts import Parts
from buckler.controller.pool_state import load_state
from buckler.controller.problems import Refused
from buckler.controller.tokens import JoinText, join_text, secret_digest
from buckler.model.event import Event, EventKind
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.hosts import HostChange, HostRequest, HostView, JoinToken, JoinTokenRequest
from buckler.model.pool import HostState
from buckler.ports.roster import HostRecord, JoinTokenRecord, TaskRecord
from buckler.ports.store import Unit

_LONGEST = 7 * 86400.0
_EVENTS = {
    HostState.DRAINING: EventKind.HOST_DRAINED,
    HostState.ACTIVE: EventKind.HOST_UNDRAINED,
    HostState.REVOKED: EventKind.HOST_REVOKED,
}


def host_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything about hosts."""

    @get(PREFIX + "/hosts", sync_to_thread=True)
    def list_hosts() -> list[HostView]:
        with parts.store.read() as unit:
            return list(host_views(parts, unit, load_state(unit), unit.hosts.all()))

    @get(PREFIX + "/hosts/{name:str}", sync_to_thread=True)
    def show_host(name: str) -> HostView:
        with parts.store.read() as unit:
            return host_views(parts, unit, load_state(unit), [find_host(unit, name)])[0]

    @post(PREFIX + "/hosts/{name:str}/drain", status_code=200, sync_to_thread=True)
    def drain(request: AnyRequest, name: str, data: HostRequest) -> HostChange:
        return change_host(parts, name, HostState.DRAINING, data, actor_of(request))

    @post(PREFIX + "/hosts/{name:str}/undrain", status_code=200, sync_to_thread=True)
    def undrain(request: AnyRequest, name: str, data: HostRequest) -> HostChange:
        return change_host(parts, name, HostState.ACTIVE, data, actor_of(request))

    @post(PREFIX + "/hosts/{name:str}/revoke", status_code=200, sync_to_thread=True)
    def revoke(request: AnyRequest, name: str, data: HostRequest) -> HostChange:
        return change_host(parts, name, HostState.REVOKED, data, actor_of(request))

    @post(PREFIX + "/join-tokens", status_code=200, sync_to_thread=True)
    def invite(request: AnyRequest, data: JoinTokenRequest) -> JoinToken:
        return make_join_token(parts, data, actor_of(request))

    return [list_hosts, show_host, drain, undrain, revoke, invite]


def make_join_token(parts: Parts, request: JoinTokenRequest, actor: str) -> JoinToken:
    """Make a single-use token; only its hash is kept. Raises Refused."""
    if not 0 < request.lifetime <= _LONGEST:
        raise Refused(400, "the lifetime cannot be used", f"between 0 and {_LONGEST:g} seconds")
    now = parts.clock()
    text = JoinText(secrets.token_hex(8), secrets.token_urlsafe(32), parts.keys.ca_digest)
    record = JoinTokenRecord(text.id, secret_digest(text.secret), request.host, now + request.lifetime, actor)
    if not request.dry_run:
        with parts.store.write() as unit:
            unit.join_tokens.put(record)
            detail = {"token": text.id, "name": request.host, "expires_at": record.expires_at}
            parts.record(unit, Event(EventKind.HOST_INVITED, now, actor=actor, detail=detail))
    return JoinToken(
        token="" if request.dry_run else join_text(text),
        expires_at=record.expires_at,
        url=parts.settings.agent_url(),
    )


def change_host(parts: Parts, name: str, wanted: HostState, request: HostRequest, actor: str) -> HostChange:
    """Drain, admit again or revoke a host, with the moves that a drain needs, in one transaction. Raises Refused."""
    moves: tuple[TaskRecord, ...] = ()
    staying: tuple[str, ...] = ()
    with parts.store.read() if request.dry_run else parts.store.write() as unit:
        record = find_host(unit, name)
        if record.host.state is HostState.REVOKED:
            raise Refused(409, "this host was revoked", "a revoked host joins again with a new token and a new key")
        changed = msgspec.structs.replace(record, host=msgspec.structs.replace(record.host, state=wanted))
        if not request.dry_run and _differs(record.host.state, wanted):
            _store(parts, unit, changed, request, actor)
            if wanted is HostState.REVOKED:
                end_moves(parts, unit, record.host, actor)
        if wanted is HostState.DRAINING:
            moves, staying = order_moves(parts, unit, record.host, actor, dry_run=request.dry_run)
        shown = changed if request.dry_run else find_host(unit, record.host.id)
        names = {each.host.id: each.host.name for each in unit.hosts.all()}
        view = host_views(parts, unit, load_state(unit), [shown])[0]
    if not request.dry_run:
        parts.work.ring()
        parts.news.ring()
    tasks = tuple(task_view(task, names) for task in moves)
    return HostChange(host=view, tasks=tasks, staying=staying, dry_run=request.dry_run)


def _differs(now: HostState, wanted: HostState) -> bool:
    return now is not wanted and not (now is HostState.DRAINED and wanted is HostState.DRAINING)


def _store(parts: Parts, unit: Unit, changed: HostRecord, request: HostRequest, actor: str) -> None:
    now = parts.clock()
    unit.hosts.put(changed)
    unit.revisions.allocate(f"host {changed.host.state.value}", actor, now)
    kind, detail = _EVENTS[changed.host.state], {"name": changed.host.name}
    parts.record(unit, Event(kind, now, host=changed.host.id, actor=actor, cause=request.reason, detail=detail))
