"""The books of revisions, manifests, objects and acknowledgements as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Text, Update, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql

from buckler.drivers.store.rows import add_rows, put_row, text_of, upsert, value_of
from buckler.drivers.store.tables import ACKS, CHANGES, MANIFESTS, OBJECTS, ORDERS, POOL, REVISIONS
from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import Digest, HostId, Revision
from buckler.ports.publication import Change, Order, PublishedManifest, RevisionRecord, Tally, Told, Written

_CHUNK = 500
_NONE = text_of(())
"""How a revision says that it changed no document."""
_DECLARING = ("apply", "delete", "label", "adopted")
"""Why revisions changed documents before their changes were recorded."""


class RevisionRows:
    """ports.publication.Revisions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def current(self) -> Revision:
        return Revision(value_of(self._connection, POOL, "revision", id=1))

    def allocate(self, cause: str, actor: str, at: float, comment: str = "", changes: Sequence[Tally] = ()) -> Revision:
        revision = Revision(self._connection.execute(_NEXT_REVISION).scalar_one())
        row = RevisionRecord(revision, cause, actor, at, comment)
        values = {**msgspec.structs.asdict(row), "changes": text_of(changes)}
        self._connection.execute(insert(REVISIONS).values(**values))
        return revision

    def find(self, revision: Revision) -> RevisionRecord | None:
        row = self._connection.execute(select(REVISIONS).where(REVISIONS.c.revision == revision)).one_or_none()
        return _record(row) if row is not None else None

    def published(self, below: int, limit: int) -> tuple[RevisionRecord, ...]:
        declared = (REVISIONS.c.changes != "") | REVISIONS.c.cause.in_(_DECLARING)
        query = select(REVISIONS).where(REVISIONS.c.changes != _NONE, declared)
        query = query.where(REVISIONS.c.revision < below) if below else query
        rows = self._connection.execute(query.order_by(REVISIONS.c.revision.desc()).limit(limit))
        return tuple(_record(row) for row in rows)

    def recorded_from(self) -> Revision:
        last = select(func.max(REVISIONS.c.revision)).where(REVISIONS.c.changes == "")
        return Revision(self._connection.execute(last).scalar() or 0)

    def rollout(self) -> str:
        return str(value_of(self._connection, POOL, "rollout", id=1))

    def set_rollout(self, state: str) -> None:
        self._connection.execute(_ROLLOUT, {"state": state})


def _record(row: Row[Any]) -> RevisionRecord:
    changes = msgspec.json.decode(row.changes, type=tuple[Tally, ...]) if row.changes else None
    return RevisionRecord(Revision(row.revision), row.cause, row.actor, row.at, row.comment, changes)


_ORDER = [ORDERS.c[name] for name in Order.__struct_fields__]
_ORDER_OF = select(*_ORDER).where(ORDERS.c.host == bindparam("host"))
_TAKEN = select(ORDERS.c.host, ORDERS.c.taken).where(ORDERS.c.taken >= bindparam("since"))
_MANIFEST = select(MANIFESTS).where(
    MANIFESTS.c.host == bindparam("host"), MANIFESTS.c.revision == bindparam("revision")
)
_SINCE = select(CHANGES).where(CHANGES.c.number >= bindparam("number")).order_by(CHANGES.c.number)
_NEXT_REVISION = update(POOL).where(POOL.c.id == 1).values(revision=POOL.c.revision + 1).returning(POOL.c.revision)
_ROLLOUT = update(POOL).where(POOL.c.id == 1).values(rollout=bindparam("state"))


class ManifestRows:
    """ports.publication.Manifests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def latest(self, host: HostId) -> PublishedManifest | None:
        query = select(MANIFESTS).where(MANIFESTS.c.host == host).order_by(MANIFESTS.c.revision.desc()).limit(1)
        row = self._connection.execute(query).one_or_none()
        return PublishedManifest(**row._mapping) if row is not None else None

    def find(self, host: HostId, revision: Revision) -> PublishedManifest | None:
        row = self._connection.execute(_MANIFEST, {"host": host, "revision": revision}).one_or_none()
        return PublishedManifest(**row._mapping) if row is not None else None

    def at(self, revision: Revision) -> tuple[PublishedManifest, ...]:
        rows = self._connection.execute(
            select(MANIFESTS).where(MANIFESTS.c.revision == revision).order_by(MANIFESTS.c.host)
        )
        return tuple(PublishedManifest(**row._mapping) for row in rows)

    def put(self, manifest: PublishedManifest) -> None:
        self._connection.execute(insert(MANIFESTS).values(**msgspec.structs.asdict(manifest)))
        took = update(ORDERS).where(ORDERS.c.host == manifest.host).values(taken=manifest.revision)
        self._connection.execute(took)

    def order(self, host: HostId) -> Order | None:
        row = self._connection.execute(_ORDER_OF, {"host": host}).one_or_none()
        return Order(**row._mapping) if row is not None else None

    def orders(self) -> dict[HostId, Order]:
        return {HostId(row.host): Order(*row) for row in self._connection.execute(select(*_ORDER))}

    def taken(self, since: Revision) -> dict[HostId, Revision]:
        rows = self._connection.execute(_TAKEN, {"since": since})
        return {HostId(host): Revision(taken) for host, taken in rows}

    def set_orders(self, told: Told, hosts: Sequence[HostId]) -> None:
        """Rows that are there are changed by one statement, with one parameter for all hosts."""
        if not hosts:
            return
        same = msgspec.structs.asdict(told)
        is_postgresql = self._connection.dialect.name == "postgresql"
        named = list(hosts) if is_postgresql else text_of(hosts)
        now = {f"{name}_now": value for name, value in same.items()}
        changed = self._connection.execute(_of_hosts(is_postgresql), {"hosts": named, **now})
        if changed.rowcount == len(hosts):
            return
        rows = [{"host": host, **same, "taken": 0} for host in hosts]
        self._connection.execute(upsert(ORDERS, ("host", *same), self._connection.dialect.name), rows)


@cache
def _of_hosts(is_postgresql: bool) -> Update:
    query = update(ORDERS).values({name: bindparam(f"{name}_now") for name in Told.__struct_fields__})
    if is_postgresql:
        return query.where(ORDERS.c.host == func.any(bindparam("hosts", type_=postgresql.ARRAY(Text))))
    named = func.json_each(bindparam("hosts", type_=Text)).table_valued("value")
    return query.where(ORDERS.c.host.in_(select(named.c.value)))


class ChangeRows:
    """ports.publication.Changes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> int:
        return int(self._connection.execute(select(func.max(CHANGES.c.number))).scalar() or 0)

    def since(self, number: int) -> tuple[int, tuple[Change, ...]] | None:
        """Where ``number`` is still there, so are all after it: the oldest go first."""
        rows = self._connection.execute(_SINCE, {"number": number}).all()
        if rows and rows[0].number > number + 1:
            return None
        return rows[-1].number if rows else 0, tuple(Change(Written(r.what), r.name) for r in rows if r.number > number)

    def forget(self, through: int) -> None:
        through = min(through, self.newest() - 1)
        self._connection.execute(delete(CHANGES).where(CHANGES.c.number <= through))


class ObjectRows:
    """ports.publication.Objects."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        wanted = sorted(set(digests))
        found: dict[Digest, bytes] = {}
        for start in range(0, len(wanted), _CHUNK):
            query = select(OBJECTS).where(OBJECTS.c.digest.in_(wanted[start : start + _CHUNK]))
            found |= {Digest(row.digest): row.content.encode() for row in self._connection.execute(query)}
        return found

    def put(self, objects: Mapping[Digest, bytes]) -> None:
        add_rows(
            self._connection,
            OBJECTS,
            [{"digest": digest, "content": content.decode()} for digest, content in objects.items()],
        )


class AckRows:
    """ports.publication.Acks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> dict[HostId, Acknowledgement]:
        rows = self._connection.execute(select(ACKS.c.host, ACKS.c.content))
        return {HostId(host): _ack(content) for host, content in rows}

    def put(self, host: HostId, ack: Acknowledgement) -> None:
        put_row(self._connection, ACKS, {"host": host, "content": text_of(ack)})


@lru_cache(maxsize=8192)
def _ack(content: str) -> Acknowledgement:
    """Read once: most are the same the next time."""
    return msgspec.json.decode(content, type=Acknowledgement)
