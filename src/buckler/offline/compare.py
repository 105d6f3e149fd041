"""Two sets of files side by side: which documents differ, and who gains or loses what. Prints nothing."""

from __future__ import annotations

from buckler.model.operatorapi.documents import Action, DiffResult, DocumentDiff, ReachChange
from buckler.policy.draft import Draft
from buckler.policy.language import Document, document_to_dict
from buckler.policy.reach import reach_pairs, words_of

Pair = tuple[str, str]


def compare(before: Draft, after: Draft) -> DiffResult:
    """Say what is another in ``after``."""
    return DiffResult(documents=_documents(before, after), reach=reach_changes(before, after))


def reach_changes(before: Draft, after: Draft) -> tuple[ReachChange, ...]:
    """Name every pair of which the answer differs."""
    old, new = _pairs(before), _pairs(after)
    return tuple(
        ReachChange(*pair, old.get(pair, ()), new.get(pair, ()))
        for pair in sorted(old.keys() | new.keys())
        if old.get(pair, ()) != new.get(pair, ())
    )


def _pairs(draft: Draft) -> dict[Pair, tuple[str, ...]]:
    pairs = reach_pairs(draft.pool, draft.documents, draft.numbers)
    return {(pair.origin, pair.to): words_of(pair.allowed) for pair in pairs}


def _documents(before: Draft, after: Draft) -> tuple[DocumentDiff, ...]:
    old, new = ({each.key: each for each in draft.documents} for draft in (before, after))
    return tuple(
        DocumentDiff(
            kind=document.kind.value,
            tenant=document.tenant,
            name=document.name,
            action=_action(old.get(key), new.get(key)),
            before=document_to_dict(old[key]) if key in old else None,
            after=document_to_dict(new[key]) if key in new else None,
        )
        for key, document in sorted({**old, **new}.items())
        if (document_to_dict(old[key]) if key in old else None) != (document_to_dict(new[key]) if key in new else None)
    )


def _action(before: Document | None, after: Document | None) -> Action:
    if before is None:
        return Action.CREATED
    return Action.DELETED if after is None else Action.CONFIGURED
