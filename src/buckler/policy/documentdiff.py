"""Two sets of documents side by side: which differ, and how. Asks nothing about packets."""

from __future__ import annotations

from collections.abc import Iterable

from buckler.model.operatorapi.documents import Action, DocumentDiff
from buckler.policy.fielddiff import changed_fields
from buckler.policy.form import document_to_dict
from buckler.policy.language import Document


def diff_documents(before: Iterable[Document], after: Iterable[Document]) -> tuple[DocumentDiff, ...]:
    """Give every document that is not the same, by key."""
    old, new = ({each.key: each for each in documents} for documents in (before, after))
    found = (diff_document(old.get(key), new.get(key)) for key in sorted({**old, **new}))
    return tuple(each for each in found if each.before != each.after)


def diff_document(before: Document | None, after: Document | None) -> DocumentDiff:
    """Tell what becomes of one document. One of the two must be there."""
    document = after or before
    if document is None:
        raise ValueError("a difference of nothing")
    was, becomes = (document_to_dict(each) if each else None for each in (before, after))
    return DocumentDiff(
        kind=document.kind.value,
        tenant=document.tenant,
        name=document.name,
        action=_action(was, becomes),
        before=was,
        after=becomes,
        fields=changed_fields(was, becomes),
    )


def _action(before: object, after: object) -> Action:
    if before is None:
        return Action.CREATED
    if after is None:
        return Action.DELETED
    return Action.UNCHANGED if before == after else Action.CONFIGURED
