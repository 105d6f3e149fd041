"""Revisions over the API. What they are is buckler.controller.revisions'."""

from __future__ import annotations

from litestar import get
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.parts import Parts
from buckler.controller.revisions import list_revisions, show_revision
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.revisions import RevisionPage, RevisionView

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

    return [revisions, revision]
