"""Documents over the API: apply, diff, get, delete, label. The change itself is registry's."""

from __future__ import annotations

import asyncio

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.changes import Wanted, apply_documents, check_etag, diff_documents, etag_of
from buckler.controller.operators.callers import AnyRequest, actor_of
from buckler.controller.operators.selecting import parse_selector
from buckler.controller.parts import Parts
from buckler.controller.pool_state import load_documents
from buckler.controller.problems import Refused
from buckler.controller.registry import Author
from buckler.controller.revisions import check_comment
from buckler.model.event import EventKind
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.documents import (
    ApplyRequest,
    ApplyResult,
    DiffResult,
    DocumentItem,
    LabelRequest,
    Reference,
)
from buckler.policy.form import document_to_dict
from buckler.policy.language import Document, Kind
from buckler.ports.records import StoredDocument

_ONE = PREFIX + "/documents/{kind:str}/{tenant:str}/{name:str}"


def document_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything about documents."""

    @post(PREFIX + "/apply", status_code=200)
    async def apply(request: AnyRequest, data: ApplyRequest) -> ApplyResult:
        wanted = Wanted(files=data.files, delete=data.delete, dry_run=data.dry_run)
        author = Author(actor_of(request), "apply", comment=check_comment(data.comment))
        return await apply_documents(parts, wanted, author, data.wait)

    @post(PREFIX + "/diff", status_code=200, sync_to_thread=True)
    def diff(data: ApplyRequest) -> DiffResult:
        return diff_documents(parts, Wanted(files=data.files, delete=data.delete, dry_run=True))

    @get(PREFIX + "/documents", sync_to_thread=True)
    def list_documents(kind: str = "", tenant: str = "", selector: str = "") -> list[DocumentItem]:
        chosen = parse_selector(selector)
        with parts.store.read() as unit:
            pairs = load_documents(unit)
        return [
            _item(stored, document)
            for _, (stored, document) in sorted(pairs.items())
            if document.kind.value.lower() in {kind.lower() or document.kind.value.lower()}
            and document.tenant in {tenant or document.tenant}
            and chosen.matches(document.labels)
        ]

    @get(_ONE)
    async def show_document(kind: str, tenant: str, name: str) -> Response[DocumentItem]:
        stored, document = await asyncio.to_thread(_look_up, parts, Reference(kind, name, tenant))
        return Response(_item(stored, document), headers={"ETag": etag_of(stored)})

    @delete(_ONE, status_code=200)
    async def delete_document(
        request: AnyRequest,
        kind: str,
        tenant: str,
        name: str,
        dry_run: bool = Parameter(query="dryRun", default=False),
    ) -> ApplyResult:
        reference = Reference(kind, name, tenant, request.headers.get("if-match", ""))
        wanted = Wanted(delete=(reference,), dry_run=dry_run)
        return await apply_documents(parts, wanted, Author(actor_of(request), "delete"))

    @patch(_ONE + "/labels", status_code=200)
    async def label(request: AnyRequest, kind: str, tenant: str, name: str, data: LabelRequest) -> ApplyResult:
        stored, document = await asyncio.to_thread(_look_up, parts, Reference(kind, name, tenant))
        check_etag(stored, request.headers.get("if-match", ""))
        changed = msgspec.structs.replace(document, labels=_relabelled(document, data))
        wanted = Wanted(documents=(changed,), etags={document.key: etag_of(stored)}, dry_run=data.dry_run)
        author = Author(actor_of(request), "label", EventKind.VM_LABELLED)
        return await apply_documents(parts, wanted, author, data.wait)

    return [apply, diff, list_documents, show_document, delete_document, label]


def _look_up(parts: Parts, reference: Reference) -> tuple[StoredDocument, Document]:
    with parts.store.read() as unit:
        pairs = load_documents(unit)
    kinds = {kind.value.lower(): kind.value for kind in Kind}
    kind = kinds.get(reference.kind.lower())
    found = pairs.get(f"{kind}/{reference.tenant}/{reference.name}")
    if found is None:
        raise Refused(404, "no such document", f"{reference.kind} {reference.name!r} in tenant {reference.tenant!r}")
    return found


def _relabelled(document: Document, request: LabelRequest) -> dict[str, str]:
    labels = document.labels
    taken = {f"{key}={labels[key]}" for key, value in request.set.items() if labels.get(key, value) != value}
    if taken and not request.overwrite:
        raise Refused(409, "a label has another value", f"{', '.join(sorted(taken))}: say --overwrite to replace it")
    return {key: value for key, value in {**document.labels, **request.set}.items() if key not in request.remove}


def _item(stored: StoredDocument, document: Document) -> DocumentItem:
    return DocumentItem(
        document=document_to_dict(document),
        etag=etag_of(stored),
        revision=stored.generation,
        file=document.file,
        line=document.line,
    )
