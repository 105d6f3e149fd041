"""Writes down who was heard, notices who fell silent and what is over. Owns no decision but the deadline."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from buckler.controller.naming import release_names
from buckler.controller.parts import Parts
from buckler.controller.releasing import release_stale
from buckler.model.event import Event, EventKind
from buckler.model.pool import HostState
from buckler.ports.store import StoreFailed

_log = structlog.get_logger("buckler.controller")
_PERIOD = 5.0


async def keep_watch(parts: Parts) -> None:
    """Look every few seconds, for ever."""
    started = parts.clock()
    while True:
        await asyncio.sleep(min(_PERIOD, parts.settings.agent_lost_after / 3))
        try:
            await asyncio.to_thread(look_once, parts, started)
            await asyncio.to_thread(release_stale, parts)
            await asyncio.to_thread(release_names, parts)
        except StoreFailed as error:
            _log.error("the watchman could not write", error=str(error))


def look_once(parts: Parts, started: float) -> None:
    """Store who was heard; record each host that has been silent too long, once per silence."""
    heard, now = parts.presence.take_heard(), parts.clock()
    with parts.store.write() as unit:
        for host, at in heard.items():
            unit.hosts.seen(host, at)
        for record in unit.hosts.all():
            silent_since = max(record.seen_at, started)
            if record.host.state is HostState.REVOKED or record.lost_at:
                continue
            if now - silent_since > parts.settings.agent_lost_after:
                unit.hosts.put(msgspec.structs.replace(record, lost_at=now))
                detail = {"last_heard": round(record.seen_at, 3), "name": record.host.name}
                cause = f"nothing heard for {parts.settings.agent_lost_after:g} s"
                parts.record(unit, Event(EventKind.AGENT_LOST, now, host=record.host.id, cause=cause, detail=detail))
