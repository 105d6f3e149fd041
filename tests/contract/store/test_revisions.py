"""Revisions on every store: what each says of itself for ever, which documents it had, and what an older store knows."""

from __future__ import annotations

import sqlalchemy
from alembic import command
from alembic.config import Config

from buckler.drivers.store.database import Database, _engine, open_database
from buckler.model.ids import Revision
from buckler.ports.publication import RevisionRecord, Tally
from buckler.ports.records import DocumentKey, StoredDocument

TALLY = Tally("Policy", "created", 1, ("web",))


def document(name: str, generation: int) -> StoredDocument:
    return StoredDocument(DocumentKey("Policy", "default", name), f'{{"g":{generation}}}', generation, valid_from=1.0)


def test_a_revision_says_for_ever_who_made_it_why_and_what_it_changed(store: Database) -> None:
    with store.write() as unit:
        assert unit.revisions.allocate("apply", "uid:0", 5.0, "the shop opens", [TALLY]) == 1
        unit.revisions.allocate("publish", "controller", 6.0)
        unit.revisions.allocate("delete", "uid:1", 7.0, "", [TALLY])
    with store.read() as unit:
        first = RevisionRecord(Revision(1), "apply", "uid:0", 5.0, "the shop opens", (TALLY,))
        assert unit.revisions.find(Revision(1)) == first
        assert unit.revisions.find(Revision(9)) is None
        assert [each.revision for each in unit.revisions.published(0, 10)] == [3, 1]
        assert unit.revisions.published(3, 10) == (first,)
        assert [each.revision for each in unit.revisions.published(0, 1)] == [3]
        assert unit.revisions.recorded_from() == 0


def test_documents_are_told_by_revision_also_when_the_clock_stands_still(store: Database) -> None:
    for number, name in enumerate(("a", "b", "a"), 1):
        with store.write() as unit:
            unit.documents.put(document(name, number), 1.0)
    with store.write() as unit:
        unit.documents.delete(DocumentKey("Policy", "default", "b"), 1.0, 4)
    with store.read() as unit:
        held = [[(each.key.name, each.generation) for each in unit.documents.of(number)] for number in range(6)]
    assert held == [[], [("a", 1)], [("a", 1), ("b", 2)], [("a", 3), ("b", 2)], [("a", 3)], [("a", 3)]]


def test_an_older_store_claims_nothing_about_what_was_not_recorded(store_url: str) -> None:
    with older(store_url) as store:
        with store.read() as unit:
            assert unit.revisions.recorded_from() == 3
            told = unit.revisions.published(0, 10)
            assert [(each.revision, each.comment, each.changes) for each in told] == [(2, "", None), (1, "", None)]
            assert [each.generation for each in unit.documents.of(3)] == [2]
        with store.write() as unit:
            assert unit.revisions.allocate("apply", "uid:0", 9.0, "new", [TALLY]) == 4
            unit.documents.put(document("a", 4), 9.0)
        with store.read() as unit:
            assert [each.generation for each in unit.documents.of(3)] == [2]
            assert [each.generation for each in unit.documents.of(4)] == [4]
            assert unit.revisions.recorded_from() == 3


class older:  # noqa: N801 - reads as a verb
    """A store as it was before revisions told anything: a document replaced, another deleted, something published."""

    def __init__(self, url: str) -> None:
        engine, config = _engine(url), Config()
        config.set_main_option("script_location", "buckler.drivers.store:migrations")
        with engine.connect() as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "0004")
            text = "INSERT INTO revisions VALUES (1,'apply','u',1.0),(2,'apply','u',2.0),(3,'publish','controller',3.0)"
            connection.execute(sqlalchemy.text(text))
            connection.execute(sqlalchemy.text("UPDATE pool SET revision = 3"))
            row = "INSERT INTO documents VALUES ('Policy','default','a',{},'{{}}','',0,{},{})"
            for values in ((1, 1.0, 2.0), (2, 2.0, 0)):
                connection.execute(sqlalchemy.text(row.format(*values)))
            gone = "INSERT INTO documents VALUES ('Policy','default','gone',1,'{}','',0,1.0,2.0)"
            connection.execute(sqlalchemy.text(gone))
            if url == "sqlite://":  # it lives in this one connection
                command.upgrade(config, "head")
        self._store = Database(engine) if url == "sqlite://" else open_database(url)

    def __enter__(self) -> Database:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()
