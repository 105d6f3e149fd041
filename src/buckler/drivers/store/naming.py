"""The book of learned names as rows. Owns no lifetime."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, delete, select

from buckler.drivers.store.rows import put_row
from buckler.drivers.store.tables import NAMES
from buckler.ports.naming import NameRecord


class NameRows:
    """ports.naming.LearnedNames."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[NameRecord, ...]:
        order = (NAMES.c.network, NAMES.c.name, NAMES.c.address)
        return tuple(NameRecord(**row._mapping) for row in self._connection.execute(select(NAMES).order_by(*order)))

    def put(self, record: NameRecord) -> None:
        put_row(self._connection, NAMES, msgspec.structs.asdict(record))

    def drop(self, network: str, name: str, address: str) -> None:
        key = (NAMES.c.network == network, NAMES.c.name == name, NAMES.c.address == address)
        self._connection.execute(delete(NAMES).where(*key))
