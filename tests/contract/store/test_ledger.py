"""The contract of ports.ledger, on every driver: what follows, every node, and checkpoints of hosts."""

from __future__ import annotations

import pytest

from buckler.drivers.store.database import Database
from buckler.ledger.entry import entry_of, leaf_of
from buckler.ledger.tree import cover, fold
from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId
from buckler.ports.ledger import Witnessed
from buckler.ports.store import StoreFailed
from tests.contract.store.leaves import append

A = HostId("host-a")


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
