"""Two sets of files side by side: which documents differ, and who gains or loses what. Prints nothing."""

from __future__ import annotations

from buckler.model.operatorapi.documents import DiffResult
from buckler.policy.documentdiff import diff_documents
from buckler.policy.draft import Draft
from buckler.policy.language import Document
from buckler.policy.learned import LearnedGroup
from buckler.policy.reachdiff import diff_reach


def compare(before: Draft, after: Draft) -> DiffResult:
    """Say what is another in ``after``."""
    delta = diff_reach(before, after)
    return DiffResult(diff_documents(_written(before), _written(after)), delta.pairs, count=delta.count)


def _written(draft: Draft) -> tuple[Document, ...]:
    """Leave out what nobody wrote: answers for names."""
    return tuple(each for each in draft.documents if not isinstance(each.spec, LearnedGroup))
