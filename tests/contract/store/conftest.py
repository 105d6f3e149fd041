"""Stores to run the contract on: SQLite in a file and in memory, and a private PostgreSQL that is stopped afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.drivers.store.database import Database, open_database
from tests.postgresql import make_database, run_postgresql


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    with run_postgresql() as socket:
        yield socket


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "sqlite://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pool.sqlite"
    return make_database(request.getfixturevalue("postgres_socket"), f"t{abs(hash(str(tmp_path))) % 10**12}")


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    database = open_database(store_url, flow_ring=50, sample_ring=30)
    yield database
    database.close()
