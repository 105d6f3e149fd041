"""The books of revisions, manifests, objects and acknowledgements as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, update

from buckler.drivers.store.rows import add_rows, put_row, text_of, value_of
from buckler.drivers.store.tables import ACKS, MANIFESTS, OBJECTS, POOL, REVISIONS
from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import Digest, HostId, Revision
from buckler.ports.publication import PublishedManifest, RevisionRecord, Tally

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
        revision = Revision(self.current() + 1)
        self._connection.execute(update(POOL).where(POOL.c.id == 1).values(revision=revision))
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
        self._connection.execute(update(POOL).where(POOL.c.id == 1).values(rollout=state))


def _record(row: Row[Any]) -> RevisionRecord:
    changes = msgspec.json.decode(row.changes, type=tuple[Tally, ...]) if row.changes else None
    return RevisionRecord(Revision(row.revision), row.cause, row.actor, row.at, row.comment, changes)


class ManifestRows:
    """ports.publication.Manifests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def latest(self, host: HostId) -> PublishedManifest | None:
        query = select(MANIFESTS).where(MANIFESTS.c.host == host).order_by(MANIFESTS.c.revision.desc()).limit(1)
        row = self._connection.execute(query).one_or_none()
        return PublishedManifest(**row._mapping) if row is not None else None

    def find(self, host: HostId, revision: Revision) -> PublishedManifest | None:
        query = select(MANIFESTS).where(MANIFESTS.c.host == host, MANIFESTS.c.revision == revision)
        row = self._connection.execute(query).one_or_none()
        return PublishedManifest(**row._mapping) if row is not None else None

    def at(self, revision: Revision) -> tuple[PublishedManifest, ...]:
        rows = self._connection.execute(
            select(MANIFESTS).where(MANIFESTS.c.revision == revision).order_by(MANIFESTS.c.host)
        )
        return tuple(PublishedManifest(**row._mapping) for row in rows)

    def put(self, manifest: PublishedManifest) -> None:
        self._connection.execute(insert(MANIFESTS).values(**msgspec.structs.asdict(manifest)))


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
        rows = self._connection.execute(select(ACKS))
        return {HostId(row.host): msgspec.json.decode(row.content, type=Acknowledgement) for row in rows}

    def put(self, host: HostId, ack: Acknowledgement) -> None:
        put_row(self._connection, ACKS, {"host": host, "content": text_of(ack)})
