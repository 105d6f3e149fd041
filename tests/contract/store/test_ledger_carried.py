"""A chain of the ledger's first form is carried into the tree, and what did not fit the chain is told."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from buckler.drivers.store.database import Database, _engine, open_database
from buckler.ledger.entry import Entry, read_entry
from buckler.ledger.tree import Edge, grown

GENESIS = "sha256:" + "0" * 64


def chain(count: int) -> tuple[list[str], str]:
    """Statements as the first form kept them, and the end that it told people to keep."""
    statements, previous = [], GENESIS
    for number in range(1, count + 1):
        detail = {"size": 2**60, "share": 0.1, "deep": [None, True, {"ä": 1e22}]}
        entry = {"sequence": number, "previous": previous, "kind": "domain.started", "at": 1e9 + number / 3}
        entry |= {"tenant": "t", "actor": "", "cause": "c", "host": "h", "vm": f"v{number % 2}", "origin": number}
        payload = json.dumps(entry | {"detail": detail}, sort_keys=True, ensure_ascii=False).encode()
        previous = "sha256:" + hashlib.sha256(payload).hexdigest()
        statements.append(f"e30.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.sig")
    return statements, f"{count}:{previous}"


def carried(url: str, statements: list[str]) -> Database:
    engine = _engine(url)
    config = Config()
    config.set_main_option("script_location", "buckler.drivers.store:migrations")
    with engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        rows = [{"s": at, "d": "x", "v": "", "t": text} for at, text in enumerate(statements, 1)]
        if rows:
            connection.execute(sqlalchemy.text("INSERT INTO ledger VALUES (:s, :d, :v, :t)"), rows)
        if url == "sqlite://":  # it lives in this one connection
            command.upgrade(config, "head")
    return Database(engine) if url == "sqlite://" else open_database(url)


def entries_of(database: Database) -> list[Entry]:
    with database.read() as unit:
        edge = Edge()
        leaves = unit.ledger.leaves()
        for each in leaves:
            edge, _ = grown(edge, each.leaf.hash)
        assert edge == unit.ledger.edge()
    return [read_entry(each.leaf.text) for each in leaves]


@pytest.fixture
def told() -> list[str]:
    return chain(9)[0]


def test_every_entry_is_carried_and_the_sealing_told(store_url: str, told: list[str]) -> None:
    database = carried(store_url, told)
    entries = entries_of(database)
    assert [entry.sequence for entry in entries] == list(range(1, 11))
    old: dict[str, Any] = json.loads(base64.urlsafe_b64decode(told[3].split(".")[1] + "==="))
    fourth = entries[3]
    assert (fourth.kind, fourth.at, fourth.host, fourth.vm, fourth.origin) == (
        "domain.started",
        old["at"],
        "h",
        "v0",
        4,
    )
    assert fourth.detail == {"size": str(2**60), "share": 0.1, "deep": [None, True, {"ä": 10**22}]}
    assert entries[-1].kind == "ledger.resealed"
    assert entries[-1].detail == {"entries": 9, "end": chain(9)[1], "faults": 0}
    with database.read() as unit:
        assert [each.sequence for each in unit.ledger.of_vm("v1")] == [1, 3, 5, 7, 9]
    database.close()


def test_what_did_not_fit_the_chain_is_named(store_url: str, told: list[str]) -> None:
    told[4] = "e30.!.sig"
    del told[7]
    database = carried(store_url, told)
    entries = entries_of(database)
    assert entries[4].kind == "ledger.unreadable"
    assert entries[4].detail == {"text": "e30.!.sig"}
    # The fifth is none, the sixth follows something else, the eighth is the ninth of old.
    assert entries[-1].detail["faulty"] == [5, 6, 8]
    database.close()


def test_an_empty_chain_leaves_an_empty_ledger(store_url: str) -> None:
    database = carried(store_url, [])
    assert entries_of(database) == []
    database.close()
