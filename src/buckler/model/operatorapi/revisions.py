"""Revisions of the pool's documents over the operator API: listed, shown, compared, put back."""

from __future__ import annotations

from typing import Any

from buckler.model.operatorapi.body import Answer, Request
from buckler.model.operatorapi.documents import ApplyResult, DiffResult


class ChangeCount(Answer, frozen=True):
    """How many documents of a kind became what; ``names`` are the first of them (``tenant/name`` outside ``default``)."""

    kind: str
    action: str
    count: int
    names: tuple[str, ...]


class RevisionItem(Answer, frozen=True):
    """One revision of the documents. Not ``recorded``: it is older than the recording of what revisions change."""

    revision: int
    at: float
    actor: str
    cause: str
    comment: str = ""
    recorded: bool = True
    changes: tuple[ChangeCount, ...] = ()


class RevisionPage(Answer, frozen=True):
    """Newest first. Documents can be told of every revision from ``recordedFrom`` on, of none before."""

    current: int
    recorded_from: int
    items: tuple[RevisionItem, ...]


class RevisionView(Answer, frozen=True):
    """The documents in force once ``revision`` was made. ``made_by``: the change that they go back to, if it is known."""

    revision: int
    made_by: RevisionItem | None
    documents: tuple[dict[str, Any], ...]


class RollbackRequest(Request, frozen=True):
    """Put the documents of a revision back. VMs and networks only with ``inventory``: their facts are the world's.

    ``current`` (unless 0) must still be the newest revision of the documents: what was shown is what is done.
    """

    comment: str = ""
    inventory: bool = False
    current: int = 0
    dry_run: bool = False
    wait: float = 0


class RollbackResult(Answer, frozen=True):
    """What was done or would be. ``left``: VMs and networks that differ from that revision and stay as they are."""

    result: ApplyResult
    diff: DiffResult
    current: int
    left: tuple[str, ...] = ()
