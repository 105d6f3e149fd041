"""The book of answers for names, on every store."""

from __future__ import annotations

from buckler.drivers.store.database import Database
from buckler.model.ids import VmId
from buckler.ports.naming import NameRecord


def record(address: str = "203.0.113.7", **changes: object) -> NameRecord:
    given = {
        "network": "front",
        "name": "www.example.org",
        "vm": VmId("v"),
        "resolver": "10.0.0.53",
        "at": 5.5,
        "until": 900,
    }
    return NameRecord(address=address, **{**given, **changes})  # type: ignore[arg-type]


def test_answers_are_kept_replaced_and_forgotten(store: Database) -> None:
    with store.write() as unit:
        unit.names.put(record("203.0.113.8"))
        unit.names.put(record())
        unit.names.put(record(network="back", vm=VmId("w")))
    with store.write() as unit:
        unit.names.put(record(until=1800))
    with store.read() as unit:
        assert unit.names.all() == (record(network="back", vm=VmId("w")), record(until=1800), record("203.0.113.8"))
    with store.write() as unit:
        unit.names.drop("front", "www.example.org", "203.0.113.7")
        unit.names.drop("front", "www.example.org", "203.0.113.7")
    with store.read() as unit:
        assert len(unit.names.all()) == 2
