"""ports.journal.Samples as rows: a ring for each host. Sums up nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select

from buckler.drivers.store.rows import insert_rows, put_row, text_of
from buckler.drivers.store.tables import SAMPLE_INTAKES, SAMPLES
from buckler.model.ids import HostId, VmId
from buckler.model.sample import Sample
from buckler.ports.journal import SampleIntake, StoredSample, VmSamples


class SampleRows:
    """``size`` bounds what is kept of one host; of each VM its last sample before that stays, to count on from."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._size = size

    def intakes(self) -> dict[HostId, SampleIntake]:
        """See the port."""
        rows = self._connection.execute(select(SAMPLE_INTAKES))
        return {HostId(row.host): SampleIntake(row.through, row.shed) for row in rows}

    def put(self, host: HostId, samples: Iterable[Sample], heard: Iterable[int]) -> int:
        """See the port."""
        row = self._connection.execute(select(SAMPLE_INTAKES).where(SAMPLE_INTAKES.c.host == host)).one_or_none()
        known, shed, pruned = (row.through, row.shed, row.pruned) if row is not None else (0, 0, 0)
        numbers = {number for number in heard if number > known}
        told = {each.sequence: each for each in samples if each.sequence in numbers}
        insert_rows(self._connection, SAMPLES, [_row(host, told[number]) for number in sorted(told)])
        through = max(numbers, default=known)
        shed += through - known - len(numbers)
        if through - pruned >= self._size + max(self._size // 10, 1):
            pruned = through - self._size
            self._prune(host, pruned)
        put_row(self._connection, SAMPLE_INTAKES, {"host": host, "through": through, "shed": shed, "pruned": pruned})
        return int(through)

    def of_vm(self, vm: VmId, since: float, until: float, limit: int) -> VmSamples:
        """See the port."""
        mine = SAMPLES.c.vm == vm
        wanted = select(SAMPLES).where(mine, SAMPLES.c.at >= since, SAMPLES.c.at < until)
        newest = wanted.order_by(SAMPLES.c.at.desc(), SAMPLES.c.host, SAMPLES.c.sequence.desc()).limit(limit)
        found = self._connection.execute(newest).all()
        first = found[-1].at if len(found) == limit else since
        before: list[StoredSample] = []
        for host in self._connection.execute(select(SAMPLES.c.host).where(mine).distinct()).scalars().all():
            older = select(SAMPLES).where(mine, SAMPLES.c.host == host, SAMPLES.c.at < first)
            last = self._connection.execute(older.order_by(SAMPLES.c.sequence.desc()).limit(1))
            before += [_stored(row) for row in last]
        return VmSamples(tuple(before), tuple(_stored(row) for row in reversed(found)))

    def _prune(self, host: HostId, through: int) -> None:
        old = (SAMPLES.c.host == host, SAMPLES.c.sequence <= through)
        last = select(func.max(SAMPLES.c.sequence)).where(*old).group_by(SAMPLES.c.vm)
        kept = list(self._connection.execute(last).scalars())
        self._connection.execute(delete(SAMPLES).where(*old, SAMPLES.c.sequence.not_in(kept)))


def _row(host: HostId, sample: Sample) -> dict[str, object]:
    return {"host": host, "sequence": sample.sequence, "vm": sample.vm, "at": sample.at, "content": text_of(sample)}


def _stored(row: Any) -> StoredSample:
    return StoredSample(HostId(row.host), msgspec.json.decode(row.content, type=Sample))
