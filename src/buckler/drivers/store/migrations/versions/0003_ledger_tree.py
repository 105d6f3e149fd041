"""The ledger's chain becomes a tree: every entry a salted leaf, without the links and signatures of the chain.

What the chain proved is not claimed on: the last entry of the carried ones says that they were sealed anew, what the
chain ended with (an older export or note of that end can be held against it), and which entries did not fit the chain.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from buckler.ledger.canonical import NotCanonical, plain
from buckler.ledger.entry import SALT_SIZE, Entry, leaf_of
from buckler.ledger.tree import Edge, grown

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_GENESIS = "sha256:" + "0" * 64
_NAMED = 100


def upgrade() -> None:
    """Make the tables and carry the chain over."""
    connection = op.get_bind()
    statements = connection.execute(sa.text("SELECT statement FROM ledger ORDER BY sequence")).scalars().all()
    op.drop_index(op.f("ix_ledger_vm"), table_name="ledger")
    op.drop_table("ledger")
    ledger = op.create_table(
        "ledger",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("vm", sa.Text(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index(op.f("ix_ledger_vm"), "ledger", ["vm"], unique=False)
    op.create_index("ledger_by_host", "ledger", ["host", "kind"], unique=False)
    nodes = op.create_table(
        "ledger_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "number"),
    )
    op.create_table(
        "ledger_checkpoint",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "ledger_witnesses",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("host"),
    )
    if statements:
        _seal(connection, ledger, nodes, _carried(statements))


def _seal(connection: sa.Connection, ledger: sa.Table, nodes: sa.Table, entries: Iterable[Entry]) -> None:
    edge = Edge()
    for entry in entries:
        leaf = leaf_of(entry, secrets.token_bytes(SALT_SIZE))
        row = {"sequence": entry.sequence, "salt": leaf.salt, "entry": leaf.text}
        row |= {name: getattr(entry, name).replace("\0", "") for name in ("kind", "host", "vm")}
        connection.execute(ledger.insert().values(**row))
        edge, made = grown(edge, leaf.hash)
        connection.execute(
            nodes.insert(), [{"level": level, "number": number, "hash": found} for (level, number), found in made]
        )


def _carried(statements: Iterable[str]) -> Iterator[Entry]:
    """Yield every entry in its place, then the one that tells of the sealing."""
    count, end, faults = 0, _GENESIS, []
    for count, statement in enumerate(statements, 1):
        payload, told = _read(statement)
        if told.get("previous") != end or told.get("sequence") != count:
            faults.append(count)
        end = "sha256:" + hashlib.sha256(payload).hexdigest()
        yield _entry(count, told, statement)
    detail: dict[str, Any] = {"entries": count, "end": f"{count}:{end}", "faults": len(faults)}
    detail |= {"faulty": faults[:_NAMED]} if faults else {}
    cause = "the chain became a tree: its own signatures and links are not kept"
    yield Entry(count + 1, "ledger.resealed", time.time(), actor="controller", cause=cause, detail=detail)


def _read(statement: str) -> tuple[bytes, dict[str, Any]]:
    parts = [*statement.split("."), "", ""]
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return b"", {}
    return payload, told if isinstance(told, dict) else {}


def _entry(sequence: int, told: dict[str, Any], statement: str) -> Entry:
    """Carry one entry; one that cannot be read is carried as the text that stood there."""
    try:
        texts = {name: told[name] for name in ("kind", "tenant", "actor", "cause", "host", "vm")}
        if not all(isinstance(text, str) for text in texts.values()) or not isinstance(told["detail"], dict):
            raise TypeError
        return Entry(
            sequence, at=float(told["at"]), origin=int(told["origin"]), detail=plain(told["detail"]), **plain(texts)
        )
    except (KeyError, TypeError, ValueError, OverflowError, NotCanonical):
        return Entry(sequence, "ledger.unreadable", 0.0, actor="controller", detail={"text": plain(statement)})
