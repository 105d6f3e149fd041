"""The section ``connections``: what a VM's shields follow, in bulk and then what changed. Owns neither kernel nor policy.

Body of version 1, little endian: u16 blocks, then each as MAC (6), u8 addresses, u32 rows, the addresses (16 each), the
rows (model/connection.py).
"""

from __future__ import annotations

import ipaddress
import struct
import time
from array import array
from collections.abc import Callable, Mapping, Sequence

import msgspec

from buckler.agent.handover.screen import MAX_HALF_OPEN, Range, screen
from buckler.agent.handover.section import BadSection, Content
from buckler.model.connection import (
    AGE,
    HELD,
    LOCAL,
    LOCAL_PORT,
    PROTOCOL,
    REMAINING,
    REMOTE,
    REMOTE_PORT,
    ROW_SIZE,
    Held,
    Rows,
)
from buckler.model.ids import VmId
from buckler.model.shield import Tap
from buckler.ports.connections import Connections

_COUNT, _BLOCK = struct.Struct("<H"), struct.Struct("<6sBI")
_MAX_BLOCKS, _ADDRESS = 256, 16
_REFRESH_BITS = 13  # a use is told again once its end has moved on by eight seconds
_MAPPED = bytes(10) + b"\xff\xff"
_ECHO = frozenset({1, 58})
Block = tuple[str, Rows]


class Moved(msgspec.Struct, frozen=True):
    """How many connections were put here, and how many not, by the reason in a word."""

    moved: int = 0
    refused: dict[str, int] = {}


class ConnectionsSection:
    """``taps`` gives a VM's shields that stand here, ``forbidden`` the addresses that nobody's connection may name."""

    name = "connections"
    version = 1

    def __init__(
        self,
        connections: Connections,
        taps: Callable[[VmId], Sequence[Tap]],
        forbidden: Callable[[], Sequence[Range]],
    ) -> None:
        self._connections = connections
        self._taps = taps
        self._forbidden = forbidden
        self._put: dict[VmId, set[bytes]] = {}
        self._refused: dict[VmId, dict[str, int]] = {}

    def follow(self, vm: VmId) -> Callable[[], bytes]:
        """Each call gives what has changed since the last one, nothing as no bytes. Raises ShieldFailed."""
        return Following(self._connections, tuple(self._taps(vm))).next

    def give(self, vm: VmId) -> bytes:
        return self.follow(vm)()

    def take(self, vm: VmId, content: Content) -> None:
        """Put every sound row at the tap of its MAC. Raises BadSection, and ShieldFailed."""
        if content.version != self.version:
            raise BadSection(f"connections of version {content.version}, not {self.version}")
        taps = {tap.mac.lower(): tap for tap in self._taps(vm)}
        forbidden = self._forbidden()
        for mac, rows in read_blocks(content.body):
            tap = taps.get(mac)
            if tap is None:
                self._refuse(vm, {"interface": len(rows)})
            else:
                self._write(vm, tap, rows, forbidden)

    def keep(self, vm: VmId) -> None:
        """They stand in the kernel already: the guest's first packet was to find them."""

    def drop(self, vm: VmId) -> None:
        """The kernel forgot them with the tap."""
        self.moved(vm)

    def moved(self, vm: VmId) -> Moved:
        """The sum, once."""
        return Moved(len(self._put.pop(vm, ())), self._refused.pop(vm, {}))

    def counts(self, vm: VmId) -> tuple[int, int]:
        """(put, refused) so far."""
        return len(self._put.get(vm, ())), sum(self._refused.get(vm, {}).values())

    def _write(self, vm: VmId, tap: Tap, rows: Rows, forbidden: Sequence[Range]) -> None:
        own = frozenset(_packed(address) for address in tap.addresses)
        screened = screen(rows, own, forbidden, tap.connections)
        self._refuse(vm, screened.refused)
        written = self._connections.write(tap.ifindex, screened.rows)
        if written.full:
            self._refuse(vm, {"room": written.full})
        self._count(vm, tap, _lines(screened.rows.rows), written.full)

    def _count(self, vm: VmId, tap: Tap, lines: list[bytes], full: int) -> None:
        """Each connection once, and no more than can be: a source may name ever new ones, for which there is no room."""
        seen = self._put.setdefault(vm, set())
        keys = [tap.mac.encode() + _key(line) for line in lines if line[HELD] != Held.ENDED]
        seen.difference_update(tap.mac.encode() + _key(line) for line in lines if line[HELD] == Held.ENDED)
        most = sum(each.connections + MAX_HALF_OPEN for each in self._taps(vm))
        seen.update(keys[: max(min(len(keys) - full, most - len(seen)), 0)])

    def _refuse(self, vm: VmId, refused: Mapping[str, int]) -> None:
        total = self._refused.setdefault(vm, {})
        for reason, count in refused.items():
            total[reason] = total.get(reason, 0) + count


class Following:
    """Remembers what was told. One pass costs what reading the tables costs; the giver paces it."""

    def __init__(self, connections: Connections, taps: tuple[Tap, ...]) -> None:
        self._connections = connections
        self._taps = taps
        self._locals: dict[int, tuple[bytes, ...]] = {}
        self._told: dict[int, frozenset[bytes]] = {}

    def next(self) -> bytes:
        """Raises ShieldFailed, also when a tap is gone: an empty table is never made of that."""
        blocks = [(tap.mac.lower(), self._change(tap.ifindex)) for tap in self._taps]
        blocks = [(mac, rows) for mac, rows in blocks if rows.rows]
        return write_blocks(blocks) if blocks else b""

    def _change(self, ifindex: int) -> Rows:
        rows = self._connections.read(ifindex)
        told = self._told.get(ifindex, frozenset()) if self._locals.get(ifindex) == rows.locals else frozenset[bytes]()
        lines, marks = _lines(rows.rows), _lines(_marks(rows.rows))
        changed = [line for line, mark in zip(lines, marks, strict=True) if mark not in told]
        gone = told.difference(marks)
        if gone:
            still = {_key(line) for line in changed}
            ended = (mark for mark in gone if _key(mark) not in still)
            changed += [mark[:HELD] + bytes([Held.ENDED]) + mark[HELD + 1 :] for mark in ended]
        self._locals[ifindex], self._told[ifindex] = rows.locals, frozenset(marks)
        return Rows(rows.locals, b"".join(changed))


def write_blocks(blocks: Sequence[Block]) -> bytes:
    """Write what ``read_blocks`` reads."""
    parts = [_COUNT.pack(len(blocks))]
    for mac, rows in blocks:
        parts += [
            _BLOCK.pack(bytes.fromhex(mac.replace(":", "")), len(rows.locals), len(rows)),
            *rows.locals,
            rows.rows,
        ]
    return b"".join(parts)


def read_blocks(body: bytes) -> list[Block]:
    """Read a body to its last byte. Raises BadSection."""
    try:
        (count,) = _COUNT.unpack_from(body)
        if count > _MAX_BLOCKS:
            raise BadSection(f"connections of {count} interfaces")
        at, blocks = _COUNT.size, []
        for _ in range(count):
            mac, addresses, rows = _BLOCK.unpack_from(body, at)
            at += _BLOCK.size
            middle, end = at + addresses * _ADDRESS, at + addresses * _ADDRESS + rows * ROW_SIZE
            if end > len(body):
                raise BadSection("connections that end too early")
            locals_ = tuple(body[start : start + _ADDRESS] for start in range(at, middle, _ADDRESS))
            blocks.append((mac.hex(":"), Rows(locals_, body[middle:end])))
            at = end
    except struct.error as error:
        raise BadSection("connections that end too early") from error
    if at != len(body):
        raise BadSection("connections with something behind them")
    if len({mac for mac, _ in blocks}) != len(blocks):
        raise BadSection("connections of one interface twice")
    return blocks


def _marks(rows: bytes) -> bytes:
    """The rows without what changes by itself; when they end stands in steps, so that a use is told now and then."""
    now = int(time.monotonic() * 1000)
    left = memoryview(rows).cast("I")[REMAINING // 4 :: ROW_SIZE // 4].tolist()
    ends = array("I", [now + remaining >> _REFRESH_BITS for remaining in left]).tobytes()
    marks = bytearray(rows)
    for byte in range(4):
        marks[REMAINING + byte :: ROW_SIZE] = ends[byte::4]
    for byte in range(8):
        marks[AGE + byte :: ROW_SIZE] = bytes(len(left))
    return bytes(marks)


def _key(line: bytes) -> bytes:
    """What names a connection at its tap; an echo's direction is part of that."""
    way = line[PROTOCOL + 1 : PROTOCOL + 2] if line[PROTOCOL] in _ECHO else b""
    head = line[PROTOCOL : PROTOCOL + 1] + line[LOCAL : LOCAL + 1] + line[REMOTE_PORT : LOCAL_PORT + 2]
    return head + line[REMOTE : REMOTE + 16] + way


def _lines(rows: bytes) -> list[bytes]:
    return [rows[start : start + ROW_SIZE] for start in range(0, len(rows), ROW_SIZE)]


def _packed(text: str) -> bytes:
    address = ipaddress.ip_address(text)
    return _MAPPED + address.packed if address.version == 4 else address.packed
