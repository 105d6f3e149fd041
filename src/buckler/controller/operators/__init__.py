"""The operators' side of a controller: /api/v1 on the root-only unix socket, as model.operatorapi says."""

from __future__ import annotations

from litestar.handlers import BaseRouteHandler

from buckler.controller.operators.answers import answer_routes
from buckler.controller.operators.documents import document_routes
from buckler.controller.operators.hosts import host_routes
from buckler.controller.operators.ledger import ledger_routes
from buckler.controller.operators.pool import pool_routes
from buckler.controller.operators.revisions import revision_routes
from buckler.controller.operators.vms import vm_routes
from buckler.controller.parts import Parts


def operator_routes(parts: Parts) -> list[BaseRouteHandler]:
    """All of them; the OpenAPI description is the framework's."""
    return [
        *document_routes(parts),
        *revision_routes(parts),
        *vm_routes(parts),
        *host_routes(parts),
        *answer_routes(parts),
        *ledger_routes(parts),
        *pool_routes(parts),
    ]
