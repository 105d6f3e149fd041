"""What agents' guests claim: addresses that they use, answers that they got for names. Owns no decision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from litestar import post
from litestar.handlers import BaseRouteHandler

from buckler.controller.agents.callers import AnyRequest, caller_of
from buckler.controller.claims import take_claims
from buckler.controller.naming import take_names
from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.model.agentapi import AddressClaim, ClaimBatch, ClaimOutcome, ClaimsAnswered, NameBatch, NameClaim
from buckler.model.pool import Host
from buckler.ports.store import Unit

_BATCH = 1000
_log = structlog.get_logger("buckler.controller")
Claim = TypeVar("Claim", AddressClaim, NameClaim)
Judge = Callable[[Parts, Unit, Host, Sequence[Claim]], tuple[ClaimOutcome, ...]]


def claim_routes(parts: Parts) -> list[BaseRouteHandler]:
    """A route for each kind of claim."""

    @post("/agent/v1/claims", status_code=200, sync_to_thread=True)
    def claims(request: AnyRequest, data: ClaimBatch) -> ClaimsAnswered:
        return _judge(parts, request, "claims of addresses", data.claims, data.shed, take_claims)

    @post("/agent/v1/names", status_code=200, sync_to_thread=True)
    def names(request: AnyRequest, data: NameBatch) -> ClaimsAnswered:
        return _judge(parts, request, "answers for names", data.claims, data.shed, take_names)

    return [claims, names]


def _judge(
    parts: Parts, request: AnyRequest, what: str, claims: Sequence[Claim], shed: int, judge: Judge[Claim]
) -> ClaimsAnswered:
    """Judge a batch in one unit of the store, and wake the engine when it changed anything."""
    host = caller_of(parts, request).host
    if len(claims) > _BATCH:
        raise Refused(413, f"too many {what} in one batch")
    if shed:
        _log.warning(f"{what} were shed", host=host.name, count=shed)
    with parts.store.write() as unit:
        before = unit.revisions.current()
        outcomes = judge(parts, unit, host, claims)
        is_changed = unit.revisions.current() != before
    if is_changed:
        parts.work.ring()
    return ClaimsAnswered(outcomes)
