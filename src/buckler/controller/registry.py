"""Changes of documents, and of the VMs and zones that they declare, in one transaction. Decides nothing about policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from buckler.controller.naming import forget_network
from buckler.controller.parts import Parts
from buckler.controller.pool_state import (
    PASSPORT,
    attributes_now,
    attributes_of,
    content_of,
    key_of,
    merge_attributes,
    zone_name,
)
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.event import Event, EventKind
from buckler.model.ids import Revision, VmId, VmNumber
from buckler.model.operatorapi.documents import Action
from buckler.policy.form import document_to_dict, origin_to_dict
from buckler.policy.language import DEFAULT_TENANT, Document, Kind
from buckler.ports.publication import Tally
from buckler.ports.records import NumberSpace, StoredDocument, VmRecord
from buckler.ports.store import StoreFailed, Unit

_NAMED = 5


class Edit(msgspec.Struct, frozen=True):
    """What becomes of one document. ``after`` None: it is deleted; ``before`` None: it is new."""

    before: Document | None
    after: Document | None
    action: Action

    @property
    def document(self) -> Document:
        """The one that names it."""
        found = self.after or self.before
        if found is None:
            raise ValueError("an edit of nothing")
        return found

    @property
    def needs_storing(self) -> bool:
        """Whether anything is different, be it only the line that it was written on."""
        return self.action is not Action.UNCHANGED or _origin(self.before) != _origin(self.after)


class Author(msgspec.Struct, frozen=True):
    """Who changes, and why. ``kind`` replaces the event of a VM's change (adoption, labelling); ``comment`` is theirs."""

    actor: str
    cause: str = ""
    kind: EventKind | None = None
    comment: str = ""


def plan_edits(present: dict[str, Document], applied: Sequence[Document], deleted: Sequence[str]) -> tuple[Edit, ...]:
    """Say what applying and deleting would change."""
    edits = []
    for document in applied:
        before = present.get(document.key)
        if before is None:
            action = Action.CREATED
        else:
            same = document_to_dict(before) == document_to_dict(document)
            action = Action.UNCHANGED if same else Action.CONFIGURED
        edits.append(Edit(before, document, action))
    edits += [Edit(present[key], None, Action.DELETED) for key in deleted if key in present]
    return tuple(edits)


def store_edits(parts: Parts, unit: Unit, edits: Sequence[Edit], author: Author) -> Revision:
    """Write the edits under a new revision; 0 when there is nothing to write."""
    needed = [edit for edit in edits if edit.needs_storing]
    if not needed:
        return Revision(0)
    now = parts.clock()
    cause, tallies = author.cause or "apply", tally_edits(needed)
    revision = unit.revisions.allocate(cause, author.actor, now, author.comment, tallies)
    roll = _Roll(unit) if any(edit.document.kind is Kind.VM for edit in needed) else None
    for edit in needed:
        _store(parts, unit, edit, author, revision, roll)
    return revision


class _Roll:
    """Who is a living VM, within one transaction."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._last = unit.numbers.last(NumberSpace.VM)

    def find(self, document: Document) -> VmRecord | None:
        return self._unit.vms.named(document.tenant, document.name)

    def enter(self, vm: VmId, document: Document, at: float) -> VmRecord:
        """Give a VM its number, which no other ever had."""
        self._last += 1
        self._unit.numbers.add(NumberSpace.VM, {vm: self._last})
        record = VmRecord(vm, VmNumber(self._last), document.tenant, document.name, at)
        self._unit.vms.put(record)
        return record

    def strike(self, record: VmRecord, at: float) -> None:
        """Let a VM be no more."""
        self._unit.vms.put(msgspec.structs.replace(record, deleted_at=at))


def tally_edits(edits: Sequence[Edit]) -> tuple[Tally, ...]:
    """Sum up what a revision changes, as long lists are told: each kind and action once, with the first names."""
    names: dict[tuple[str, str], list[str]] = {}
    for edit in edits:
        document = edit.document
        title = document.name if document.tenant == DEFAULT_TENANT else f"{document.tenant}/{document.name}"
        names.setdefault((document.kind.value, edit.action.value), []).append(title)
    return tuple(Tally(*which, len(titles), tuple(sorted(titles)[:_NAMED])) for which, titles in sorted(names.items()))


def _store(parts: Parts, unit: Unit, edit: Edit, author: Author, revision: Revision, roll: _Roll | None) -> None:
    now, key = parts.clock(), key_of(edit.document)
    if edit.after is None:
        unit.documents.delete(key, now, revision)
    else:
        after = edit.after
        unit.documents.put(StoredDocument(key, content_of(after), revision, after.file, after.line, now), now)
    vm = ""
    if roll is not None and edit.document.kind is Kind.VM:
        vm = _store_vm(parts, unit, edit, roll)
    elif edit.document.kind is Kind.NETWORK and edit.after is not None:
        _number_zone(unit, edit.after)
    elif edit.document.kind is Kind.NETWORK:
        forget_network(parts, unit, edit.document.name, edit.document.tenant)
    if edit.action is not Action.UNCHANGED:
        parts.record(unit, _event(edit, author, revision, now, vm))


def _store_vm(parts: Parts, unit: Unit, edit: Edit, roll: _Roll) -> VmId:
    document, now = edit.document, parts.clock()
    record = roll.find(document)
    if record is None:
        if edit.after is None:
            raise StoreFailed(f"{document.key} has no VM")
        record = roll.enter(VmId(parts.new_id()), document, now)
    if edit.after is None:
        unit.vms.set_attributes(record.id, {}, now)
        roll.strike(record, now)
    else:
        blank = {"uuid": "", "macs": "", "labels": "", "mode": ""}
        if attributes_now(unit, record.id).get("uuid") != attributes_of(edit.after)["uuid"]:
            blank[PASSPORT] = ""  # another domain carries none yet
        merge_attributes(unit, record.id, blank | attributes_of(edit.after), now)
    return record.id


def _number_zone(unit: Unit, network: Document) -> None:
    zones = unit.numbers.table(NumberSpace.ZONE)
    if zone_name(network) not in zones:
        unit.numbers.add(NumberSpace.ZONE, {zone_name(network): max(zones.values(), default=0) + 1})


def _event(edit: Edit, author: Author, revision: Revision, at: float, vm: str) -> Event:
    document = edit.document
    detail: dict[str, Any] = {
        "kind": document.kind.value,
        "name": document.name,
        "action": edit.action.value,
        "revision": revision,
    }
    if edit.after is not None:
        detail["digest"] = digest_of(canonical_bytes(document_to_dict(edit.after)))
        detail |= {"file": edit.after.file} if edit.after.file else {}
    if author.comment:
        detail["comment"] = author.comment
    if edit.before is not None and edit.after is not None and vm:
        detail |= _relabelled(edit.before.labels, edit.after.labels)
    kind = author.kind if author.kind and vm else _kind(edit)
    return Event(kind, at, vm=vm, tenant=document.tenant, actor=author.actor, cause=author.cause, detail=detail)


def _relabelled(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """Name the labels that differ, as a history tells them."""
    added = {key: value for key, value in after.items() if before.get(key) != value}
    removed = sorted(before.keys() - after.keys())
    return {name: value for name, value in (("set", added), ("removed", removed)) if value}


def _kind(edit: Edit) -> EventKind:
    match edit.document.kind:
        case Kind.NETWORK:
            return EventKind.NETWORK_CHANGED
        case Kind.VM:
            kinds = {Action.CREATED: EventKind.VM_REGISTERED, Action.DELETED: EventKind.VM_DELETED}
            return kinds.get(edit.action, EventKind.VM_CHANGED)
    return EventKind.POLICY_CHANGED


def _origin(document: Document | None) -> object:
    return origin_to_dict(document) if document is not None else None
