"""The contract of ports.store, on every driver: documents, numbers, hosts and what they are told."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from buckler.drivers.store.database import Database, open_database
from buckler.drivers.store.tables import METADATA
from buckler.ledger.tree import Edge, grown
from buckler.model.agentapi import (
    Acknowledgement,
    Observation,
    Task,
    TaskKind,
    TaskState,
)
from buckler.model.event import Event, EventKind
from buckler.model.ids import Digest, HostId, Revision, VmId, VmNumber
from buckler.model.pool import Host, HostState
from buckler.ports.publication import PublishedManifest
from buckler.ports.records import DocumentKey, NumberSpace, StoredDocument, VmRecord
from buckler.ports.roster import HostRecord, JoinTokenRecord, KeyRecord, TaskRecord
from buckler.ports.store import StoreFailed
from tests.contract.store.leaves import append

A = HostId("host-a")

DOCUMENT = StoredDocument(DocumentKey("VM", "default", "web"), '{"a":1}', 1, "shop.yaml", 7, 10.0)


def test_migrations_make_exactly_the_tables(store: Database) -> None:
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_document_is_replaced_and_its_past_is_kept(store: Database) -> None:
    newer = StoredDocument(DOCUMENT.key, '{"a":2}', 2, "shop.yaml", 8, 20.0)
    with store.write() as unit:
        unit.documents.put(DOCUMENT, 10.0)
    with store.write() as unit:
        unit.documents.put(newer, 20.0)
    with store.read() as unit:
        assert unit.documents.all() == (newer,)
        assert unit.documents.get(DOCUMENT.key) == newer
        assert unit.documents.at(15.0) == (DOCUMENT,)
        assert unit.documents.at(20.0) == (newer,)
        assert unit.documents.at(5.0) == ()
    with store.write() as unit:
        unit.documents.delete(DOCUMENT.key, 30.0, 3)
    with store.read() as unit:
        assert unit.documents.get(DOCUMENT.key) is None
        assert unit.documents.at(25.0) == (newer,)
        told = [unit.documents.of(revision) for revision in range(5)]
    assert told == [(), (DOCUMENT,), (newer,), (), ()]


def test_what_raises_leaves_nothing(store: Database) -> None:
    def write_half() -> None:
        with store.write() as unit:
            unit.documents.put(DOCUMENT, 10.0)
            unit.revisions.allocate("apply", "uid:0", 1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    with store.read() as unit:
        assert unit.documents.all() == ()
        assert unit.revisions.current() == 0


def test_reading_writes_nothing(store: Database) -> None:
    with store.read() as unit:
        unit.revisions.set_rollout("x")
    with store.read() as unit:
        assert unit.revisions.rollout() == ""


def test_revisions_are_allocated_one_after_another_by_many_writers(store: Database) -> None:
    seen: list[int] = []

    def write() -> None:
        for _ in range(5):
            with store.write() as unit:
                seen.append(unit.revisions.allocate("apply", "uid:0", 1.0))
                append(unit, Event(kind=EventKind.POLICY_CHANGED, at=1.0))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == list(range(1, 21))
    with store.read() as unit:
        edge = Edge()
        for stored in unit.ledger.leaves():
            assert stored.hash == stored.leaf.hash
            edge, _ = grown(edge, stored.hash)
        assert edge == unit.ledger.edge()
        assert edge.size == 20


def test_a_number_is_never_given_twice(store: Database) -> None:
    with store.write() as unit:
        unit.numbers.add(NumberSpace.ZONE, {"front": 1})
        unit.numbers.add(NumberSpace.RULE, {"front": 1})
    for taken in ({"front": 2}, {"back": 1}):
        with pytest.raises(StoreFailed), store.write() as unit:
            unit.numbers.add(NumberSpace.ZONE, taken)
    with store.read() as unit:
        assert unit.numbers.table(NumberSpace.ZONE) == {"front": 1}


def test_vm_attributes_keep_their_validity(store: Database) -> None:
    vm = VmId("v1")
    with store.write() as unit:
        unit.vms.put(VmRecord(vm, VmNumber(1), "default", "web", 1.0))
        unit.vms.set_attributes(vm, {"uuid": "u", "host": "a"}, 1.0)
        unit.vms.set_attributes(vm, {"uuid": "u", "host": "b"}, 2.0)
    with store.read() as unit:
        found = [(item.name, item.value, item.valid_from, item.valid_to) for item in unit.vms.attributes(vm)]
        assert unit.vms.attributes_now() == {vm: {"uuid": "u", "host": "b"}}
    assert found == [("host", "a", 1.0, 2.0), ("uuid", "u", 1.0, 0), ("host", "b", 2.0, 0)]


def test_a_deleted_vm_frees_its_name_but_not_its_number(store: Database) -> None:
    old = VmRecord(VmId("v1"), VmNumber(1), "default", "web", 1.0, 2.0)
    with store.write() as unit:
        unit.vms.put(old)
        unit.vms.put(VmRecord(VmId("v2"), VmNumber(2), "default", "web", 3.0))
    with store.read() as unit:
        assert [vm.id for vm in unit.vms.all()] == ["v2"]
        assert [vm.id for vm in unit.vms.ever()] == ["v1", "v2"]
    with pytest.raises(StoreFailed), store.write() as unit:
        unit.vms.put(VmRecord(VmId("v3"), VmNumber(1), "default", "other", 3.0))


def test_hosts_tokens_nonces_and_keys(store: Database) -> None:
    record = HostRecord(Host(A, "a", "key", "192.0.2.1", ("192.0.2.1",), "qemu+tcp://a/system"), 1.0)
    token = JoinTokenRecord("t1", "digest", "a", 5.0, "uid:0")
    with store.write() as unit:
        unit.hosts.put(record)
        unit.hosts.seen(A, 7.0)
        unit.join_tokens.put(token)
        assert unit.nonces.use("n", 9.0, 1.0)
        assert not unit.nonces.use("n", 9.0, 1.0)
        unit.keys.add(KeyRecord(1, "statement", 1.0))
    with store.read() as unit:
        found = unit.hosts.get(A)
        assert found is not None
        assert (found.host, found.seen_at) == (record.host, 7.0)
        assert unit.join_tokens.get("t1") == token
        assert unit.join_tokens.get("t2") is None
        assert unit.keys.issuers() == (KeyRecord(1, "statement", 1.0),)


def test_a_revoked_host_frees_its_name(store: Database) -> None:
    revoked = Host(A, "a", "key", "192.0.2.1", state=HostState.REVOKED)
    with store.write() as unit:
        unit.hosts.put(HostRecord(revoked, 1.0))
        unit.hosts.put(HostRecord(Host(HostId("b"), "a", "key", "192.0.2.1"), 2.0))
    with pytest.raises(StoreFailed), store.write() as unit:
        unit.hosts.put(HostRecord(Host(HostId("c"), "a", "key", "192.0.2.1"), 3.0))


def test_tasks_stay_open_until_they_end_or_expire(store: Database) -> None:
    task = Task("t1", A, TaskKind.MIGRATE, VmId("v1"), HostId("b"), "qemu+tcp://b/system", 100.0)
    with store.write() as unit:
        unit.tasks.put(TaskRecord(task, "jws", 1.0, 1.0, "uid:0"))
    with store.read() as unit:
        assert [open_.task.id for open_ in unit.tasks.open_for(A, 50.0)] == ["t1"]
        assert unit.tasks.open_for(A, 100.0) == ()
        assert unit.tasks.open_for(HostId("b"), 50.0) == ()
    with store.write() as unit:
        unit.tasks.put(TaskRecord(task, "jws", 1.0, 2.0, "uid:0", state=TaskState.DONE))
    with store.read() as unit:
        assert unit.tasks.open_for(A, 50.0) == ()
        assert [record.state for record in unit.tasks.all()] == [TaskState.DONE]


def test_manifests_objects_acks_observations_and_intake(store: Database) -> None:
    digest, other = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
    newer = PublishedManifest(A, Revision(2), "open", "jws2", 2.0)
    with store.write() as unit:
        unit.manifests.put(PublishedManifest(A, Revision(1), "close", "jws1", 1.0))
        unit.manifests.put(newer)
        unit.objects.put({digest: b"{}"})
        unit.objects.put({digest: b"{}", other: '{"a":"ä"}'.encode()})
        unit.objects.put({})
        unit.acks.put(A, Acknowledgement(Revision(1), 1.0))
        unit.acks.put(A, Acknowledgement(Revision(2), 2.0, ("late",)))
        unit.observations.put(A, Observation(1.0, Revision(1), ()))
        unit.intakes.advance(A, 5)
        unit.intakes.advance(A, 9)
    with store.read() as unit:
        assert unit.manifests.latest(A) == newer
        assert unit.objects.get([digest, other, Digest("x")]) == {digest: b"{}", other: '{"a":"ä"}'.encode()}
        assert unit.acks.all() == {A: Acknowledgement(Revision(2), 2.0, ("late",))}
        assert unit.observations.all() == {A: Observation(1.0, Revision(1), ())}
        assert unit.intakes.through(A) == 9
        assert unit.intakes.through(HostId("b")) == 0


def test_what_is_committed_survives_reopening_but_in_memory(store_url: str) -> None:
    first = open_database(store_url)
    with first.write() as unit:
        unit.documents.put(DOCUMENT, 1.0)
    first.close()
    second = open_database(store_url)
    with second.read() as unit:
        kept = [] if store_url == "sqlite://" else [DOCUMENT.content]
        assert [document.content for document in unit.documents.all()] == kept
    second.close()


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(StoreFailed, match="mysql"):
        open_database("mysql://x/y")
