"""The books of event intake, observations and flows as rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection, delete, func, or_, select

from buckler.drivers.store.rows import insert_rows, note_change, put_row, text_of, value_of
from buckler.drivers.store.tables import FLOW_INTAKES, FLOWS, INTAKES, OBSERVATIONS, VMS
from buckler.model.agentapi import Observation
from buckler.model.flow import FlowRecord
from buckler.model.ids import HostId
from buckler.ports.journal import FlowQuery, StoredFlow
from buckler.ports.publication import Written

_OBSERVED = "observed"
"""The reason by which a flow was allowed only because its VM is observed: it can be asked for like a verdict."""


class IntakeRows:
    """ports.journal.Intakes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def through(self, host: HostId) -> int:
        return int(value_of(self._connection, INTAKES, "through", host=host) or 0)

    def advance(self, host: HostId, through: int) -> None:
        put_row(self._connection, INTAKES, {"host": host, "through": through})


class ObservationRows:
    """ports.journal.Observations."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, host: HostId) -> Observation | None:
        content = value_of(self._connection, OBSERVATIONS, "content", host=host)
        return msgspec.json.decode(content, type=Observation) if content is not None else None

    def all(self) -> dict[HostId, Observation]:
        rows = self._connection.execute(select(OBSERVATIONS))
        return {HostId(row.host): msgspec.json.decode(row.content, type=Observation) for row in rows}

    def put(self, host: HostId, observation: Observation) -> None:
        put_row(self._connection, OBSERVATIONS, {"host": host, "content": text_of(observation)})
        note_change(self._connection, Written.OBSERVATION, host)


class FlowRows:
    """ports.journal.Flows; ``size`` bounds the ring."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection = connection
        self._size = size

    def put(self, host: HostId, flows: Iterable[FlowRecord], shed: int, batch: str = "") -> None:
        if batch:
            if value_of(self._connection, FLOW_INTAKES, "batch", host=host) == batch:
                return
            put_row(self._connection, FLOW_INTAKES, {"host": host, "batch": batch})
        rows = [{**_row(flow), "host": host} for flow in flows]
        if rows:
            rows[0]["shed"] = shed
        insert_rows(self._connection, FLOWS, rows)
        held = select(FLOWS.c.host, func.count()).group_by(FLOWS.c.host)
        counts = {row[0]: row[1] for row in self._connection.execute(held)}
        for loud, count in fair_excess(counts, self._size).items():
            oldest = select(FLOWS.c.cursor).where(FLOWS.c.host == loud).order_by(FLOWS.c.cursor).limit(count)
            last = self._connection.execute(select(func.max(oldest.subquery().c.cursor))).scalar()
            self._connection.execute(delete(FLOWS).where(FLOWS.c.host == loud, FLOWS.c.cursor <= last))

    def find(self, query: FlowQuery) -> tuple[StoredFlow, ...]:
        found = select(FLOWS).where(FLOWS.c.cursor > query.after)
        if query.verdict:
            also = {_OBSERVED} if query.verdict == "allow" else set()
            found = found.where(FLOWS.c.verdict.in_({query.verdict, *also}))
        for column, wanted in (
            (FLOWS.c.origin, query.origin),
            (FLOWS.c.destination, query.to),
        ):
            found = found.where(column == wanted) if wanted else found
        if query.tenant:
            mine = select(VMS.c.name).where(VMS.c.tenant == query.tenant)
            found = found.where(or_(FLOWS.c.origin.in_(mine), FLOWS.c.destination.in_(mine)))
        order = FLOWS.c.cursor.asc() if query.after else FLOWS.c.cursor.desc()
        rows = self._connection.execute(found.order_by(order).limit(query.limit)).all()
        flows = [StoredFlow(row.cursor, msgspec.json.decode(row.content, type=FlowRecord), row.shed) for row in rows]
        return tuple(sorted(flows, key=lambda flow: flow.cursor))


def fair_excess(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """How many records each host gives up so that all fit: who has no more than an equal share gives none."""
    room, waiting = size, sorted(counts.items(), key=lambda item: item[1])
    excess = {}
    while waiting:
        host, count = waiting.pop(0)
        share = min(count, room // (len(waiting) + 1))
        room -= share
        if count > share:
            excess[host] = count - share
    return excess


def _row(flow: FlowRecord) -> dict[str, object]:
    origin, destination = (flow.local, flow.peer) if flow.direction == "egress" else (flow.peer, flow.local)
    # PostgreSQL's text holds no NUL, and a host may send anything.
    return {
        "verdict": _OBSERVED if flow.reason == _OBSERVED else flow.verdict.replace("\0", ""),
        "origin": origin.replace("\0", ""),
        "destination": destination.replace("\0", ""),
        "shed": flow.shed_before,
        "content": text_of(flow),
    }
