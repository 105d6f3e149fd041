"""The contract of ports.store, on every driver."""

from __future__ import annotations

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from buckler.drivers.store.database import Database, open_database
from buckler.drivers.store.tables import METADATA
from buckler.ledger.entry import entry_of, leaf_of
from buckler.ledger.tree import Edge, cover, fold, grown
from buckler.model.agentapi import (
    Acknowledgement,
    Counter,
    Observation,
    Task,
    TaskKind,
    TaskState,
)
from buckler.model.event import Event, EventKind
from buckler.model.flow import FlowRecord
from buckler.model.ids import Digest, HostId, Revision, VmId, VmNumber
from buckler.model.pool import Host, HostState
from buckler.model.sample import Sample, Totals
from buckler.ports.journal import FlowQuery, SampleIntake
from buckler.ports.ledger import Witnessed
from buckler.ports.publication import PublishedManifest
from buckler.ports.records import DocumentKey, NumberSpace, StoredDocument, VmRecord
from buckler.ports.roster import HostRecord, JoinTokenRecord, KeyRecord, TaskRecord
from buckler.ports.store import StoreFailed, Unit

A = HostId("host-a")
DOCUMENT = StoredDocument(DocumentKey("VM", "default", "web"), '{"a":1}', 1, "shop.yaml", 7, 10.0)


def flow(number: int, verdict: str = "deny", direction: str = "egress") -> FlowRecord:
    return FlowRecord(number, "a", "web", "db", direction, verdict, "policy", "TCP", "10.0.0.1", "10.0.0.2", 1, number)


def append(unit: Unit, event: Event, salt: bytes = b"s" * 32) -> None:
    entry = entry_of(event, unit.ledger.edge().size + 1)
    unit.ledger.append(entry, leaf_of(entry, salt))


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


def test_the_ledger_takes_only_what_follows(store: Database) -> None:
    first = Event(kind=EventKind.VM_REGISTERED, at=1.0, vm="v1")
    entry = entry_of(first, 1)
    leaf = leaf_of(entry, b"s" * 32)
    with store.write() as unit:
        unit.ledger.append(entry, leaf)
        assert unit.ledger.is_unsealed()
        unit.ledger.seal("note")
    with pytest.raises(StoreFailed), store.write() as unit:
        unit.ledger.append(entry, leaf)
    with store.write() as unit:
        append(unit, Event(kind=EventKind.VM_DELETED, at=2.0, vm="v2", host="h"))
    with store.read() as unit:
        assert unit.ledger.checkpoint() == "note"
        assert [(each.sequence, each.leaf == leaf) for each in unit.ledger.leaves()] == [(1, True), (2, False)]
        assert [each.sequence for each in unit.ledger.leaves(after=1)] == [2]
        assert [each.leaf for each in unit.ledger.of_vm("v1")] == [leaf]
        assert [each.sequence for each in unit.ledger.of_hosts(["h", "x"], ["vm.deleted"])] == [2]
        assert unit.ledger.of_hosts(["h"], ["vm.registered"]) == ()


def test_every_complete_node_of_the_tree_is_kept(store: Database) -> None:
    for size in (1, 5, 13, 37):
        with store.write() as unit:
            while unit.ledger.edge().size < size:
                append(unit, Event(kind=EventKind.GAP, at=float(unit.ledger.edge().size)))
        with store.read() as unit:
            root = unit.ledger.edge().root
            nodes = unit.ledger.nodes(cover(0, size))
            assert fold([nodes[node] for node in cover(0, size)]) == root
    with store.read() as unit:
        leaves = {(0, number) for number in range(40)}
        assert len(unit.ledger.nodes(leaves)) == 37


def test_an_append_that_is_rolled_back_leaves_the_tree_as_it_was(store: Database) -> None:
    with store.write() as unit:
        append(unit, Event(kind=EventKind.GAP, at=1.0))
    with store.read() as unit:
        before = unit.ledger.edge()

    def write_half() -> None:
        with store.write() as unit:
            for _ in range(6):
                append(unit, Event(kind=EventKind.GAP, at=2.0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    with store.write() as unit:
        assert unit.ledger.edge() == before
        append(unit, Event(kind=EventKind.GAP, at=3.0))


def test_each_hosts_newest_cosigned_checkpoint_is_kept(store: Database) -> None:
    with store.write() as unit:
        unit.ledger.put_witnessed(Witnessed(A, 3, "three", 1.0))
        unit.ledger.put_witnessed(Witnessed(A, 4, "four", 2.0))
    with store.read() as unit:
        assert unit.ledger.witnessed() == (Witnessed(A, 4, "four", 2.0),)


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


def test_counters_told_twice_count_once_and_epochs_add_up(store: Database) -> None:
    first, second = HostId("h1"), HostId("h2")
    ends = {"local": "web", "peer": "db", "direction": "egress", "verdict": "allow", "policy": "p", "rule": "r"}

    def tell(host: HostId, key: str, epoch: int, packets: int, **more: str) -> None:
        with store.write() as unit:
            unit.counters.put(host, [Counter(key, epoch, packets, packets * 10, **{**ends, **more})], 1.0)

    for packets in (5, 9, 9, 7):  # the last is an old one that arrives late
        tell(first, "1/2", 100, packets)
    tell(first, "1/2", 200, 3)
    tell(first, "1/2", 100, 50)  # an epoch that is over says nothing any more
    tell(second, "1/2", 150, 4, rule="r\0")
    tell(second, "shed", 1, 6, local="", peer="", direction="", verdict="shed", policy="", rule="")
    with store.read() as unit:
        assert (unit.counters.count(first), unit.counters.count(second)) == (1, 2)
        totals = unit.counters.totals()
    assert [(total.local, total.verdict, total.packets, total.bytes, total.hosts) for total in totals] == [
        ("", "shed", 6, 60, ("h2",)),
        ("web", "allow", 16, 160, ("h1", "h2")),
    ]


def test_flows_are_a_ring(store: Database) -> None:
    with store.write() as unit:
        unit.flows.put(A, [flow(number) for number in range(80)], shed=3)
    with store.read() as unit:
        newest = unit.flows.find(FlowQuery(limit=100))
        assert [item.flow.destination_port for item in newest] == list(range(30, 80))
        assert [item.flow.destination_port for item in unit.flows.find(FlowQuery(limit=2))] == [78, 79]
        after = unit.flows.find(FlowQuery(after=newest[0].cursor, limit=2))
        assert [item.flow.destination_port for item in after] == [31, 32]
    with store.write() as unit:
        unit.flows.put(A, [flow(100, "allow", "ingress")], shed=4)
    with store.read() as unit:
        found = unit.flows.find(FlowQuery(origin="db", to="web"))
        assert [(item.flow.verdict, item.shed) for item in found] == [("allow", 4)]
        assert unit.flows.find(FlowQuery(verdict="allow", origin="web")) == ()


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


def test_a_batch_of_flows_that_comes_twice_is_told_once(store: Database) -> None:
    for name in ("x/0", "x/0", "x/1", "", ""):
        with store.write() as unit:
            unit.flows.put(A, [flow(1)], shed=2, batch=name)
    with store.read() as unit:
        assert len(unit.flows.find(FlowQuery())) == 4


def test_a_loud_host_forgets_its_own_flows_and_not_the_others(store: Database) -> None:
    quiet, loud = HostId("quiet"), HostId("loud")
    with store.write() as unit:
        unit.flows.put(quiet, [flow(number) for number in range(10)], shed=0)
    for start in range(1000, 2000, 100):
        with store.write() as unit:
            unit.flows.put(loud, [flow(number) for number in range(start, start + 100)], shed=0)
    with store.read() as unit:
        kept = [item.flow.destination_port for item in unit.flows.find(FlowQuery(limit=1000))]
    assert kept == [*range(10), *range(1960, 2000)]


def sample(vm: str, sequence: int, packets: int, at: float = 0.0) -> Sample:
    return Sample(VmId(vm), at or float(sequence), 1024, Totals(sent_packets=packets, cpu_ns=2**62), sequence)


def test_samples_told_twice_are_stored_once_and_missing_numbers_are_counted(store: Database) -> None:
    first, second = [sample("v", 1, 10), sample("v", 2, 20)], [sample("v", 2, 99), sample("v", 5, 50)]
    for batch in (first, first, second, second):
        with store.write() as unit:
            through = unit.samples.put(A, batch, [each.sequence for each in batch])
    with store.write() as unit:
        assert unit.samples.put(A, [], [6]) == 6  # of a VM that nobody knows: heard, not kept
    assert through == 5
    with store.read() as unit:
        assert unit.samples.intakes() == {A: SampleIntake(through=6, shed=2)}
        found = unit.samples.of_vm(VmId("v"), 0, 1e12, 100)
        assert [(each.sample.sequence, each.sample.totals.sent_packets) for each in found.samples] == [
            (1, 10),
            (2, 20),
            (5, 50),
        ]
        assert found.before == ()
        newest = unit.samples.of_vm(VmId("v"), 2.0, 1e12, 1)
        assert [each.sample.sequence for each in (*newest.before, *newest.samples)] == [2, 5]


def test_samples_are_a_ring_for_each_host_that_forgets_no_vms_last_word(store: Database) -> None:
    other = HostId("other")
    with store.write() as unit:
        unit.samples.put(other, [sample("v", 1, 7)], [1])
        unit.samples.put(A, [sample("gone", 1, 3)], [1])
    for number in range(2, 200):
        with store.write() as unit:
            unit.samples.put(A, [sample("v", number, number)], [number])
    with store.read() as unit:
        kept = unit.samples.of_vm(VmId("v"), 0, 1e12, 1000)
        assert [each.sample.totals.sent_packets for each in kept.samples if each.host == other] == [7]
        mine = [each.sample.sequence for each in kept.samples if each.host == A]
        assert mine == list(range(mine[0], 200))
        assert 30 <= len(mine) <= 35
        assert len(unit.samples.of_vm(VmId("gone"), 0, 1e12, 10).samples) == 1


def test_flows_that_passed_only_because_a_vm_is_observed_can_be_asked_for(store: Database) -> None:
    observed = FlowRecord(1, "a", "web", "db", "egress", "allow", "observed", "TCP", "10.0.0.1", "10.0.0.2", 1, 7)
    with store.write() as unit:
        unit.flows.put(A, [flow(1, "deny"), flow(2, "allow"), observed], shed=0)
    with store.read() as unit:
        ports = {
            verdict: [item.flow.destination_port for item in unit.flows.find(FlowQuery(verdict=verdict))]
            for verdict in ("", "allow", "deny", "observed")
        }
    assert ports == {"": [1, 2, 7], "allow": [2, 7], "deny": [1], "observed": [7]}


def test_counters_say_when_they_last_rose(store: Database) -> None:
    ends = {"local": "web", "peer": "db", "direction": "egress", "verdict": "allow", "policy": "p", "rule": "r"}

    def tell(host: str, epoch: int, packets: int, at: float) -> float:
        with store.write() as unit:
            unit.counters.put(HostId(host), [Counter("k", epoch, packets, 0, **ends)], at)
        with store.read() as unit:
            (total,) = unit.counters.totals()
        return total.changed

    assert tell("h1", 1, 0, 10.0) == 0  # a count that never rose
    assert tell("h1", 1, 5, 20.0) == 20
    assert tell("h1", 1, 5, 30.0) == 20
    assert tell("h1", 2, 0, 40.0) == 20  # it begins anew after a restart, and nothing came yet
    assert tell("h1", 2, 1, 50.0) == 50
    assert tell("h2", 1, 3, 45.0) == 50
    assert tell("h1", 1, 9, 60.0) == 50  # what is over says nothing any more
