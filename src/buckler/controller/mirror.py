"""What the store holds of the pool, kept in memory: only rows that were written since are read again. Never the truth.

The store is: what is kept here is what a transaction read, and is thrown away (``forget``) when that transaction fails, or
when the store does not know any more which rows were written since.
"""

from __future__ import annotations

from buckler.controller.pool_state import (
    Declared,
    Pairs,
    Registered,
    State,
    declared_in,
    document_of,
    load_documents,
    load_learned,
    register,
)
from buckler.controller.sights import Seen, seen_by
from buckler.model.agentapi import Observation
from buckler.model.ids import HostId, VmId
from buckler.model.pool import Host, Vm
from buckler.policy.language import Document, Kind
from buckler.policy.learned import Learned, learned_groups
from buckler.policy.pool import Pool
from buckler.ports.publication import Change, Written
from buckler.ports.records import DocumentKey, StoredDocument, VmRecord
from buckler.ports.store import Unit

_KEPT = 20_000
"""Notes of written rows that the store keeps: whoever lags further behind reads everything."""


class Mirror:
    """One reader's. ``look`` inside a transaction gives its snapshot."""

    def __init__(self) -> None:
        self._through = -1
        self._documents: dict[str, tuple[StoredDocument, Document]] = {}
        self._records: dict[VmId, VmRecord] = {}
        self._by_name: dict[tuple[str, str], VmId] = {}
        self._attributes: dict[VmId, dict[str, str]] = {}
        self._others: dict[str, Document] = {}
        self._registered: dict[VmId, Registered] = {}
        self._values: dict[VmId, Vm] = {}
        self._hosts: dict[HostId, Host] = {}
        self._observations: dict[HostId, Observation] = {}
        self._seen: Seen | None = None
        self._tidied = 0
        self._stored: Pairs | None = None
        self._declared: Declared | None = None
        self._learned: tuple[Learned, ...] = ()
        self._rest: tuple[Document, ...] | None = None
        self._vms: tuple[tuple[Registered, ...], tuple[Vm, ...]] | None = None
        self._members: tuple[Host, ...] | None = None

    def forget(self) -> None:
        """Read everything the next time."""
        self._through = -1

    def look(self, unit: Unit) -> State:
        """Give the pool as it is in this transaction. What did not change since the last time is the same object."""
        found = unit.changes.since(self._through) if self._through >= 0 else None
        if found is None:
            newest = unit.changes.newest()
            self._read_all(unit)
        else:
            newest, changes = found
            if newest < self._through:  # a snapshot of before
                return Mirror().look(unit)
            if changes:
                self._read(unit, frozenset(changes))
        self._through = newest
        return self._state(unit)

    def _state(self, unit: Unit) -> State:
        if self._stored is None:
            self._stored = dict(self._documents)
        if self._declared is None:
            self._declared, self._rest = declared_in(unit, self._others.values()), None
        learned = load_learned(unit)
        if self._rest is None or learned != self._learned:
            groups = learned_groups(self._declared.documents, learned) if learned else ()
            self._learned, self._rest = learned, (*self._declared.documents, *groups)
        if self._vms is None:
            self._vms = tuple(self._registered.values()), tuple(self._values.values())
        if self._members is None:
            self._members = tuple(self._hosts.values())
        declared = self._declared
        pool = Pool(declared.networks, self._vms[1], self._members, declared.outsiders, declared.services)
        return State(self._stored, self._rest, self._vms[0], pool, self._members, self._learned)

    def seen(self) -> Seen:
        """All domains as hosts report them."""
        if self._seen is None:
            self._seen = seen_by(self._hosts, self._observations)
        return self._seen

    def tidy(self, unit: Unit) -> None:
        """Have the store forget old notes."""
        if self._through > max(2 * _KEPT, self._tidied + _KEPT // 10):
            unit.changes.forget(self._through - _KEPT)
            self._tidied = self._through

    def _read_all(self, unit: Unit) -> None:
        self._documents = load_documents(unit)
        self._records = {vm.id: vm for vm in unit.vms.all()}
        self._by_name = {(vm.tenant, vm.name): vm.id for vm in self._records.values()}
        self._attributes = unit.vms.attributes_now()
        self._hosts = {record.host.id: record.host for record in unit.hosts.all()}
        self._observations = unit.observations.all()
        self._seen = self._members = self._vms = self._stored = self._declared = None
        self._others = {key: each for key, (_, each) in self._documents.items() if each.kind is not Kind.VM}
        self._registered, self._values = {}, {}
        for vm in self._records:
            self._register(vm)

    def _read(self, unit: Unit, changes: frozenset[Change]) -> None:
        vms = {VmId(each.name) for each in changes if each.what is Written.VM}
        for change in changes:
            if change.what is Written.DOCUMENT:
                vm = self._read_document(unit, change.name)
                vms |= {vm} if vm else set()
            elif change.what is Written.HOST:
                self._hosts = {record.host.id: record.host for record in unit.hosts.all()}
                self._seen = self._members = None
            elif change.what is Written.OBSERVATION:
                found = unit.observations.get(HostId(change.name))
                if found is not None:
                    self._observations[HostId(change.name)] = found
                self._seen = None
        for vm in vms:
            self._read_vm(unit, vm)
        for vm in vms:
            self._register(vm)

    def _read_document(self, unit: Unit, name: str) -> VmId | None:
        """Returns the VM that it is of, as far as that is known yet."""
        kind, tenant, rest = name.split("/", 2)
        stored = unit.documents.get(DocumentKey(kind, tenant, rest))
        self._stored = None
        if stored is None:
            self._documents.pop(name, None)
            self._others.pop(name, None)
        else:
            self._documents[name] = stored, document_of(stored)
        if kind == Kind.VM.value:
            return self._by_name.get((tenant, rest))
        if stored is not None:
            self._others[name] = self._documents[name][1]
        self._declared = None
        return None

    def _read_vm(self, unit: Unit, vm: VmId) -> None:
        old = self._records.pop(vm, None)
        if old is not None and self._by_name.get((old.tenant, old.name)) == vm:
            del self._by_name[old.tenant, old.name]
        record = unit.vms.get(vm)
        if record is not None and not record.deleted_at:
            self._records[vm] = record
            self._by_name[record.tenant, record.name] = vm
            self._attributes[vm] = {each.name: each.value for each in unit.vms.attributes(vm) if not each.valid_to}
        else:
            self._attributes.pop(vm, None)

    def _register(self, vm: VmId) -> None:
        self._vms = None
        record = self._records.get(vm)
        pair = self._documents.get(f"{Kind.VM.value}/{record.tenant}/{record.name}") if record is not None else None
        if record is None or pair is None:
            self._registered.pop(vm, None)
            self._values.pop(vm, None)
        else:
            self._registered[vm] = each = register(pair[1], record, self._attributes.get(vm, {}))
            self._values[vm] = each.vm
