"""The half-open connections of one tap as the kernel holds them in sets. Owns reading alone: only the kernel side writes."""

from __future__ import annotations

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.table import Table

_KEY, _VALUE, _SET = layout.CONNECTION_KEY.size, layout.CONNECTION.size, layout.HALF_OPEN_SET.size
_PLACE = _KEY + _VALUE
_TAGS = 4 * layout.HALF_OPEN_WAYS
_FIRST = _SET - layout.HALF_OPEN_WAYS * _PLACE
_FREE = bytes(_TAGS)


def read_waiting(table: Table) -> tuple[bytes, bytes]:
    """All keys and all values. Read twice: a place that got another connection meanwhile is nobody's."""
    before, after = _read_places(table), _read_places(table)
    same = {place: value for place, (tag, key, value) in after.items() if before.get(place, (0, b""))[:2] == (tag, key)}
    return b"".join(after[place][1] for place in same), b"".join(same.values())


def _read_places(table: Table) -> dict[int, tuple[int, bytes, bytes]]:
    """Where in the table → tag, key, value."""
    _, sets = table.dump()
    found = {}
    for start in range(0, len(sets), _SET):
        tags = sets[start : start + _TAGS]
        if tags == _FREE:
            continue
        for way, tag in enumerate(memoryview(tags).cast("I")):
            if tag not in (0, layout.TAG_TAKEN):
                at = start + _FIRST + way * _PLACE
                found[at] = (tag, sets[at : at + _KEY], sets[at + _KEY : at + _PLACE])
    return found
