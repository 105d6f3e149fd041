"""What taking documents in remembers is the store, whatever snapshot it looks at and whoever failed before."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.controller.changes import Wanted, store_change
from buckler.controller.known import Known
from buckler.controller.pool_state import load_state
from buckler.controller.problems import Refused
from buckler.controller.registry import Author
from buckler.model.operatorapi.documents import SourceFile

from .test_mirror import NETWORK, VM, World, in_order

UUID = "0000000{0}-1111-4111-8111-111111111111"


def vm(number: int, uuid: int, address: str = "10.0.0.7") -> str:
    return VM.format(number=number, role="a", uuid=UUID.format(uuid), network="net", address=address)


def test_an_older_snapshot_is_read_by_itself(tmp_path: Path) -> None:
    world, known = World(tmp_path, 1), Known()
    with world.parts.store.read() as older:
        before = load_state(older)
        world.apply(vm(1, 1))
        with world.parts.store.read() as newer:
            assert len(known.look(newer).registered) == 1
        assert in_order(known.look(older)) == in_order(before)
        with world.parts.store.read() as newer:
            assert in_order(known.look(newer)) == in_order(load_state(newer))
    world.parts.store.close()


def test_a_change_that_fails_after_its_checks_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr("buckler.controller.changes.store_edits", fail_late)
        with pytest.raises(OSError, match="the disk"):
            world.apply(vm(1, 1))
    world.apply(vm(2, 1))  # the uuid and the address are free
    with pytest.raises(Refused) as refused:
        world.apply(vm(3, 2))
    assert "10.0.0.7 is VM vm2's" in str(refused.value.problem)
    with world.parts.store.read() as unit:
        assert in_order(world.parts.known.look(unit)) == in_order(load_state(unit))
    world.parts.store.close()


def fail_late(parts, unit, edits, author):  # type: ignore[no-untyped-def]
    from buckler.controller.registry import store_edits

    store_edits(parts, unit, edits, author)
    raise OSError("the disk")


def test_another_process_on_the_same_store_is_seen(tmp_path: Path) -> None:
    """Two controllers' memories, one store: what one takes in, the other checks against."""
    world = World(tmp_path, 1)
    other = type(world.parts)(world.parts.settings, world.parts.keys, world.parts.store, world.parts.clock)
    for number in range(4):
        for place, parts in enumerate((world.parts, other)):
            text = vm(2 * number + place, 2 * number + place, f"10.0.0.{10 + 2 * number + place}")
            store_change(parts, Wanted(files=(SourceFile("a.yaml", text),)), Author("test"))
            twin = Wanted(files=(SourceFile("a.yaml", vm(99, 2 * number + place, "10.0.0.99")),))
            with pytest.raises(Refused):
                store_change(world.parts if place else other, twin, Author("test"))
    store_change(other, Wanted(files=(SourceFile("a.yaml", NETWORK.format(name="new", place=9)),)), Author("test"))
    for parts in (world.parts, other):
        with parts.store.read() as unit:
            assert in_order(parts.known.look(unit)) == in_order(load_state(unit))
    world.parts.store.close()
