"""The stream of news to one host, and the objects that its manifests name. Owns no news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import msgspec
from litestar import Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from litestar.response import Stream

from buckler.controller.agents.callers import AnyRequest, caller_of, session_of
from buckler.controller.orders import take_order
from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.controller.tokens import Sealed
from buckler.model.agentapi import MOST_WANTED, ObjectsWanted, StreamMessage
from buckler.model.ids import HostId, Revision
from buckler.model.pool import HostState
from buckler.ports.publication import PublishedManifest

_HEARTBEAT = 3.0
_ANSWER = 8 << 20
_WITNESS_PERIOD = 2.0
"""How often one host is given a newer checkpoint: each costs it a write to disk."""


class _Told(msgspec.Struct):
    """What one stream has told its host."""

    revision: Revision
    issuers: int = 0
    tasks: frozenset[str] = frozenset()
    checkpoint: str = ""
    checkpoint_at: float = 0


def watching_routes(parts: Parts) -> list[BaseRouteHandler]:
    """The stream and the objects."""

    @get("/agent/v1/watch", sync_to_thread=True)
    def watch(request: AnyRequest, since: int = Parameter(query="since", ge=0, le=2**62, default=0)) -> Stream:
        session = session_of(parts, request)
        caller_of(parts, request)
        return Stream(_lines(parts, session, Revision(since)), media_type="application/x-ndjson")

    @post("/agent/v1/objects", status_code=200, sync_to_thread=True)
    def give_objects(request: AnyRequest, data: ObjectsWanted) -> Response[bytes]:
        caller_of(parts, request)
        if not 0 < len(data.digests) <= MOST_WANTED:
            raise Refused(413, "too many objects at once, or none")
        with parts.store.read() as unit:
            found = unit.objects.get(data.digests)
        if found.keys() != set(data.digests):
            raise Refused(404, "no such object")
        return Response(_as_many(found[digest] for digest in data.digests), media_type="application/x-ndjson")

    return [watch, give_objects]


def _as_many(contents: Iterable[bytes]) -> bytes:
    """One a line (canonical JSON has no line breaks), until it is enough for one answer: the host asks again."""
    lines, size = [], 0
    for content in contents:
        lines.append(content)
        size += len(content)
        if size > _ANSWER:
            break
    return b"\n".join(lines)


async def _lines(parts: Parts, session: Sealed, since: Revision) -> AsyncIterator[bytes]:
    told = _Told(revision=since)
    with parts.presence.stream(session.host, parts.clock()):
        while (left := session.expires_at - parts.clock()) > 0:
            count = parts.news.count
            messages = await asyncio.to_thread(_news, parts, session.host, told)
            if messages is None:
                return
            for message in messages or [StreamMessage()]:
                yield msgspec.json.encode(message) + b"\n"
            parts.presence.hear(session.host, parts.clock())
            await parts.news.wait(count, min(_HEARTBEAT, left))


def _news(parts: Parts, host: HostId, told: _Told) -> list[StreamMessage] | None:
    """Return what the host has not been told yet, issuers first; None when it is no member any more."""
    messages = []
    with parts.store.read() as unit:
        record = unit.hosts.get(host)
        if record is None or record.host.state is HostState.REVOKED:
            return None
        issuers = unit.keys.issuers()[-1]
        order = unit.manifests.order(host)
        tasks = unit.tasks.open_for(host, parts.clock())
        checkpoint = unit.ledger.checkpoint()
    if issuers.version > told.issuers:
        messages.append(StreamMessage(issuers=issuers.statement))
        told.issuers = issuers.version
    manifest = _take_manifest(parts, host) if order is not None and order.revision > told.revision else None
    if manifest is not None and manifest.revision > told.revision:
        messages.append(StreamMessage(manifest=manifest.statement))
        told.revision = manifest.revision
    messages += [StreamMessage(task=task.statement) for task in tasks if task.task.id not in told.tasks]
    told.tasks = frozenset(task.task.id for task in tasks)
    if checkpoint != told.checkpoint and parts.clock() - told.checkpoint_at >= _WITNESS_PERIOD:
        messages.append(StreamMessage(checkpoint=checkpoint))
        told.checkpoint, told.checkpoint_at = checkpoint, parts.clock()
    return messages


def _take_manifest(parts: Parts, host: HostId) -> PublishedManifest | None:
    """Sign the host's newest manifest, noting before it is sent that the host may enforce it from now on."""
    with parts.store.write() as unit:
        record = unit.hosts.get(host)
        if record is None or record.host.state is HostState.REVOKED:
            return None
        return take_order(parts, unit, record.host)
