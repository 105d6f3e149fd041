"""Puts the documents of a revision back, as a new revision, through the same checks as every change. Alters no revision."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec

from buckler.controller.changes import Wanted, check_change, commit_change, diff_plan
from buckler.controller.parts import Parts
from buckler.controller.pool_state import load_documents
from buckler.controller.problems import Refused
from buckler.controller.registry import Author
from buckler.controller.revisions import check_comment, documents_of, newest_revision
from buckler.model.operatorapi.documents import Reference
from buckler.model.operatorapi.revisions import RollbackRequest, RollbackResult
from buckler.policy.form import document_to_dict
from buckler.policy.language import Document, Kind
from buckler.ports.store import Unit

WORLDLY = frozenset({Kind.VM, Kind.NETWORK})
"""What describes the world: it is not undone by writing that it is otherwise."""


class Return(msgspec.Struct, frozen=True):
    """What has to change so that old documents are in force again. ``left``: keys that differ and stay."""

    documents: tuple[Document, ...]
    delete: tuple[Reference, ...]
    left: tuple[str, ...]


def plan_return(now: Iterable[Document], then: Iterable[Document], *, inventory: bool) -> Return:
    """Say what to write and what to delete; VMs and networks only with ``inventory``."""
    present, wanted = ({each.key: each for each in documents} for documents in (now, then))
    differing = [key for key in sorted({**present, **wanted}) if _form(present.get(key)) != _form(wanted.get(key))]
    left = [key for key in differing if not inventory and (present.get(key) or wanted[key]).kind in WORLDLY]
    moved = [key for key in differing if key not in set(left)]
    gone = (present[key] for key in moved if key not in wanted)
    return Return(
        documents=tuple(wanted[key] for key in moved if key in wanted),
        delete=tuple(Reference(each.kind.value, each.name, each.tenant) for each in gone),
        left=tuple(left),
    )


async def roll_back(parts: Parts, revision: int, request: RollbackRequest, actor: str) -> RollbackResult:
    """Put a revision back, and wake the engine. Raises Refused with every problem."""
    result = await asyncio.to_thread(store_rollback, parts, revision, request, actor)
    if result.result.revision:
        parts.work.ring()
    return result


def store_rollback(parts: Parts, revision: int, request: RollbackRequest, actor: str) -> RollbackResult:
    """``roll_back`` without the waking. What is put back is worked out in the transaction that does it."""
    comment = check_comment(request.comment)
    if not comment and not request.dry_run:
        raise Refused(422, "nothing was rolled back: no comment", "say why: it stays with the revision")
    author = Author(actor, f"rollback to {revision}", comment=comment)
    with parts.store.read() if request.dry_run else parts.store.write() as unit:
        current = newest_revision(unit)
        if request.current not in {0, current}:
            text = f"the newest revision is {current}, not {request.current}: look again at what would be undone"
            raise Refused(412, "the documents were changed meanwhile", text)
        return _put_back(parts, unit, revision, request, author)


def _put_back(parts: Parts, unit: Unit, revision: int, request: RollbackRequest, author: Author) -> RollbackResult:
    now = tuple(document for _, document in load_documents(unit).values())
    back = plan_return(now, documents_of(unit, revision), inventory=request.inventory)
    plan = check_change(parts, unit, Wanted(documents=back.documents, delete=back.delete, dry_run=request.dry_run))
    # Told before it is stored: afterwards the VMs that it registers would have ids already.
    diff = diff_plan(unit, plan, parts.clock())
    result = commit_change(parts, unit, plan, author, dry_run=request.dry_run)
    return RollbackResult(result, diff, newest_revision(unit), back.left)


def _form(document: Document | None) -> object:
    return None if document is None else document_to_dict(document)
