"""Documents over the operator API: applied, compared, listed, labelled. Their language is buckler.policy's."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from buckler.model.operatorapi.answers import Outside
from buckler.model.operatorapi.body import Answer, HostWait, Issue, Request


class SourceFile(Request, frozen=True):
    """One file of documents, as text (YAML, of which JSON is a part), and the name to blame in problems."""

    name: str
    text: str


class Reference(Request, frozen=True):
    """One document. ``etag`` (when given) must still be the document's."""

    kind: str
    name: str
    tenant: str = "default"
    etag: str = ""


class ApplyRequest(Request, frozen=True):
    """Documents to create or replace and documents to delete, in one transaction: all or nothing.

    ``wait`` is how many seconds to wait for every reachable host to enforce the result; 0 answers once committed.
    ``comment`` stays with the revision for ever.
    """

    files: tuple[SourceFile, ...] = ()
    delete: tuple[Reference, ...] = ()
    dry_run: bool = False
    wait: float = 0
    comment: str = ""


class Action(StrEnum):
    """What became, or would become, of one document."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class Change(Answer, frozen=True):
    kind: str
    tenant: str
    name: str
    action: Action


class ApplyResult(Answer, frozen=True):
    """``revision`` is the committed one (0 when nothing changed or ``dryRun``). ``waiting`` is empty once all enforce it."""

    revision: int
    changes: tuple[Change, ...]
    warnings: tuple[Issue, ...] = ()
    dry_run: bool = False
    waiting: tuple[HostWait, ...] = ()


class DocumentDiff(Answer, frozen=True):
    """``before`` and ``after`` are whole documents; None where there is none. ``fields`` says in words what differs."""

    kind: str
    tenant: str
    name: str
    action: Action
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    fields: tuple[str, ...] = ()


class ReachChange(Answer, frozen=True):
    """What the change does to one pair: lists of allowed ports in words (``TCP 443``), before and after.

    An end is a VM, an endpoint, ``host`` (the gateway that the host serves), ``world`` (every address outside), or those addresses outside that change alike.
    """

    origin: str | Outside = msgspec.field(name="from")
    to: str | Outside
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class ReachCount(Answer, frozen=True):
    """How many pairs differ; a pair may both gain and lose. Outside addresses that change alike count once.

    Not ``complete``: at least so many, the rest was not compared.
    """

    changed: int = 0
    gaining: int = 0
    losing: int = 0
    complete: bool = True


class DiffResult(Answer, frozen=True):
    """``reach`` lists the first pairs, ``count`` counts all."""

    documents: tuple[DocumentDiff, ...]
    reach: tuple[ReachChange, ...] = ()
    warnings: tuple[Issue, ...] = ()
    count: ReachCount = ReachCount()


class DocumentItem(Answer, frozen=True):
    """``document`` is what ``apply`` would take again; ``file`` and ``line`` say where it was written."""

    document: dict[str, Any]
    etag: str
    revision: int
    file: str = ""
    line: int = 0


class LabelRequest(Request, frozen=True):
    """Without ``overwrite`` a key that has another value is refused (409). ``wait``: as ApplyRequest's."""

    set: dict[str, str] = msgspec.field(default_factory=dict)
    remove: tuple[str, ...] = ()
    overwrite: bool = False
    dry_run: bool = False
    wait: float = 0
