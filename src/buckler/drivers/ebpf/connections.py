"""ports/connections.Connections on the loaded object: whole tables by batches, columns instead of elements. Judges no row."""

from __future__ import annotations

import operator
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import compress
from typing import TypeVar

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.table import Table
from buckler.drivers.ebpf.waiting import read_waiting
from buckler.model import connection as row
from buckler.model.connection import MAX_LOCALS, MAX_REMAINING, ROW_SIZE, Held, Rows, State, Written, mark, marked
from buckler.model.program import Direction
from buckler.ports.shield import ShieldFailed

Result = TypeVar("Result")
_KEY, _VALUE = layout.CONNECTION_KEY.size, layout.CONNECTION.size
_MILLISECOND = 1_000_000
_ECHO = {1: 8 << 8, 58: 128 << 8}
"""The policy port of an echo: type << 8 | code of the request, which alone opens one."""
_WITH_PORTS = frozenset({6, 17, 132})
_HELD = {
    Held.HALF_OPEN: bytes([Held.HALF_OPEN]) * 256,
    Held.ESTABLISHED: bytes([Held.HALF_OPEN] * State.ESTABLISHED).ljust(256, bytes([Held.ESTABLISHED])),
}
"""How a connection is told by its state: an imported one stands in the table before it is established."""
_SCALE = bytes(value & 15 for value in range(256))
_FINISHED_UP, _FINISHED_DOWN = bytes((value & 15) << 4 for value in range(256)), bytes(v >> 4 for v in range(256))


def _offset(form: struct.Struct, field: int) -> int:
    """Where a field of a layout stands: asked of the layout itself, so it is written down once."""
    blank: list[bytes | int] = list(form.unpack(bytes(form.size)))
    blank[field] = 1 if isinstance(blank[field], int) else b"\1"
    return form.pack(*blank).index(1)


_KEY_AT = {
    name: _offset(layout.CONNECTION_KEY, field)
    for field, name in enumerate(("remote", "local", "remote_port", "local_port", "protocol", "asked"))
}
_EXPIRES, _CREATED, _STAMP = (_offset(layout.CONNECTION, field) for field in range(3))
_SCALES, _FINISHED = (
    tuple(_offset(layout.CONNECTION, at) for at in (7, 13)),
    tuple(_offset(layout.CONNECTION, at) for at in (9, 15)),
)
_PORT, _DIRECTION, _STATE, _SERVICE = (_offset(layout.CONNECTION, field) for field in (21, 22, 23, 27))


class EbpfConnections:
    """Nothing here holds the kernel's lock for long: tables are followed by their descriptors."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def read(self, ifindex: int) -> Rows:
        """See the port."""
        return _guarded(f"read connections of {ifindex}", lambda: self._read(ifindex))

    def write(self, ifindex: int, rows: Rows) -> Written:
        """See the port."""
        return _guarded(f"write connections of {ifindex}", lambda: self._write(ifindex, rows))

    def _read(self, ifindex: int) -> Rows:
        parts = []
        with self._table(ifindex, "established") as table:
            parts.append((Held.ESTABLISHED, *table.dump()))
        with self._table(ifindex, "waiting") as table:
            parts.append((Held.HALF_OPEN, *read_waiting(table)))
        locals_ = sorted({local for _, keys, _ in parts for local in _column(keys, _KEY, _KEY_AT["local"], 16)})
        if len(locals_) > MAX_LOCALS:
            raise ShieldFailed(f"tap {ifindex} has more than {MAX_LOCALS} addresses")
        services = {number for _, _, values in parts for number in _words(values, _VALUE, _SERVICE)} - {0}
        locals_ += [mark(number) for number in sorted(services)[: MAX_LOCALS - len(locals_)]]
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return Rows(
            tuple(locals_), b"".join(_to_rows(held, keys, values, locals_, now) for held, keys, values in parts)
        )

    def _write(self, ifindex: int, rows: Rows) -> Written:
        """Half-open ones into the same table, behind the others: their state says what they are, and nobody evicts them.

        Under the lock of whoever gives the table another size: what is put in one that was just replaced would be nowhere.
        """
        tables = rows.rows[row.HELD :: ROW_SIZE]
        if not rows.rows:
            return Written()
        kinds = {held: _pick(rows.rows, tables, held) if set(tables) != {held} else rows.rows for held in set(tables)}
        half_open, newer = self._without_waiting(ifindex, kinds.get(Held.HALF_OPEN, b""), rows.locals)
        wanted = kinds.get(Held.ESTABLISHED, b"") + half_open
        with self._kernel.lock, self._table(ifindex, "established") as table:
            ended = _end(table, _keys(kinds.get(Held.ENDED, b""), rows.locals))
            keys, values, judged = _without_judged(table, _keys(wanted, rows.locals), _values(wanted, rows.locals))
            done = table.put_many(keys, values)
        return Written(done, newer + judged, len(keys) // _KEY - done, ended)

    def _without_waiting(self, ifindex: int, rows: bytes, locals_: tuple[bytes, ...]) -> tuple[bytes, int]:
        """Leave out what waits here already: its packets were judged here."""
        if not rows:
            return rows, 0
        with self._table(ifindex, "waiting") as table:
            waiting = set(_column(read_waiting(table)[0], _KEY, 0, _KEY))
        fresh = [key not in waiting for key in _column(_keys(rows, locals_), _KEY, 0, _KEY)]
        return b"".join(compress(_column(rows, ROW_SIZE, 0, ROW_SIZE), fresh)), fresh.count(False)

    @contextmanager
    def _table(self, ifindex: int, outer: str) -> Iterator[Table]:
        index = self._kernel["tap_index"].get(layout.U32.pack(ifindex))
        slot = None if index is None else layout.U32.pack(layout.U32.unpack(index)[0] >> 1)
        number = None if slot is None else self._kernel[outer].get(slot)
        if number is None:
            raise ShieldFailed(f"no shield stands at {ifindex}")
        table = Table(libbpf.check(libbpf.map_fd_by_id(layout.U32.unpack(number)[0]), f"open {outer}"))
        try:
            yield table
        finally:
            table.close()


def _guarded(what: str, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except (OSError, ValueError, struct.error) as failure:
        raise ShieldFailed(f"cannot {what}: {failure}") from failure


def _column(raw: bytes, size: int, at: int, width: int) -> list[bytes]:
    return [raw[start : start + width] for start in range(at, len(raw), size)]


def _numbers(raw: bytes, size: int, at: int) -> list[int]:
    """A column of u64 that stand at multiples of eight."""
    return memoryview(raw).cast("Q")[at // 8 :: size // 8].tolist()


def _words(raw: bytes, size: int, at: int) -> list[int]:
    """A column of u32 that stand at multiples of four."""
    return memoryview(raw).cast("I")[at // 4 :: size // 4].tolist()


def _spread(target: bytearray, size: int, at: int, source: bytes, width: int, from_size: int, from_at: int) -> None:
    """Copy a column of ``width`` bytes from records of one size into records of another."""
    for byte in range(width):
        target[at + byte :: size] = source[from_at + byte :: from_size]


def _to_rows(held: Held, keys: bytes, values: bytes, locals_: list[bytes], now: int) -> bytes:
    count = len(keys) // _KEY
    rows = bytearray(ROW_SIZE * count)
    for at, width, name in (
        (row.PROTOCOL, 1, "protocol"),
        (row.REMOTE_PORT, 2, "remote_port"),
        (row.LOCAL_PORT, 2, "local_port"),
        (row.REMOTE, 16, "remote"),
    ):
        _spread(rows, ROW_SIZE, at, keys, width, _KEY, _KEY_AT[name])
    _spread(rows, ROW_SIZE, row.DIRECTION, values, 1, _VALUE, _DIRECTION)
    _spread(rows, ROW_SIZE, row.STATE, values, 1, _VALUE, _STATE)
    rows[row.HELD :: ROW_SIZE] = values[_STATE::_VALUE].translate(_HELD[held])
    places = {local: place for place, local in enumerate(locals_)}
    rows[row.LOCAL :: ROW_SIZE] = bytes(places[local] for local in _column(keys, _KEY, _KEY_AT["local"], 16))
    for at, side in ((row.LOCAL_TCP, 0), (row.REMOTE_TCP, 1)):
        scales = values[_SCALES[side] :: _VALUE].translate(_SCALE)
        rows[at::ROW_SIZE] = _either(scales, values[_FINISHED[side] :: _VALUE].translate(_FINISHED_UP))
    left = [max(expires - now, 0) // _MILLISECOND for expires in _numbers(values, _VALUE, _EXPIRES)]
    services = _words(values, _VALUE, _SERVICE)
    if any(services):
        named = {0: 0} | {marked(local): place + 1 for local, place in places.items() if marked(local)}
        rows[row.SERVICE :: ROW_SIZE] = bytes(named.get(number, 0) for number in services)
        left = [time_left if number in named else 0 for time_left, number in zip(left, services, strict=True)]
    remaining = array("I", [min(time_left, MAX_REMAINING) for time_left in left])
    ages = array("Q", [max(now - created, 0) // _MILLISECOND for created in _numbers(values, _VALUE, _CREATED)])
    _spread(rows, ROW_SIZE, row.REMAINING, remaining.tobytes(), 4, 4, 0)
    _spread(rows, ROW_SIZE, row.AGE, ages.tobytes(), 8, 8, 0)
    told = bytes(rows)
    return told if all(left) else b"".join(compress(_column(told, ROW_SIZE, 0, ROW_SIZE), left))


def _keys(rows: bytes, locals_: tuple[bytes, ...]) -> bytes:
    count = len(rows) // ROW_SIZE
    keys = bytearray(_KEY * count)
    for at, width, name in (
        (row.PROTOCOL, 1, "protocol"),
        (row.REMOTE_PORT, 2, "remote_port"),
        (row.LOCAL_PORT, 2, "local_port"),
        (row.REMOTE, 16, "remote"),
    ):
        _spread(keys, _KEY, _KEY_AT[name], rows, width, ROW_SIZE, at)
    places = rows[row.LOCAL :: ROW_SIZE]
    for byte in range(16):
        known = bytes(local[byte] for local in locals_).ljust(256, b"\0")
        keys[_KEY_AT["local"] + byte :: _KEY] = places.translate(known)
    pairs = zip(rows[row.PROTOCOL :: ROW_SIZE], rows[row.DIRECTION :: ROW_SIZE], strict=True)
    keys[_KEY_AT["asked"] :: _KEY] = bytes(protocol in _ECHO and way == Direction.INGRESS for protocol, way in pairs)
    return bytes(keys)


def _values(rows: bytes, locals_: tuple[bytes, ...]) -> bytes:
    """Stamp 0, windows unknown, no rule: the next packet is judged first. The policy port is what the key says."""
    count = len(rows) // ROW_SIZE
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    values = bytearray(_VALUE * count)
    left = memoryview(rows).cast("I")[row.REMAINING // 4 :: ROW_SIZE // 4].tolist()
    expires = array("Q", [now + remaining * _MILLISECOND for remaining in left])
    created = array("Q", [max(now - age * _MILLISECOND, 0) for age in _numbers(rows, ROW_SIZE, row.AGE)])
    _spread(values, _VALUE, _EXPIRES, expires.tobytes(), 8, 8, 0)
    _spread(values, _VALUE, _CREATED, created.tobytes(), 8, 8, 0)
    for at, side in ((row.LOCAL_TCP, 0), (row.REMOTE_TCP, 1)):
        tcp = rows[at::ROW_SIZE]
        values[_SCALES[side] :: _VALUE] = tcp.translate(_SCALE)
        values[_FINISHED[side] :: _VALUE] = tcp.translate(_FINISHED_DOWN)
    _spread(values, _VALUE, _DIRECTION, rows, 1, ROW_SIZE, row.DIRECTION)
    _spread(values, _VALUE, _STATE, rows, 1, ROW_SIZE, row.STATE)
    _spread(values, _VALUE, _PORT, _policy_ports(rows), 2, 2, 0)
    if any(places := rows[row.SERVICE :: ROW_SIZE]):
        numbers = [0, *map(marked, locals_)]
        _spread(values, _VALUE, _SERVICE, array("I", [numbers[place] for place in places]).tobytes(), 4, 4, 0)
    return bytes(values)


def _policy_ports(rows: bytes) -> bytes:
    halves = memoryview(rows).cast("H")
    step = ROW_SIZE // 2
    return array(
        "H",
        [
            _ECHO.get(protocol, 0) if protocol not in _WITH_PORTS else local if way else remote
            for protocol, way, remote, local in zip(
                rows[row.PROTOCOL :: ROW_SIZE],
                rows[row.DIRECTION :: ROW_SIZE],
                halves[row.REMOTE_PORT // 2 :: step].tolist(),
                halves[row.LOCAL_PORT // 2 :: step].tolist(),
                strict=True,
            )
        ],
    ).tobytes()


def _without_judged(table: Table, keys: bytes, values: bytes) -> tuple[bytes, bytes, int]:
    """Leave out what a packet was judged by here already. An empty table, as before the guest runs, costs one call."""
    if not keys or next(table.each_key(), None) is None:
        return keys, values, 0
    fresh = [not _is_judged(table.get(key)) for key in _column(keys, _KEY, 0, _KEY)]
    judged = fresh.count(False)
    if not judged:
        return keys, values, 0
    kept_keys = b"".join(compress(_column(keys, _KEY, 0, _KEY), fresh))
    return kept_keys, b"".join(compress(_column(values, _VALUE, 0, _VALUE), fresh)), judged


def _is_judged(value: bytes | None) -> bool:
    return value is not None and any(value[_STAMP : _STAMP + 8])


def _end(table: Table, keys: bytes) -> int:
    ended = 0
    for key in _column(keys, _KEY, 0, _KEY):
        value = table.get(key)
        if value is not None and not _is_judged(value):
            table.delete(key)
            ended += 1
    return ended


def _pick(rows: bytes, tables: bytes, held: int) -> bytes:
    return b"".join(compress(_column(rows, ROW_SIZE, 0, ROW_SIZE), map(operator.eq, tables, [held] * len(tables))))


def _either(first: bytes, second: bytes) -> bytes:
    """Bitwise or of two columns."""
    return (int.from_bytes(first, "little") | int.from_bytes(second, "little")).to_bytes(len(first), "little")
