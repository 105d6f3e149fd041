"""Revisions of the documents as the store has them. Reads only; what a revision means for packets is policy's."""

from __future__ import annotations

import msgspec

from buckler.controller.pool_state import document_of
from buckler.controller.problems import Refused
from buckler.model.ids import Revision
from buckler.model.operatorapi.revisions import ChangeCount, RevisionItem, RevisionPage, RevisionView
from buckler.policy.form import document_to_dict
from buckler.policy.language import Document
from buckler.ports.publication import RevisionRecord
from buckler.ports.store import Unit

_MOST = 1000
LONGEST_COMMENT = 2000


def check_comment(text: str) -> str:
    """Take a comment as it is kept. Raises Refused."""
    if len(text) > LONGEST_COMMENT or "\0" in text:
        raise Refused(
            422, "nothing was applied: the comment", f"at most {LONGEST_COMMENT} characters, none of them NUL"
        )
    return text.strip()


def list_revisions(unit: Unit, below: int, limit: int) -> RevisionPage:
    """List the newest revisions that changed documents."""
    records = unit.revisions.published(below, min(limit or 20, _MOST))
    return RevisionPage(unit.revisions.current(), unit.revisions.recorded_from(), tuple(map(item_of, records)))


def newest_revision(unit: Unit) -> Revision:
    """Number the last change of documents; 0 before the first."""
    newest = unit.revisions.published(0, 1)
    return newest[0].revision if newest else Revision(0)


def show_revision(unit: Unit, revision: int) -> RevisionView:
    """Show the documents of a revision. Raises Refused."""
    documents = documents_of(unit, revision)
    made_by = unit.revisions.published(revision + 1, 1)
    told = tuple(document_to_dict(each) for each in documents)
    return RevisionView(revision, item_of(made_by[0]) if made_by else None, told)


def documents_of(unit: Unit, revision: int) -> tuple[Document, ...]:
    """Give the documents that were in force once a revision was made; 0: now. Raises Refused when nobody knows."""
    if not revision:
        return tuple(map(document_of, unit.documents.all()))
    current, first = unit.revisions.current(), unit.revisions.recorded_from()
    if not 0 < revision <= current:
        raise Refused(404, "no such revision", f"revision {revision}; the newest is {current}")
    if revision < first:
        text = f"revision {revision} is older than the recording of documents by revision, which begins with {first}"
        raise Refused(410, "its documents were not recorded", text)
    return tuple(map(document_of, unit.documents.of(revision)))


def item_of(record: RevisionRecord) -> RevisionItem:
    """Tell of one revision."""
    changes = tuple(ChangeCount(**msgspec.structs.asdict(each)) for each in record.changes or ())
    recorded = record.changes is not None
    return RevisionItem(
        record.revision, record.at, record.actor, record.cause, record.comment, recorded=recorded, changes=changes
    )
