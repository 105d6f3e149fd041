"""The key signs what its holder wrote, and nothing that somebody else put into the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from buckler.ledger.checkpoint import Checkpoint, sign_checkpoint
from buckler.ledger.entry import Leaf
from buckler.ledger.tree import Edge, grown
from buckler.ledger.verify import verify_ledger
from buckler.ports.store import StoreFailed
from tests.ledgerkit import ORIGIN, STRANGER, TRUST, Book, book, event


def plant_tree(connection: Connection) -> Edge:
    """Whoever writes to the store can make a tree that fits what stands there now."""
    edge = Edge()
    connection.execute(text("DELETE FROM ledger_nodes"))
    for entry, salt in connection.execute(text("SELECT entry, salt FROM ledger ORDER BY sequence")).all():
        edge, nodes = grown(edge, Leaf(entry, bytes(salt)).hash)
        for (level, number), found in nodes:
            row = {"level": level, "number": number, "hash": found}
            connection.execute(text("INSERT INTO ledger_nodes VALUES (:level, :number, :hash)"), row)
    return edge


def alter(connection: Connection) -> None:
    connection.execute(text("UPDATE ledger SET entry = replace(entry, 'text', 'texX') WHERE sequence = 4"))
    plant_tree(connection)


def cut(connection: Connection) -> None:
    connection.execute(text("DELETE FROM ledger WHERE sequence > 6"))
    plant_tree(connection)


def cut_all(connection: Connection) -> None:
    connection.execute(text("DELETE FROM ledger"))
    plant_tree(connection)


def sign_as_stranger(connection: Connection) -> None:
    alter(connection)
    edge = plant_tree(connection)
    note = sign_checkpoint(Checkpoint(edge.size, edge.root), ORIGIN, STRANGER)
    connection.execute(text("UPDATE ledger_checkpoint SET note = :note"), {"note": note})


def forget_checkpoint(connection: Connection) -> None:
    alter(connection)
    connection.execute(text("DELETE FROM ledger_checkpoint"))


def harmed(harm: Callable[[Connection], None]) -> Book:
    made = book(9)
    with made.store.write() as unit:
        harm(unit.ledger._connection)
    return made


@pytest.mark.parametrize("harm", [alter, cut, cut_all, sign_as_stranger, forget_checkpoint])
def test_nothing_is_signed_over_what_somebody_else_wrote(harm: Callable[[Connection], None]):
    made = harmed(harm)
    before = made.lines()
    with pytest.raises(StoreFailed, match="not as its checkpoint says"):
        made.add(event(10))
    assert made.lines() == before
    assert not verify_ledger(made.lines(), made.header().checkpoint, TRUST).is_intact


def test_what_was_found_at_the_start_is_recorded_and_from_then_on_kept():
    made = harmed(alter)
    with made.store.begin() as unit:
        made.append(unit, event(10))
    made.add(event(11))
    assert len(made.lines()) == 11


def test_another_controllers_checkpoint_by_the_same_key_is_gone_on_from():
    made = book(3)
    other = Book()
    other.store._store = made.store._store
    other.add(event(4))
    made.add(event(5))
    assert verify_ledger(made.lines(), made.header().checkpoint, TRUST).is_intact
