"""Revisions over the API. What they are is buckler.controller.revisions'."""

from __future__ import annotations

import msgspec
from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.impact import find_impact
from buckler.controller.operators.callers import AnyRequest, actor_of
from buckler.controller.parts import Parts
from buckler.controller.revisions import documents_of, list_revisions, show_revision
from buckler.controller.rollback import roll_back
from buckler.controller.simulate import compare_documents
from buckler.controller.waiting import wait_enforced
from buckler.model.ids import Revision
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.documents import DiffResult
from buckler.model.operatorapi.impact import Impact, ImpactRequest
from buckler.model.operatorapi.revisions import RevisionPage, RevisionView, RollbackRequest, RollbackResult

_ONE = PREFIX + "/revisions/{revision:int}"


def revision_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything about revisions."""

    @get(PREFIX + "/revisions", sync_to_thread=True)
    def revisions(
        below: int = Parameter(query="below", ge=0, default=0), limit: int = Parameter(query="limit", ge=0, default=0)
    ) -> RevisionPage:
        with parts.store.read() as unit:
            return list_revisions(unit, below, limit)

    @get(_ONE, sync_to_thread=True)
    def revision(revision: int) -> RevisionView:
        with parts.store.read() as unit:
            return show_revision(unit, revision)

    @get(_ONE + "/diff", sync_to_thread=True)
    def difference(revision: int, to: int = Parameter(query="to", ge=0, default=0)) -> DiffResult:
        """Compare a revision's documents with another's; 0: with those in force."""
        with parts.store.read() as unit:
            return compare_documents(unit, documents_of(unit, revision), documents_of(unit, to), parts.clock())

    @post(_ONE + "/rollback", status_code=200)
    async def rollback(request: AnyRequest, revision: int, data: RollbackRequest) -> RollbackResult:
        done = await roll_back(parts, revision, data, actor_of(request))
        revised = Revision(done.result.revision)
        waiting = await wait_enforced(parts, revised, min(data.wait, 600)) if data.wait and revised else ()
        return msgspec.structs.replace(done, result=msgspec.structs.replace(done.result, waiting=waiting))

    @post(PREFIX + "/impact", status_code=200, sync_to_thread=True)
    def impact(data: ImpactRequest) -> Impact:
        """Replay a draft over the flows that hosts told."""
        return find_impact(parts, data)

    return [revisions, revision, difference, rollback, impact]
