"""Hosts as witnesses: consistency proofs for them, cosignatures from them. Decides nothing by their number."""

from __future__ import annotations

from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.agents.callers import AnyRequest, caller_of
from buckler.controller.parts import Parts
from buckler.controller.passports import every_issuer
from buckler.controller.problems import Refused
from buckler.controller.proving import consistency
from buckler.ledger.checkpoint import read_checkpoint, read_cosignatures
from buckler.ledger.export import base64_of
from buckler.model.agentapi import ConsistencyProof, Cosigned
from buckler.model.pool import Host
from buckler.ports.ledger import Witnessed
from buckler.ports.store import Unit
from buckler.trust.statement import Untrusted, key_from_text

_NOTE = 10_000


def witnessing_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Both."""

    @get("/agent/v1/ledger/consistency", sync_to_thread=True)
    def show_consistency(
        request: AnyRequest,
        old: int = Parameter(query="old", ge=1, le=2**53),
        new: int = Parameter(query="new", ge=1, le=2**53),
    ) -> ConsistencyProof:
        caller_of(parts, request)
        with parts.store.read() as unit:
            return ConsistencyProof(tuple(base64_of(each) for each in consistency(unit, old, new)))

    @post("/agent/v1/ledger/cosignature", status_code=204, sync_to_thread=True)
    def take_cosignature(request: AnyRequest, data: Cosigned) -> None:
        host = caller_of(parts, request).host
        with parts.store.write() as unit:
            _keep(parts, unit, host, data.note)

    return [show_consistency, take_cosignature]


def _keep(parts: Parts, unit: Unit, host: Host, note: str) -> None:
    """Keep what a host cosigned if it is newer than what it did before. Raises Refused."""
    if len(note) > _NOTE:
        raise Refused(413, "a note that is too large")
    try:
        signed = read_checkpoint(note, parts.origin, every_issuer(parts, unit))
        cosigned = read_cosignatures(note, {host.id: key_from_text(host.public_key)})
    except Untrusted as error:
        raise Refused(400, "no checkpoint of this pool, or not cosigned by this host", str(error)) from error
    if not cosigned:
        raise Refused(400, "not cosigned by this host")
    before = {each.host: each.size for each in unit.ledger.witnessed()}
    if signed.size >= before.get(host.id, 0):
        unit.ledger.put_witnessed(Witnessed(host.id, signed.size, note, parts.clock()))
