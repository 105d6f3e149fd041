"""A connection as hosts tell it to each other: fixed rows of bytes, so that a hundred thousand cost no Python objects.

Owns the layout; neither a kernel's own layout nor what of a foreign row may be believed.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from buckler.model.bundle import MOST_SERVICE_NUMBER

ROW_SIZE = 40
"""Little endian. What a row does not say (rule, peer, policy port, observed) is found anew where it arrives.

======  =====  ==========================================================================================
offset  bytes  meaning
======  =====  ==========================================================================================
0       1      IP protocol
1       1      direction in which it was opened (model.program.Direction)
2       1      state (State)
3       1      table (Held)
4       1      local address, as an index into the addresses that stand before the rows
5       1      the VM's TCP: window scale in the low, FIN sent (1) and acknowledged (2) in the high four bits
6       1      the remote end's, likewise
7       1      0; through a service's virtual address: 1 + the place of its ``mark`` among the addresses
8       2      remote port, or the identifier of an echo
10      2      local port, or the same identifier
12      4      milliseconds until it expires unless it is used
16      16     remote address, IPv4 as ::ffff:a.b.c.d
32      8      milliseconds since it was opened
======  =====  ==========================================================================================
"""

PROTOCOL, DIRECTION, STATE, HELD, LOCAL, LOCAL_TCP, REMOTE_TCP, SERVICE = range(8)
REMOTE_PORT, LOCAL_PORT, REMAINING, REMOTE, AGE = 8, 10, 12, 16, 32
"""Offsets in a row."""
MAX_REMAINING = 0xFFFFFFFF
MAX_LOCALS = 255
_MARK = bytes(12)


def mark(service: int) -> bytes:
    """How a service's number stands among the addresses: as one that no interface has."""
    return _MARK + service.to_bytes(4, "big")


def marked(entry: bytes) -> int:
    """The service's number; 0: an address."""
    number = int.from_bytes(entry[12:], "big")
    return number if entry.startswith(_MARK) and number <= MOST_SERVICE_NUMBER else 0


class State(IntEnum):
    """Equal to STATE_* in bpf/abi.h."""

    NEW = 0
    REPLIED = 1
    ESTABLISHED = 2
    CLOSING = 3
    CLOSED = 4


class Held(IntEnum):
    """Where a connection has its place; ``ENDED`` in a change says that it has none any more."""

    ESTABLISHED = 0
    HALF_OPEN = 1
    ENDED = 2


class Rows(msgspec.Struct, frozen=True):
    """Connections of one tap. ``locals`` are its addresses as 16 bytes each, in the order that the rows refer to.

    Behind them stand the marks of services: who knows of none refuses the rows that name one, and takes all others.
    """

    locals: tuple[bytes, ...] = ()
    rows: bytes = b""

    def __len__(self) -> int:
        return len(self.rows) // ROW_SIZE


class Written(msgspec.Struct, frozen=True):
    """What became of rows: ``put``; ``newer`` here already, judged since; ``full``: no room; ``ended``: taken away."""

    put: int = 0
    newer: int = 0
    full: int = 0
    ended: int = 0
