"""ports/connections in memory: rows as they were written. Time does not pass here; packets are ``judge``."""

from __future__ import annotations

from collections.abc import Callable

from buckler.model.connection import (
    HELD,
    LOCAL,
    LOCAL_PORT,
    PROTOCOL,
    REMOTE,
    REMOTE_PORT,
    ROW_SIZE,
    SERVICE,
    Held,
    Rows,
    Written,
)
from buckler.ports.shield import ShieldFailed

_Key = tuple[bytes, bytes, bytes]


class InMemoryConnections:
    """``room`` says how many connections the tap with an index has room for; None where no shield stands."""

    def __init__(self, room: Callable[[int], int | None]) -> None:
        self._room = room
        self._rows: dict[int, dict[_Key, tuple[bytes, bytes, bytes]]] = {}
        self._judged: set[tuple[int, _Key]] = set()

    def read(self, ifindex: int) -> Rows:
        """See the port."""
        self._check(ifindex)
        held = self._rows.get(ifindex, {})
        locals_ = sorted({local for local, _, _ in held.values()})
        locals_ += sorted({service for _, service, _ in held.values() if service})
        rows = (_placed(locals_, *each) for each in held.values())
        return Rows(tuple(locals_), b"".join(rows))

    def write(self, ifindex: int, rows: Rows) -> Written:
        """See the port."""
        room = self._check(ifindex)
        held = self._rows.setdefault(ifindex, {})
        put = newer = full = ended = 0
        for start in range(0, len(rows.rows), ROW_SIZE):
            line = rows.rows[start : start + ROW_SIZE]
            local = rows.locals[line[LOCAL]]
            key = _key(local, line)
            others = len(held) - (key in held)
            if (ifindex, key) in self._judged:
                newer += line[HELD] != Held.ENDED
            elif line[HELD] == Held.ENDED:
                ended += held.pop(key, None) is not None
            elif others >= room:
                full += 1
            else:
                held[key] = (local, rows.locals[line[SERVICE] - 1] if line[SERVICE] else b"", line)
                put += 1
        return Written(put, newer, full, ended)

    def _check(self, ifindex: int) -> int:
        room = self._room(ifindex)
        if room is None:
            self._rows.pop(ifindex, None)
            raise ShieldFailed(f"no shield stands at {ifindex}")
        return room

    def judge(self, ifindex: int, rows: Rows) -> None:
        """A packet of each of these connections was seen."""
        for start in range(0, len(rows.rows), ROW_SIZE):
            line = rows.rows[start : start + ROW_SIZE]
            self._judged.add((ifindex, _key(rows.locals[line[LOCAL]], line)))


def _placed(locals_: list[bytes], local: bytes, service: bytes, line: bytes) -> bytes:
    """A row that refers to this order of addresses."""
    placed = bytearray(line)
    placed[LOCAL] = locals_.index(local)
    placed[SERVICE] = locals_.index(service) + 1 if service else 0
    return bytes(placed)


def _key(local: bytes, line: bytes) -> _Key:
    return local, line[PROTOCOL : PROTOCOL + 2], line[REMOTE_PORT : LOCAL_PORT + 2] + line[REMOTE : REMOTE + 16]
