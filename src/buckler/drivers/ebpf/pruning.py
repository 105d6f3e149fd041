"""What time has made needless in the kernel's tables: dead connections, buckets that are full again. Judges no packet."""

from __future__ import annotations

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.table import Table

_ENDED_FOR = 60_000_000_000
"""How long after the end of its allowance a connection stays, unless a packet of it comes: its refusal says why then."""


def free_expired(table: Table, now: int) -> int:
    """Ask again right before each deletion: a connection may have begun anew under the same key."""
    freed = 0
    for key, seen in table.items().items():
        value = table.get(key) if _is_over(seen, now) else None
        if value is not None and _is_over(value, now):
            table.delete(key)
            freed += 1
    return freed


def free_buckets(rates: Table, now: int) -> None:
    """Of rules that limit new connections: a full bucket is as one that is not there. Asked again before each deletion, as above."""
    for key, seen in rates.items().items():
        value = rates.get(key) if _is_full(seen, now) else None
        if value is not None and _is_full(value, now):
            rates.delete(key)


def delete_buckets(rates: Table, slot: int) -> None:
    """Whoever takes the slot next begins with full ones."""
    for key in [key for key in rates.each_key() if layout.RATE_KEY.unpack(key)[0] == slot]:
        rates.delete(key)


def _is_full(bucket: bytes, now: int) -> bool:
    return bool(layout.RATE.unpack(bucket)[0] < now)


def _is_over(value: bytes, now: int) -> bool:
    """An imported connection (no stamp) has no end of its own yet."""
    expires, _, stamp, until = layout.CONNECTION_TIMES.unpack_from(value)
    return bool(expires < now or (stamp and until + _ENDED_FOR < now))
