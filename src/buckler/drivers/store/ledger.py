"""The book of the ledger as rows: leaves, nodes, checkpoint, cosignatures. Signs and verifies nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, Select, func, insert, select

from buckler.drivers.store.rows import insert_rows, put_row, value_of
from buckler.drivers.store.tables import LEDGER, LEDGER_CHECKPOINT, LEDGER_NODES, LEDGER_WITNESSES
from buckler.ledger.entry import Entry, Leaf
from buckler.ledger.tree import Edge, Hash, Node, cover, grown
from buckler.model.ids import HostId
from buckler.ports.ledger import StoredLeaf, Witnessed
from buckler.ports.store import StoreFailed

_CHUNK = 500


class LedgerRows:
    """ports.ledger.LedgerBook. Holds the tree's edge for as long as its transaction: an append reads nothing twice."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._edge: Edge | None = None
        self._began: Edge | None = None
        self._is_unsealed = False

    def edge(self) -> Edge:
        if self._edge is None:
            last = select(func.max(LEDGER_NODES.c.number)).where(LEDGER_NODES.c.level == 0)
            found_last = self._connection.execute(last).scalar()
            size = 0 if found_last is None else int(found_last) + 1
            wanted = cover(0, size)
            found = self.nodes(wanted)
            if len(found) != len(wanted):
                raise StoreFailed("the ledger's tree has holes: run ledger verify")
            self._edge = Edge(size, tuple(found[node] for node in wanted))
        self._began = self._began or self._edge
        return self._edge

    def began(self) -> Edge:
        return self._began or self.edge()

    def append(self, entry: Entry, leaf: Leaf) -> None:
        edge = self.edge()
        if entry.sequence != edge.size + 1:
            raise StoreFailed(f"ledger entry {entry.sequence} does not follow entry {edge.size}")
        row = {"sequence": entry.sequence, "salt": leaf.salt, "entry": leaf.text}
        row |= {name: getattr(entry, name).replace("\0", "") for name in ("kind", "host", "vm")}
        self._connection.execute(insert(LEDGER).values(**row))
        self._edge, nodes = grown(edge, leaf.hash)
        rows = [{"level": level, "number": number, "hash": found} for (level, number), found in nodes]
        insert_rows(self._connection, LEDGER_NODES, rows)
        self._is_unsealed = True

    def is_unsealed(self) -> bool:
        return self._is_unsealed

    def seal(self, checkpoint: str) -> None:
        put_row(self._connection, LEDGER_CHECKPOINT, {"id": 1, "note": checkpoint})
        self._is_unsealed = False

    def checkpoint(self) -> str:
        return value_of(self._connection, LEDGER_CHECKPOINT, "note", id=1) or ""

    def leaves(self, after: int = 0, limit: int = 1000) -> tuple[StoredLeaf, ...]:
        wanted = _leaves().where(LEDGER.c.sequence > after, LEDGER.c.sequence <= after + limit)
        return self._found(wanted.order_by(LEDGER.c.sequence))

    def of_vm(self, vm: str, limit: int = 1000) -> tuple[StoredLeaf, ...]:
        newest = _leaves().where(LEDGER.c.vm == vm).order_by(LEDGER.c.sequence.desc()).limit(limit)
        return tuple(reversed(self._found(newest)))

    def of_hosts(self, hosts: Iterable[str], kinds: Iterable[str]) -> tuple[StoredLeaf, ...]:
        wanted = _leaves().where(LEDGER.c.host.in_(sorted(set(hosts))), LEDGER.c.kind.in_(sorted(set(kinds))))
        return self._found(wanted.order_by(LEDGER.c.sequence))

    def nodes(self, wanted: Iterable[Node]) -> dict[Node, Hash]:
        levels: dict[int, set[int]] = {}
        for level, number in wanted:
            levels.setdefault(level, set()).add(number)
        found: dict[Node, Hash] = {}
        for level, numbers in levels.items():
            ordered = sorted(numbers)
            for start in range(0, len(ordered), _CHUNK):
                query = select(LEDGER_NODES.c.number, LEDGER_NODES.c.hash).where(
                    LEDGER_NODES.c.level == level, LEDGER_NODES.c.number.in_(ordered[start : start + _CHUNK])
                )
                found |= {(level, row.number): bytes(row.hash) for row in self._connection.execute(query)}
        return found

    def witnessed(self) -> tuple[Witnessed, ...]:
        rows = self._connection.execute(select(LEDGER_WITNESSES).order_by(LEDGER_WITNESSES.c.host))
        return tuple(Witnessed(HostId(row.host), row.size, row.note, row.at) for row in rows)

    def put_witnessed(self, witnessed: Witnessed) -> None:
        put_row(self._connection, LEDGER_WITNESSES, msgspec.structs.asdict(witnessed))

    def _found(self, query: Select[tuple[int, str, bytes, bytes | None]]) -> tuple[StoredLeaf, ...]:
        rows = self._connection.execute(query)
        return tuple(StoredLeaf(row.sequence, Leaf(row.entry, bytes(row.salt)), bytes(row.hash or b"")) for row in rows)


def _leaves() -> Select[tuple[int, str, bytes, bytes | None]]:
    """Every entry, its leaf's hash beside it if the tree still has one."""
    node = (LEDGER_NODES.c.level == 0) & (LEDGER_NODES.c.number == LEDGER.c.sequence - 1)
    return select(LEDGER.c.sequence, LEDGER.c.entry, LEDGER.c.salt, LEDGER_NODES.c.hash).outerjoin(LEDGER_NODES, node)
