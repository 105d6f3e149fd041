"""A tap's table of connections gets another size, and what stands in it comes along. Owns no quota and no slot.

Packets go on meanwhile, on the old table until the swap and on the new one after it; ``swap`` returns when no program
looks at the old one any more. What changed in between is brought over then, unless a packet was faster in the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.table import Table

SIZES = (layout.CONNECTION_KEY.size, layout.CONNECTION.size)


def make_room(room: int) -> Table:
    """Make an empty table of connections."""
    return Table.create(libbpf.HASH, "established", SIZES, room, libbpf.NO_PREALLOC)


def resize(old: Table, quota: int, swap: Callable[[Table], None]) -> None:
    """Bring the table to ``quota`` places, or to as many as stand in it where those are more: none is cut."""
    if old.max_entries == max(quota, len(old.items())):
        return
    table, waiting = old, dict[bytes, bytes]()
    while True:  # again, if more opened meanwhile than there is room for
        new, waiting = _move(table, waiting, quota, swap)
        if table is not old:
            table.close()
        table = new
        if not waiting:
            table.close()
            return


def _move(
    old: Table, waiting: Mapping[bytes, bytes], quota: int, swap: Callable[[Table], None]
) -> tuple[Table, dict[bytes, bytes]]:
    """Swap in a table of what is in ``old`` and what waits; return it, and what found no room."""
    before = old.items()
    held = {**waiting, **before}
    new = make_room(max(quota, len(held)))
    new.put_all(held)
    swap(new)
    after = old.items()
    for key in before.keys() - after.keys():
        if new.get(key) == before[key]:
            new.delete(key)
    late = {key: value for key, value in after.items() if before.get(key) != value}
    fresh = [(key not in held, key, value) for key, value in late.items() if new.get(key) in (None, held.get(key))]
    fresh.sort()  # what needs no room first
    keys, values = [key for _, key, _ in fresh], [value for _, _, value in fresh]
    done = new.put_many(b"".join(keys), b"".join(values))
    return new, dict(zip(keys[done:], values[done:], strict=True))
