"""The books of hosts, join tokens, nonces, keys and tasks as rows."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, Row, delete, select, update

from buckler.drivers.store.rows import add_row, note_change, put_row, text_of, value_of
from buckler.drivers.store.tables import HOSTS, ISSUERS, JOIN_TOKENS, NONCES, TASKS
from buckler.model.agentapi import TaskState
from buckler.model.ids import HostId
from buckler.model.pool import Host, HostState
from buckler.ports.publication import Written
from buckler.ports.roster import HostRecord, JoinTokenRecord, KeyRecord, TaskRecord

_ENDED = frozenset({TaskState.DONE, TaskState.FAILED})


class HostRows:
    """ports.roster.Hosts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[HostRecord, ...]:
        return tuple(_host(row) for row in self._connection.execute(select(HOSTS).order_by(HOSTS.c.name, HOSTS.c.id)))

    def get(self, host: HostId) -> HostRecord | None:
        row = self._connection.execute(select(HOSTS).where(HOSTS.c.id == host)).one_or_none()
        return _host(row) if row is not None else None

    def put(self, record: HostRecord) -> None:
        row = {
            "id": record.host.id,
            "name": record.host.name,
            "content": text_of(record.host),
            "active": int(record.host.state is not HostState.REVOKED),
            "joined_at": record.joined_at,
            "seen_at": record.seen_at,
            "lost_at": record.lost_at,
        }
        put_row(self._connection, HOSTS, row)
        note_change(self._connection, Written.HOST, record.host.id)

    def seen(self, host: HostId, at: float) -> None:
        self._connection.execute(update(HOSTS).where(HOSTS.c.id == host).values(seen_at=at, lost_at=0))


class JoinTokenRows:
    """ports.roster.JoinTokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, token: str) -> JoinTokenRecord | None:
        row = self._connection.execute(select(JOIN_TOKENS).where(JOIN_TOKENS.c.id == token)).one_or_none()
        return JoinTokenRecord(**row._mapping) if row is not None else None

    def put(self, record: JoinTokenRecord) -> None:
        put_row(self._connection, JOIN_TOKENS, msgspec.structs.asdict(record))


class NonceRows:
    """ports.roster.Nonces."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def use(self, nonce: str, expires_at: float, now: float) -> bool:
        self._connection.execute(delete(NONCES).where(NONCES.c.expires_at < now))
        return add_row(self._connection, NONCES, {"nonce": nonce, "expires_at": expires_at})


class KeyRows:
    """ports.roster.Keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def issuers(self) -> tuple[KeyRecord, ...]:
        rows = self._connection.execute(select(ISSUERS).order_by(ISSUERS.c.version))
        return tuple(KeyRecord(**row._mapping) for row in rows)

    def add(self, record: KeyRecord) -> None:
        self._connection.execute(ISSUERS.insert().values(**msgspec.structs.asdict(record)))


class TaskRows:
    """ports.roster.Tasks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[TaskRecord, ...]:
        found = [_task(row.content) for row in self._connection.execute(select(TASKS.c.content))]
        return tuple(sorted(found, key=lambda record: (record.created_at, record.task.id)))

    def get(self, task: str) -> TaskRecord | None:
        content = value_of(self._connection, TASKS, "content", id=task)
        return _task(content) if content is not None else None

    def put(self, record: TaskRecord) -> None:
        row = {
            "id": record.task.id,
            "host": record.task.host,
            "ended": int(record.state in _ENDED),
            "expires_at": record.task.expires_at,
            "content": text_of(record),
        }
        put_row(self._connection, TASKS, row)

    def open_for(self, host: HostId, now: float) -> tuple[TaskRecord, ...]:
        table = TASKS.c
        query = select(table.content).where(table.host == host, table.ended == 0, table.expires_at > now)
        return tuple(_task(row.content) for row in self._connection.execute(query.order_by(table.id)))


def _host(row: Row[tuple[object, ...]]) -> HostRecord:
    host = msgspec.json.decode(row.content, type=Host)
    return HostRecord(host=host, joined_at=row.joined_at, seen_at=row.seen_at, lost_at=row.lost_at)


def _task(content: str) -> TaskRecord:
    return msgspec.json.decode(content, type=TaskRecord)
