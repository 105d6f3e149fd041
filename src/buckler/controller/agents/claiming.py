"""Claims of addresses as agents send them. Owns no decision."""

from __future__ import annotations

import structlog
from litestar import post
from litestar.handlers import BaseRouteHandler

from buckler.controller.agents.callers import AnyRequest, caller_of
from buckler.controller.claims import take_claims
from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.model.agentapi import ClaimBatch, ClaimsAnswered

_BATCH = 1000
_log = structlog.get_logger("buckler.controller")


def claim_routes(parts: Parts) -> list[BaseRouteHandler]:
    """The one route."""

    @post("/agent/v1/claims", status_code=200, sync_to_thread=True)
    def claims(request: AnyRequest, data: ClaimBatch) -> ClaimsAnswered:
        host = caller_of(parts, request).host
        if len(data.claims) > _BATCH:
            raise Refused(413, "too many claims in one batch")
        if data.shed:
            _log.warning("claims of addresses were shed", host=host.name, count=data.shed)
        with parts.store.write() as unit:
            before = unit.revisions.current()
            outcomes = take_claims(parts, unit, host, data.claims)
            is_changed = unit.revisions.current() != before
        if is_changed:
            parts.work.ring()
        return ClaimsAnswered(outcomes)

    return [claims]
