"""ports.journal.Counters as rows: one per host and key. Knows no name's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from buckler.drivers.store.rows import put_row
from buckler.drivers.store.tables import COUNTERS
from buckler.model.agentapi import Counter
from buckler.model.ids import HostId
from buckler.ports.journal import CounterTotal

_MOST = 2**62
_NAMES = ("local", "peer", "direction", "verdict", "policy", "rule")


class CounterRows:
    """Nothing that a host tells makes a stored count smaller."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, host: HostId, counters: Iterable[Counter], at: float) -> None:
        """See the port."""
        told = {counter.key: counter for counter in counters}
        query = select(COUNTERS).where(COUNTERS.c.host == host, COUNTERS.c.key.in_(told))
        known = {row.key: dict(row._mapping) for row in self._connection.execute(query)}
        for key, counter in told.items():
            put_row(self._connection, COUNTERS, {"host": host, **_row(counter, known.get(key), at)})

    def count(self, host: HostId) -> int:
        """See the port."""
        query = select(func.count()).select_from(COUNTERS).where(COUNTERS.c.host == host)
        return int(self._connection.execute(query).scalar_one())

    def totals(self) -> tuple[CounterTotal, ...]:
        """See the port."""
        found: dict[tuple[str, ...], CounterTotal] = {}
        for row in self._connection.execute(select(COUNTERS)):
            names = tuple(str(getattr(row, name)) for name in _NAMES)
            group = (*names, row.host if row.verdict == "shed" else "")
            packets, octets = row.packets + row.settled_packets, row.bytes + row.settled_bytes
            before = found.get(group)
            hosts = {row.host} if before is None else {*before.hosts, row.host}
            changed = row.changed
            if before is not None:
                packets, octets = packets + before.packets, octets + before.bytes
                changed = max(changed, before.changed)
            ends = dict(zip(_NAMES, names, strict=True))
            found[group] = CounterTotal(
                **ends, packets=packets, bytes=octets, hosts=tuple(sorted(hosts)), changed=changed
            )
        return tuple(found[group] for group in sorted(found))


def _row(counter: Counter, known: Mapping[str, Any] | None, at: float) -> dict[str, Any]:
    packets, octets = _bounded(counter.packets), _bounded(counter.bytes)
    epoch, settled = _bounded(counter.epoch), (0, 0)
    before, changed = 0, 0.0
    if known is not None:
        before, changed = known["packets"] + known["settled_packets"], known["changed"]
        settled = (known["settled_packets"], known["settled_bytes"])
        if epoch > known["epoch"]:
            settled = (_bounded(settled[0] + known["packets"]), _bounded(settled[1] + known["bytes"]))
        else:
            is_same = epoch == known["epoch"]
            packets = max(packets, known["packets"]) if is_same else known["packets"]
            octets = max(octets, known["bytes"]) if is_same else known["bytes"]
            epoch = known["epoch"]
    # PostgreSQL's text holds no NUL, and a host may send anything.
    names = {name: getattr(counter, name).replace("\0", "") for name in _NAMES}
    counts = {"epoch": epoch, "packets": packets, "bytes": octets}
    changed = at if packets + settled[0] > before else changed
    return {
        "key": counter.key,
        **counts,
        "settled_packets": settled[0],
        "settled_bytes": settled[1],
        "changed": changed,
        **names,
    }


def _bounded(number: int) -> int:
    return min(max(number, 0), _MOST)
