"""From what a person sent to a committed change: read, check everything at once, store, or only say what would be."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.pool_state import QUARANTINE, Pairs, State
from buckler.controller.problems import Refused
from buckler.controller.registry import Author, Edit, plan_edits, store_edits
from buckler.controller.simulate import imagine, imagine_known
from buckler.controller.waiting import wait_enforced
from buckler.model.operatorapi.body import Issue
from buckler.model.operatorapi.documents import ApplyResult, Change, DiffResult, Reference, SourceFile
from buckler.policy.claimcheck import Holding, check_holdings
from buckler.policy.crosscheck import check_documents, merge_documents
from buckler.policy.documentdiff import diff_document
from buckler.policy.documents import Reading, read_documents
from buckler.policy.form import document_from_dict, document_to_dict, origin_to_dict
from buckler.policy.language import Document, Kind, VmSpec
from buckler.policy.problem import Problem, Severity
from buckler.policy.reachdiff import diff_reach
from buckler.policy.referring import settle_problems
from buckler.policy.source import Source
from buckler.policy.warning import warn_about
from buckler.ports.records import StoredDocument
from buckler.ports.store import Unit

Check = Callable[[Sequence[Document], Sequence[Document]], tuple[Problem, ...]]


class Wanted(msgspec.Struct, frozen=True):
    """A change: files as text, documents already read (``etags``: what they must still be), deletions."""

    files: tuple[SourceFile, ...] = ()
    documents: tuple[Document, ...] = ()
    delete: tuple[Reference, ...] = ()
    etags: dict[str, str] = {}
    dry_run: bool = False


class Planned(msgspec.Struct, frozen=True):
    """A checked change. ``before`` and ``after`` are all documents of the pool."""

    edits: tuple[Edit, ...]
    before: tuple[Document, ...]
    after: tuple[Document, ...]
    warnings: tuple[Issue, ...]


def etag_of(stored: StoredDocument) -> str:
    """A document's etag (RFC 9110, 8.8.3)."""
    return f'"{stored.generation}"'


def check_etag(stored: StoredDocument, wanted: str) -> None:
    """Refuse unless the document is still the one that the caller saw. Raises Refused."""
    if wanted not in {"", "*"} and wanted.strip('"') != str(stored.generation):
        raise Refused(412, "the document was changed meanwhile", f"it is now {etag_of(stored)}, not {wanted}")


async def apply_documents(parts: Parts, wanted: Wanted, author: Author, wait: float = 0.0) -> ApplyResult:
    """Check and store a change, wake the engine, and wait for the hosts if asked to. Raises Refused with every problem.

    What is only said of a change, and bars nothing, is worked out last: no shield waits for it.
    """
    stored = await asyncio.to_thread(_store, parts, wanted, author)
    if stored.result.revision:
        parts.work.ring()
    waiting = await wait_enforced(parts, stored.result.revision, min(wait, 600)) if wait else ()
    result = await asyncio.to_thread(_with_oddities, parts, stored)
    return msgspec.structs.replace(result, waiting=waiting)


def store_change(parts: Parts, wanted: Wanted, author: Author) -> ApplyResult:
    """``apply_documents`` in one thread, without waking or waiting."""
    return _with_oddities(parts, _store(parts, wanted, author))


class _Stored(msgspec.Struct, frozen=True):
    """A change that is stored, or would be, with all documents after it and those that were applied."""

    result: ApplyResult
    after: tuple[Document, ...]
    applied: tuple[Document, ...]


def _store(parts: Parts, wanted: Wanted, author: Author) -> _Stored:
    read = _read(wanted)
    with parts.store.read() if wanted.dry_run else parts.store.write() as unit:
        plan = check_change(parts, unit, wanted, read)
        return _Stored(commit_change(parts, unit, plan, author, dry_run=wanted.dry_run), plan.after, read.documents)


def _with_oddities(parts: Parts, stored: _Stored) -> ApplyResult:
    if not any(hasattr(each.spec, "review") or each.kind is Kind.EXCEPTION for each in stored.applied):
        return stored.result
    with parts.store.read() as unit:
        odd = warn_oddities(parts, unit, stored.after, stored.applied)
    return msgspec.structs.replace(stored.result, warnings=(*stored.result.warnings, *odd))


def warn_oddities(
    parts: Parts, unit: Unit, after: tuple[Document, ...], applied: tuple[Document, ...]
) -> tuple[Issue, ...]:
    """Warn of applied policies as `policy check` does: what means nobody in the pool, reviews and ends that are past."""
    now = parts.clock()
    pool, documents, over = imagine_known(unit, parts.known.look(unit), after, now)
    found = warn_about(pool, documents, applied, dt.datetime.fromtimestamp(now, dt.UTC).date().isoformat(), over)
    return tuple(map(_issue, found))


def check_change(parts: Parts, unit: Unit, wanted: Wanted, read: Reading | None = None) -> Planned:
    """Check a change in every way, within the transaction that is to make it, before that writes. Raises Refused."""
    state = parts.known.look(unit)
    plan = plan_change(state.stored, read or _read(wanted), wanted, list_holdings(state), parts.known.check)
    refuse_escapes(state, plan)
    refuse_hosts_addresses(parts, state, plan)
    return plan


def commit_change(parts: Parts, unit: Unit, plan: Planned, author: Author, *, dry_run: bool) -> ApplyResult:
    """Store a checked change as a revision, or only say what it would be."""
    revision = 0 if dry_run else store_edits(parts, unit, plan.edits, author)
    changes = tuple(_change(edit) for edit in plan.edits)
    return ApplyResult(revision=revision, changes=changes, warnings=plan.warnings, dry_run=dry_run)


def diff_documents(parts: Parts, wanted: Wanted) -> DiffResult:
    """Say what a change would do, to documents and to who may reach whom. Raises Refused."""
    read = _read(wanted)
    with parts.store.read() as unit:
        state = parts.known.look(unit)
        plan = plan_change(state.stored, read, wanted, list_holdings(state), parts.known.check)
        refuse_hosts_addresses(parts, state, plan)
        return diff_plan(unit, plan, parts.clock())


def diff_plan(unit: Unit, plan: Planned, now: float) -> DiffResult:
    """Say what a checked change does now."""
    delta = diff_reach(imagine(unit, plan.before, now), imagine(unit, plan.after, now))
    documents = tuple(diff_document(edit.before, edit.after) for edit in plan.edits)
    return DiffResult(documents=documents, reach=delta.pairs, warnings=plan.warnings, count=delta.count)


def plan_change(
    present: Pairs,
    read: Reading,
    wanted: Wanted,
    holdings: tuple[Holding, ...] = (),
    check: Check = check_documents,
) -> Planned:
    """Check a change against the pool as it is. Raises Refused with every problem at once."""
    applied = read.documents
    for key, etag in wanted.etags.items():
        if key in present:
            check_etag(present[key][0], etag)
        else:
            raise Refused(412, "the document was deleted meanwhile", key)
    deleted = list(dict.fromkeys(_deleted(present, reference) for reference in wanted.delete))
    both = sorted({document.key for document in applied} & set(deleted))
    if both:
        raise Refused(409, "a document is to be written and deleted at once", ", ".join(both))
    before = tuple([document for _, document in present.values()])
    after = merge_documents({key: document for key, (_, document) in present.items()}, applied, deleted)
    across = (*check(after, applied), *check_holdings(after, holdings))
    found = settle_problems(read, across, after, deleted)
    errors = [problem for problem in found if problem.severity is Severity.ERROR]
    if errors:
        count = "one problem" if len(errors) == 1 else f"{len(errors)} problems"
        raise Refused(422, f"nothing was applied: {count}", issues=tuple(_issue(problem) for problem in errors))
    edits = plan_edits({key: document for key, (_, document) in present.items()}, applied, deleted)
    # What was said of other documents before is not said again with every change.
    told = set(check(before, ())) if found else set()
    own = {(document.file, document.line) for document in applied}
    news = (each for each in found if each not in told or (each.file, each.line) in own)
    return Planned(edits, before, after, tuple(_issue(problem) for problem in news))


def refuse_escapes(state: State, plan: Planned) -> None:
    """Refuse to take a VM in quarantine its domain: registered anew, under whatever name, it would be free. Raises Refused."""
    leaving = [edit.document for edit in plan.edits if _lets_go(edit)]
    if not leaving:
        return
    held = {(each.record.tenant, each.record.name) for each in state.registered if QUARANTINE in each.attributes}
    for document in leaving:
        if (document.tenant, document.name) in held:
            raise Refused(409, f"VM {document.name} is in quarantine", "release it first, with a reason")


def _lets_go(edit: Edit) -> bool:
    """Say whether a domain would be nobody's after an edit."""
    if edit.document.kind is not Kind.VM or edit.before is None:
        return False
    return edit.after is None or _uuid(edit.before) != _uuid(edit.after)


def _uuid(document: Document) -> str:
    return document.spec.uuid if isinstance(document.spec, VmSpec) else ""


def list_holdings(state: State) -> tuple[Holding, ...]:
    """List the addresses that VMs have by claims."""
    return tuple(
        Holding(grant.network, grant.address, each.record.tenant, each.record.name, grant.source.value)
        for each in [each for each in state.registered if each.grants]
        for grant in each.grants
    )


def refuse_hosts_addresses(parts: Parts, state: State, plan: Planned) -> None:
    """Refuse documents that claim a host's address. Raises Refused."""
    found = parts.known.check_hosts(plan.after, state.hosts)
    if found:
        raise Refused(
            422, "nothing was applied: addresses of hosts", issues=tuple(_issue(problem) for problem in found)
        )


def _read(wanted: Wanted) -> Reading:
    reading = read_documents([Source(name=file.name, text=file.text) for file in wanted.files])
    # What code made is read through the same checks as what people wrote.
    texts = [
        Source(document.key, msgspec.json.encode(document_to_dict(document)).decode()) for document in wanted.documents
    ]
    made = read_documents(texts)
    origins = {document.key: document for document in wanted.documents}
    documents = tuple(
        document_from_dict(document_to_dict(document), origin_to_dict(origins[document.key]))
        for document in made.documents
    )
    problems, broken = (*reading.problems, *made.problems), (*reading.broken, *made.broken)
    return Reading((*reading.documents, *documents), problems, broken, reading.lost | made.lost)


def _deleted(present: Pairs, reference: Reference) -> str:
    kinds = {kind.value.lower(): kind.value for kind in Kind}
    key = f"{kinds.get(reference.kind.lower(), reference.kind)}/{reference.tenant}/{reference.name}"
    if key not in present:
        raise Refused(404, "no such document", f"{reference.kind} {reference.name!r} in tenant {reference.tenant!r}")
    check_etag(present[key][0], reference.etag)
    return key


def _change(edit: Edit) -> Change:
    return Change(edit.document.kind.value, edit.document.tenant, edit.document.name, edit.action)


def _issue(problem: Problem) -> Issue:
    return Issue(problem.message, problem.file, problem.line, problem.path, problem.hint)
