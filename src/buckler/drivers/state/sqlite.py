"""ports/state.py on one SQLite file, every write on disk before it returns. Interprets no statement."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from buckler.model.bundle import Residence
from buckler.model.event import Event
from buckler.model.ids import Digest, VmId
from buckler.model.sample import Sample
from buckler.ports.state import Membership, Remembered, Share, StateFailed, Tally

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
DROP TABLE IF EXISTS objects;
CREATE TABLE IF NOT EXISTS pieces (digest TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS spool (sequence INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS residences (vm TEXT PRIMARY KEY, residence BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tallies (key TEXT PRIMARY KEY, tally BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS shares (vm TEXT PRIMARY KEY, share BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS samples (sequence INTEGER PRIMARY KEY AUTOINCREMENT, sample BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS carried (
    name TEXT NOT NULL, vm TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (name, vm)
) STRICT;
CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY) STRICT;
"""


class SqliteState:
    """One connection behind one lock: the agent's threads are few and its writes are small."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = folder / "state.db"
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StateFailed(f"{folder}: {error}") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def host_key(self) -> bytes:
        path = self._folder / "host.key"
        with self._lock:
            try:
                if not path.exists():
                    _write_once(path, secrets.token_bytes(32))
                key = path.read_bytes()
            except OSError as error:
                raise StateFailed(f"{path}: {error}") from error
        if len(key) != 32:
            raise StateFailed(f"{path}: not a key of 32 bytes")
        return key

    def membership(self) -> Membership | None:
        value = self._kept("membership")
        return None if value is None else _decode(value, Membership)

    def put_membership(self, membership: Membership) -> None:
        self._keep("membership", msgspec.json.encode(membership))

    def document(self, name: str) -> str:
        value = self._kept(f"document/{name}")
        return "" if value is None else value.decode()

    def put_document(self, name: str, statement: str) -> None:
        self._keep(f"document/{name}", statement.encode())

    def objects(self, wanted: frozenset[Digest]) -> dict[Digest, bytes]:
        found: dict[Digest, bytes] = {}
        with self._transaction() as db:
            for digest in wanted:
                row = db.execute("SELECT content FROM pieces WHERE digest = ?", (digest,)).fetchone()
                if row is not None:
                    found[digest] = bytes(row[0])
        return found

    def put_policy(
        self, documents: Mapping[str, str], objects: Mapping[Digest, bytes], needed: frozenset[Digest] | None
    ) -> None:
        kept = [(f"document/{name}", statement.encode()) for name, statement in documents.items()]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO pieces VALUES (?, ?)", objects.items())
            db.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", kept)
            if needed is not None:
                held = {row[0] for row in db.execute("SELECT digest FROM pieces")}
                db.executemany("DELETE FROM pieces WHERE digest = ?", [(digest,) for digest in held - needed])

    def record(self, event: Event) -> Event:
        with self._transaction() as db:
            sequence = db.execute("INSERT INTO spool (event) VALUES (x'')").lastrowid
            numbered = msgspec.structs.replace(event, sequence=int(sequence or 0))
            db.execute("UPDATE spool SET event = ? WHERE sequence = ?", (msgspec.json.encode(numbered), sequence))
        return numbered

    def pending(self, limit: int) -> list[Event]:
        with self._transaction() as db:
            rows = db.execute("SELECT event FROM spool ORDER BY sequence LIMIT ?", (limit,)).fetchall()
        return [_decode(row[0], Event) for row in rows]

    def forget_through(self, sequence: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM spool WHERE sequence <= ?", (sequence,))

    def residences(self) -> dict[VmId, Residence]:
        with self._transaction() as db:
            rows = db.execute("SELECT vm, residence FROM residences").fetchall()
        return {VmId(vm): _decode(residence, Residence) for vm, residence in rows}

    def put_residence(self, residence: Residence) -> None:
        with self._transaction() as db:
            row = (residence.vm, msgspec.json.encode(residence))
            db.execute("INSERT OR REPLACE INTO residences VALUES (?, ?)", row)

    def remembered(self) -> Remembered:
        value = self._kept("remembered")
        return Remembered() if value is None else _decode(value, Remembered)

    def remember(self, seen: Remembered) -> None:
        self._keep("remembered", msgspec.json.encode(seen))

    def is_done(self, task: str) -> bool:
        with self._transaction() as db:
            return db.execute("SELECT 1 FROM tasks WHERE id = ?", (task,)).fetchone() is not None

    def mark_done(self, task: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO tasks VALUES (?)", (task,))

    def tallies(self) -> dict[str, Tally]:
        with self._transaction() as db:
            rows = db.execute("SELECT key, tally FROM tallies").fetchall()
        return {key: _decode(tally, Tally) for key, tally in rows}

    def put_tallies(self, tallies: Iterable[Tally]) -> None:
        rows = [(tally.counter.key, msgspec.json.encode(tally)) for tally in tallies]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO tallies VALUES (?, ?)", rows)

    def forget_tallies(self, keys: Iterable[str]) -> None:
        with self._transaction() as db:
            db.executemany("DELETE FROM tallies WHERE key = ?", [(key,) for key in keys])

    def shares(self) -> dict[VmId, Share]:
        with self._transaction() as db:
            rows = db.execute("SELECT vm, share FROM shares").fetchall()
        return {VmId(vm): _decode(share, Share) for vm, share in rows}

    def put_shares(self, shares: Iterable[Share], samples: Iterable[Sample] = (), most: int = 0) -> None:
        rows = [(share.vm, msgspec.json.encode(share)) for share in shares]
        told = [(msgspec.json.encode(sample),) for sample in samples]
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO shares VALUES (?, ?)", rows)
            db.executemany("INSERT INTO samples (sample) VALUES (?)", told)
            if told:
                db.execute("DELETE FROM samples WHERE sequence <= (SELECT max(sequence) FROM samples) - ?", (most,))

    def samples(self, limit: int) -> list[Sample]:
        with self._transaction() as db:
            rows = db.execute("SELECT sequence, sample FROM samples ORDER BY sequence LIMIT ?", (limit,)).fetchall()
        return [msgspec.structs.replace(_decode(sample, Sample), sequence=sequence) for sequence, sample in rows]

    def forget_samples(self, through: int) -> None:
        with self._transaction() as db:
            db.execute("DELETE FROM samples WHERE sequence <= ?", (through,))

    def carried(self, name: str) -> dict[VmId, bytes]:
        with self._transaction() as db:
            rows = db.execute("SELECT vm, body FROM carried WHERE name = ?", (name,)).fetchall()
        return {VmId(vm): bytes(body) for vm, body in rows}

    def put_carried(self, name: str, vm: VmId, body: bytes) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO carried VALUES (?, ?, ?)", (name, vm, body))

    def _kept(self, name: str) -> bytes | None:
        with self._transaction() as db:
            row = db.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def _keep(self, name: str, value: bytes) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StateFailed(str(error)) from error


def _write_once(path: Path, content: bytes) -> None:
    """Make the file whole, private and on disk, or not at all."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _decode(value: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        raise StateFailed(f"a stored {kind.__name__} cannot be read: {error}") from error
