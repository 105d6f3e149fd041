"""Small verbs on rows that every book uses. Knows no table but that of changes.

Statements that are executed again and again are made once: making one takes longer than SQLite does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from buckler.drivers.store.tables import CHANGES
from buckler.ports.publication import Written


def text_of(value: Any) -> str:
    """Write a value as JSON text."""
    return msgspec.json.encode(value).decode()


def put_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row or replace the one with its primary key."""
    connection.execute(upsert(table, tuple(row), connection.dialect.name), row)


@cache
def upsert(table: Table, columns: tuple[str, ...], dialect: str) -> Any:
    """Insert rows of these columns, or replace what they say where one with its primary key is there."""
    query = insert_for(dialect)(table)
    keys = [column.name for column in table.primary_key]
    rest = {name: query.excluded[name] for name in columns if name not in keys}
    return query.on_conflict_do_update(index_elements=keys, set_=rest)


def insert_for(dialect: str) -> Any:
    """Give the insert of a dialect, which knows what to do where a row is there already."""
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def add_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False when its primary key is there already."""
    keys = [column.name for column in table.primary_key]
    query = (
        insert_for(connection.dialect.name)(table)
        .values(**row)
        .on_conflict_do_nothing(index_elements=keys)
        .returning(table.c[keys[0]])
    )
    return connection.execute(query).one_or_none() is not None


def add_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert those rows whose primary key is not there."""
    if rows:
        connection.execute(_addition(table, connection.dialect.name), rows)


@cache
def _addition(table: Table, dialect: str) -> Any:
    return insert_for(dialect)(table).on_conflict_do_nothing()


def note_change(connection: Connection, what: Written, name: str) -> None:
    """Say that a row was written, for those who keep what they read."""
    connection.execute(_NOTE, {"what": what.value, "name": name})


_NOTE = insert(CHANGES)


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; one that is there already is an error."""
    if rows:
        connection.execute(insert(table), rows)


def value_of(connection: Connection, table: Table, column: str, **key: Any) -> Any:
    """Return one column of the one row with ``key``, or None."""
    return connection.execute(_one(table, column, tuple(key)), key).scalar_one_or_none()


@cache
def _one(table: Table, column: str, keys: tuple[str, ...]) -> Select[Any]:
    return select(table.c[column]).where(*(table.c[name] == bindparam(name) for name in keys))
