"""Answers for names as agents send them. Owns no decision."""

from __future__ import annotations

import structlog
from litestar import post
from litestar.handlers import BaseRouteHandler

from buckler.controller.agents.callers import AnyRequest, caller_of
from buckler.controller.naming import take_names
from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.model.agentapi import ClaimsAnswered, NameBatch

_BATCH = 1000
_log = structlog.get_logger("buckler.controller")


def name_routes(parts: Parts) -> list[BaseRouteHandler]:
    """The one route."""

    @post("/agent/v1/names", status_code=200, sync_to_thread=True)
    def names(request: AnyRequest, data: NameBatch) -> ClaimsAnswered:
        host = caller_of(parts, request).host
        if len(data.claims) > _BATCH:
            raise Refused(413, "too many answers in one batch")
        if data.shed:
            _log.warning("answers for names were shed", host=host.name, count=data.shed)
        with parts.store.write() as unit:
            before = unit.revisions.current()
            outcomes = take_names(parts, unit, host, data.claims)
            is_changed = unit.revisions.current() != before
        if is_changed:
            parts.work.ring()
        return ClaimsAnswered(outcomes)

    return [names]
