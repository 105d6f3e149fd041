"""One database as the Store port: connections, transactions, migration. The books are in the modules beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from buckler.drivers.store.counters import CounterRows
from buckler.drivers.store.journal import FlowRows, IntakeRows, ObservationRows
from buckler.drivers.store.ledger import LedgerRows
from buckler.drivers.store.naming import NameRows
from buckler.drivers.store.publication import AckRows, ChangeRows, ManifestRows, ObjectRows, RevisionRows
from buckler.drivers.store.records import DocumentRows, NumberRows, VmRows
from buckler.drivers.store.roster import HostRows, JoinTokenRows, KeyRows, NonceRows, TaskRows
from buckler.drivers.store.samples import SampleRows
from buckler.drivers.store.tables import POOL
from buckler.ports.store import StoreFailed, Unit

_WRITE = "buckler_write"
_FLOW_RING = 100_000
_SAMPLE_RING = 200_000
"""Of each host: three days of eight VMs at the default period."""


class BookSet:
    """ports.store.Unit over one connection."""

    def __init__(self, connection: Connection, flow_ring: int, sample_ring: int) -> None:
        self.documents = DocumentRows(connection)
        self.vms = VmRows(connection)
        self.numbers = NumberRows(connection)
        self.hosts = HostRows(connection)
        self.join_tokens = JoinTokenRows(connection)
        self.nonces = NonceRows(connection)
        self.keys = KeyRows(connection)
        self.tasks = TaskRows(connection)
        self.revisions = RevisionRows(connection)
        self.manifests = ManifestRows(connection)
        self.objects = ObjectRows(connection)
        self.changes = ChangeRows(connection)
        self.acks = AckRows(connection)
        self.observations = ObservationRows(connection)
        self.intakes = IntakeRows(connection)
        self.flows = FlowRows(connection, flow_ring)
        self.counters = CounterRows(connection)
        self.samples = SampleRows(connection, sample_ring)
        self.names = NameRows(connection)
        self.ledger = LedgerRows(connection)


class Database:
    """ports.store.Store. SQLite in memory has one connection, so there readers and writers take turns."""

    def __init__(self, engine: Engine, *, flow_ring: int = _FLOW_RING, sample_ring: int = _SAMPLE_RING) -> None:
        self._engine = engine
        self._flow_ring = flow_ring
        self._sample_ring = sample_ring
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._turn: Any = threading.RLock() if isinstance(engine.pool, StaticPool) else nullcontext()
        # SQLite has who finds it locked sleep, in steps up to 100 ms: the writers of one process queue here instead.
        self._writing: Any = threading.RLock() if self._is_sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """See ports.store.Store."""
        options: dict[str, Any] = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._turn, _translated(), self._engine.connect() as fresh:
            connection = fresh.execution_options(**options)
            with connection.begin() as transaction:
                yield BookSet(connection, self._flow_ring, self._sample_ring)
                transaction.rollback()

    @contextmanager
    def write(self) -> Iterator[Unit]:
        """See ports.store.Store."""
        with self._turn, self._writing, _translated(), self._engine.connect() as fresh:
            connection = fresh.execution_options(**{_WRITE: True})
            with connection.begin():
                connection.execute(select(POOL.c.id).where(POOL.c.id == 1).with_for_update())
                yield BookSet(connection, self._flow_ring, self._sample_ring)

    def close(self) -> None:
        """See ports.store.Store."""
        self._engine.dispose()


def open_database(url: str, *, flow_ring: int = _FLOW_RING, sample_ring: int = _SAMPLE_RING) -> Database:
    """Connect to ``url`` and bring its tables up to date. Raises StoreFailed."""
    with _translated():
        engine = _engine(url)
        migrate(engine)
    return Database(engine, flow_ring=flow_ring, sample_ring=sample_ring)


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction."""
    config = Config()
    config.set_main_option("script_location", "buckler.drivers.store:migrations")
    with engine.connect().execution_options(**{_WRITE: True}) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    target = make_url(url)
    if target.get_backend_name() == "postgresql":
        return create_engine(
            target.set(drivername="postgresql+psycopg"), pool_size=10, max_overflow=10, pool_pre_ping=True
        )
    if target.get_backend_name() != "sqlite":
        raise StoreFailed(f"{target.get_backend_name()} is no store: use sqlite or postgresql")
    if target.database in {None, "", ":memory:"}:
        engine = create_engine(target, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(target, connect_args={"timeout": 30})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling is switched off: it would begin late and deferred.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    kind = "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN"
    connection.exec_driver_sql(kind)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlalchemy.exc.DBAPIError) as error:
        raise StoreFailed(str(error).split("\n", 1)[0]) from error
