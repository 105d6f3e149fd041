"""What hosts are to be told, and which rows were written: on every driver."""

from __future__ import annotations

import msgspec

from buckler.drivers.store.database import Database
from buckler.model.agentapi import Observation
from buckler.model.ids import Digest, HostId, Revision, VmId, VmNumber
from buckler.model.pool import Host
from buckler.ports.publication import Change, Order, PublishedManifest, Told, Written
from buckler.ports.records import DocumentKey, StoredDocument, VmRecord
from buckler.ports.roster import HostRecord

A, B = HostId("a"), HostId("b")


def told(revision: int) -> Told:
    return Told(Revision(revision), "close", Digest(f"root {revision}"), Digest("rest"), float(revision))


def order(host: HostId, revision: int) -> Order:
    return Order(host, **msgspec.structs.asdict(told(revision)))


def test_an_order_replaces_the_one_before_and_what_was_taken_stays(store: Database) -> None:
    with store.write() as unit:
        unit.manifests.set_orders(told(1), [])
        unit.manifests.set_orders(told(1), [A, B])
        unit.manifests.put(PublishedManifest(A, Revision(1), "close", "signed", 1.0))
        unit.manifests.set_orders(told(2), [A])
    with store.read() as unit:
        taken = msgspec.structs.replace(order(A, 2), taken=Revision(1))
        assert unit.manifests.orders() == {A: taken, B: order(B, 1)}
        assert (unit.manifests.order(A), unit.manifests.order(HostId("c"))) == (taken, None)
        assert unit.manifests.latest(B) is None, "nobody took it, so nothing was signed"


def test_many_hosts_are_told_the_same_at_once_new_ones_among_them(store: Database) -> None:
    hosts = [HostId(f"h{number:04d}") for number in range(1203)]
    with store.write() as unit:
        unit.manifests.set_orders(told(1), hosts[:700])
        unit.manifests.put(PublishedManifest(hosts[3], Revision(1), "close", "signed", 1.0))
        unit.manifests.set_orders(told(2), hosts[1:])
        unit.manifests.set_orders(told(3), [A])
    with store.read() as unit:
        said = unit.manifests.orders()
        assert said.pop(hosts[3]) == msgspec.structs.replace(order(hosts[3], 2), taken=Revision(1))
        assert said == {hosts[0]: order(hosts[0], 1), A: order(A, 3)} | {
            host: order(host, 2) for host in hosts[1:] if host != hosts[3]
        }


def test_what_streams_took_since_is_asked_for_alone(store: Database) -> None:
    with store.write() as unit:
        unit.manifests.set_orders(told(4), [A])
        unit.manifests.set_orders(told(7), [B])
        for host, revision in ((A, 4), (B, 7)):
            unit.manifests.put(PublishedManifest(host, Revision(revision), "close", "signed", 1.0))
    with store.read() as unit:
        assert unit.manifests.taken(Revision(0)) == {A: 4, B: 7}
        assert unit.manifests.taken(Revision(5)) == unit.manifests.taken(Revision(7)) == {B: 7}
        assert unit.manifests.taken(Revision(8)) == {}


def test_every_row_that_is_written_is_noted_and_old_notes_are_forgotten(store: Database) -> None:
    key = DocumentKey("VM", "default", "web")
    vm = VmRecord(VmId("v"), VmNumber(1), "default", "web", 1.0)
    with store.read() as unit:
        assert (unit.changes.newest(), unit.changes.since(0), unit.changes.since(9)) == (0, (0, ()), (0, ()))
    with store.write() as unit:
        unit.documents.put(StoredDocument(key, "{}", 1), 1.0)
        unit.vms.put(vm)
        unit.vms.set_attributes(vm.id, {"host": "a"}, 1.0)
        unit.hosts.put(HostRecord(Host(A, "hv1", "", "", ()), 1.0))
        unit.observations.put(A, Observation(1.0, Revision(0), ()))
        middle = unit.changes.newest()
        unit.documents.delete(key, 2.0, 2)
    with store.read() as unit:
        last, said = unit.changes.since(0) or (0, ())
        assert last == unit.changes.newest() > middle
        assert set(said) == {
            Change(Written.DOCUMENT, "VM/default/web"),
            Change(Written.VM, "v"),
            Change(Written.HOST, "a"),
            Change(Written.OBSERVATION, "a"),
        }
        assert unit.changes.since(middle) == (last, (Change(Written.DOCUMENT, "VM/default/web"),))
    with store.write() as unit:
        unit.changes.forget(middle)
    with store.read() as unit:
        assert unit.changes.since(middle - 1) is None, "what was forgotten is not taken for nothing"
        assert unit.changes.since(middle) == (last, (Change(Written.DOCUMENT, "VM/default/web"),))
        assert unit.changes.newest() == last
    with store.write() as unit:
        unit.changes.forget(last)
    with store.read() as unit:
        assert unit.changes.newest() == last
        assert unit.changes.since(0) is None
