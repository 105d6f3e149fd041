"""Who is calling: session tokens in, host records out. Owns the refusals 401, 403 and 429."""

from __future__ import annotations

from typing import Any

from litestar import Request

from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.controller.tokens import Sealed, unseal
from buckler.model.pool import HostState
from buckler.ports.roster import HostRecord

SESSION = "session"
NONCE = "nonce"

AnyRequest = Request[Any, Any, Any]


def session_of(parts: Parts, request: AnyRequest) -> Sealed:
    """Return what the request's bearer token says; others' failures from its address do not hinder it. Raises Refused."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    content = unseal(token, SESSION, parts.keys.session, parts.clock()) if scheme.lower() == "bearer" else None
    if content is None:
        refuse_throttled(parts, request)
        raise failure(parts, request, 401, "no valid token")
    return content


def caller_of(parts: Parts, request: AnyRequest) -> HostRecord:
    """Return the host that calls; it counts as heard. Raises Refused."""
    session = session_of(parts, request)
    with parts.store.read() as unit:
        record = unit.hosts.get(session.host)
    if record is None:
        raise failure(parts, request, 401, "no such host")
    if record.host.state is HostState.REVOKED:
        raise Refused(403, "this host was revoked")
    parts.presence.hear(record.host.id, parts.clock())
    return record


def refuse_throttled(parts: Parts, request: AnyRequest) -> None:
    """Turn away a client with too many failures. Raises Refused."""
    if parts.throttle.is_closed_to(client_of(request), parts.clock()):
        raise Refused(429, "too many failures", "wait a minute")


def failure(parts: Parts, request: AnyRequest, status: int, title: str) -> Refused:
    """Count a failure of the client and give the refusal to raise."""
    parts.throttle.note_failure(client_of(request), parts.clock())
    return Refused(status, title)


def client_of(request: AnyRequest) -> str:
    """Name the client by its address."""
    return request.client.host if request.client else ""
