"""Small verbs on rows that every book uses. Knows no table but that of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from buckler.drivers.store.tables import CHANGES
from buckler.ports.publication import Written


def text_of(value: Any) -> str:
    """Write a value as JSON text."""
    return msgspec.json.encode(value).decode()


def put_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert a row or replace the one with its primary key."""
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(make(table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


def add_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False when its primary key is there already."""
    keys = [column.name for column in table.primary_key]
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    query = make(table).values(**row).on_conflict_do_nothing(index_elements=keys).returning(table.c[keys[0]])
    return connection.execute(query).one_or_none() is not None


def add_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert those rows whose primary key is not there."""
    if rows:
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(make(table).on_conflict_do_nothing(), rows)


def note_change(connection: Connection, what: Written, name: str) -> None:
    """Say that a row was written, for those who keep what they read."""
    connection.execute(insert(CHANGES).values(what=what.value, name=name))


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; one that is there already is an error."""
    if rows:
        connection.execute(insert(table), rows)


def value_of(connection: Connection, table: Table, column: str, **key: Any) -> Any:
    """Return one column of the one row with ``key``, or None."""
    query = select(table.c[column])
    for name, value in key.items():
        query = query.where(table.c[name] == value)
    return connection.execute(query).scalar_one_or_none()
