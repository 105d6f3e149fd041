"""The books of documents, VMs and numbers as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, literal_column, select, update

from buckler.drivers.store.rows import insert_rows, note_change, put_row
from buckler.drivers.store.tables import DOCUMENTS, NUMBERS, VM_ATTRIBUTES, VMS
from buckler.model.ids import VmId, VmNumber
from buckler.ports.publication import Written
from buckler.ports.records import Attribute, DocumentKey, NumberSpace, StoredDocument, VmRecord


class DocumentRows:
    """ports.records.Documents; a row whose ``valid_to`` is 0 is in force."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[StoredDocument, ...]:
        query = select(DOCUMENTS).where(DOCUMENTS.c.valid_to == 0)
        return _documents(self._connection.execute(query).all())

    def get(self, key: DocumentKey) -> StoredDocument | None:
        query = select(DOCUMENTS).where(*_is(key), DOCUMENTS.c.valid_to == 0)
        row = self._connection.execute(query).one_or_none()
        return _document(row) if row is not None else None

    def put(self, document: StoredDocument, at: float) -> None:
        self.delete(document.key, at, document.generation)
        row = {
            "kind": document.key.kind,
            "tenant": document.key.tenant,
            "name": document.key.name,
            "generation": document.generation,
            "content": document.content,
            "file": document.file,
            "line": document.line,
            "valid_from": at,
            "valid_to": 0,
            "ended": 0,
        }
        self._connection.execute(insert(DOCUMENTS).values(**row))

    def delete(self, key: DocumentKey, at: float, revision: int) -> None:
        query = update(DOCUMENTS).where(*_is(key), DOCUMENTS.c.valid_to == 0)
        self._connection.execute(query.values(valid_to=at, ended=revision))
        note_change(self._connection, Written.DOCUMENT, f"{key.kind}/{key.tenant}/{key.name}")

    def at(self, when: float) -> tuple[StoredDocument, ...]:
        ended = (DOCUMENTS.c.valid_to == 0) | (DOCUMENTS.c.valid_to > when)
        return _documents(
            self._connection.execute(select(DOCUMENTS).where(DOCUMENTS.c.valid_from <= when, ended)).all()
        )

    def of(self, revision: int) -> tuple[StoredDocument, ...]:
        lasting = (DOCUMENTS.c.ended == 0) | (DOCUMENTS.c.ended > revision)
        query = select(DOCUMENTS).where(DOCUMENTS.c.generation <= revision, lasting)
        return _documents(self._connection.execute(query).all())


class VmRows:
    """ports.records.Vms."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[VmRecord, ...]:
        return tuple(vm for vm in self.ever() if not vm.deleted_at)

    def ever(self) -> tuple[VmRecord, ...]:
        return tuple(_vm(row) for row in self._connection.execute(select(VMS).order_by(VMS.c.number)))

    def get(self, vm: VmId) -> VmRecord | None:
        row = self._connection.execute(select(VMS).where(VMS.c.id == vm)).one_or_none()
        return _vm(row) if row is not None else None

    def named(self, tenant: str, name: str) -> VmRecord | None:
        alive = (
            VMS.c.tenant == tenant,
            VMS.c.name == name,
            VMS.c.deleted_at == literal_column("0"),
        )  # as the index says it
        row = self._connection.execute(select(VMS).where(*alive)).one_or_none()
        return _vm(row) if row is not None else None

    def put(self, vm: VmRecord) -> None:
        row = {name: getattr(vm, name) for name in vm.__struct_fields__}
        put_row(self._connection, VMS, row)
        note_change(self._connection, Written.VM, vm.id)

    def attributes(self, vm: VmId) -> tuple[Attribute, ...]:
        query = select(VM_ATTRIBUTES).where(VM_ATTRIBUTES.c.vm == vm)
        rows = self._connection.execute(query.order_by(VM_ATTRIBUTES.c.valid_from, VM_ATTRIBUTES.c.name))
        return tuple(Attribute(row.name, row.value, row.valid_from, row.valid_to) for row in rows)

    def attributes_now(self) -> dict[VmId, dict[str, str]]:
        found: dict[VmId, dict[str, str]] = {}
        for row in self._connection.execute(select(VM_ATTRIBUTES).where(VM_ATTRIBUTES.c.valid_to == 0)):
            found.setdefault(VmId(row.vm), {})[row.name] = row.value
        return found

    def set_attributes(self, vm: VmId, values: Mapping[str, str], at: float) -> None:
        current = {item.name: item.value for item in self.attributes(vm) if not item.valid_to}
        for name, value in current.items():
            if values.get(name) != value:
                table = VM_ATTRIBUTES.c
                ended = update(VM_ATTRIBUTES).where(table.vm == vm, table.name == name, table.valid_to == 0)
                self._connection.execute(ended.values(valid_to=at))
        rows = [
            {"vm": vm, "name": name, "value": value, "valid_from": at, "valid_to": 0}
            for name, value in values.items()
            if current.get(name) != value
        ]
        insert_rows(self._connection, VM_ATTRIBUTES, rows)
        note_change(self._connection, Written.VM, vm)


class NumberRows:
    """ports.records.Numbers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def table(self, space: NumberSpace) -> dict[str, int]:
        query = select(NUMBERS.c.name, NUMBERS.c.number).where(NUMBERS.c.space == space.value)
        return {row.name: row.number for row in self._connection.execute(query)}

    def last(self, space: NumberSpace) -> int:
        query = select(func.max(NUMBERS.c.number)).where(NUMBERS.c.space == space.value)
        return int(self._connection.execute(query).scalar() or 0)

    def add(self, space: NumberSpace, numbers: Mapping[str, int]) -> None:
        rows = [{"space": space.value, "name": name, "number": number} for name, number in numbers.items()]
        insert_rows(self._connection, NUMBERS, rows)


def _is(key: DocumentKey) -> tuple[ColumnElement[bool], ...]:
    table = DOCUMENTS.c
    return (table.kind == key.kind, table.tenant == key.tenant, table.name == key.name)


def _documents(rows: Iterable[Row[Any]]) -> tuple[StoredDocument, ...]:
    found = [_document(row) for row in rows]
    return tuple(sorted(found, key=lambda document: document.key))


def _document(row: Row[Any]) -> StoredDocument:
    return StoredDocument(
        key=DocumentKey(row.kind, row.tenant, row.name),
        content=row.content,
        generation=row.generation,
        file=row.file,
        line=row.line,
        valid_from=row.valid_from,
    )


def _vm(row: Row[Any]) -> VmRecord:
    return VmRecord(
        id=VmId(row.id),
        number=VmNumber(row.number),
        tenant=row.tenant,
        name=row.name,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
    )
