"""Answers about the pool: explain, reach, flows, tasks, status, unprotected, rogues."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import msgspec
from litestar import get
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from litestar.response import Stream

from buckler.controller.numbering import read_numbers
from buckler.controller.operators.views import list_rogues, task_view
from buckler.controller.parts import Parts
from buckler.controller.pool_state import load_state
from buckler.controller.problems import Refused
from buckler.controller.ticking import at_time
from buckler.controller.usage import list_unused
from buckler.model.ids import HostId, VmId
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.answers import Explanation, NameAnswer, PolicyFinding, Reach, UnusedRules
from buckler.model.operatorapi.pool import Rogue
from buckler.model.operatorapi.traffic import CounterItem, FlowItem
from buckler.model.operatorapi.vms import TaskView
from buckler.policy.draft import Draft
from buckler.policy.explain import NoSuchPacket
from buckler.policy.explainvirtual import explain_connection
from buckler.policy.lend import lend_numbers
from buckler.policy.pairs import answer_reach
from buckler.policy.party import UnknownEnd
from buckler.policy.questions import find_oddities
from buckler.policy.timing import active
from buckler.ports.journal import CounterTotal, FlowQuery, StoredFlow
from buckler.ports.store import Unit

_PAGE = 10_000
_FOLLOW_PERIOD = 0.5
_HEARTBEATS = 10


def answer_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything that only reads."""

    @get(PREFIX + "/explain", sync_to_thread=True)
    def explain_path(
        to: str,
        origin: str = Parameter(query="from"),
        protocol: str = "TCP",
        port: int = Parameter(query="port", ge=0, le=65535, default=0),
        tenant: str = "",
    ) -> Explanation:
        with parts.store.read() as unit:
            state = at_time(load_state(unit), parts.clock()).state
        try:
            return explain_connection(state.pool, state.documents, origin, to, protocol, port, tenant)
        except UnknownEnd as error:
            raise Refused(404, "no such end", str(error)) from error
        except NoSuchPacket as error:
            raise Refused(422, "no such packet", str(error)) from error

    @get(PREFIX + "/reach", sync_to_thread=True)
    def reach(tenant: str = "", origin: str = Parameter(query="from", default=""), to: str = "") -> Reach:
        with parts.store.read() as unit:
            state, revision = at_time(load_state(unit), parts.clock()).state, unit.revisions.current()
            numbers = lend_numbers(read_numbers(unit), state.pool, state.documents)
        try:
            return answer_reach(Draft(state.pool, state.documents, numbers), revision, tenant, origin, to)
        except UnknownEnd as error:
            raise Refused(404, "no such end", str(error)) from error

    @get(PREFIX + "/policy-findings", sync_to_thread=True)
    def policy_findings() -> list[PolicyFinding]:
        with parts.store.read() as unit:
            written = load_state(unit)
            state = at_time(written, parts.clock()).state
            numbers = lend_numbers(read_numbers(unit), state.pool, state.documents)
        over = active(written.documents, parts.clock()).over
        today = dt.datetime.fromtimestamp(parts.clock(), dt.UTC).date().isoformat()
        return list(find_oddities(state.pool, state.documents, numbers, today, over))

    @get(PREFIX + "/flows", sync_to_thread=False)
    def flows(
        verdict: str = "",
        origin: str = Parameter(query="from", default=""),
        to: str = "",
        after: int = Parameter(query="after", ge=0, default=0),
        limit: int = Parameter(query="limit", ge=0, default=0),
        follow: bool = False,
        tenant: str = "",
    ) -> Stream:
        query = FlowQuery(verdict, origin, to, after, min(limit or 100, _PAGE), tenant)
        lines = _followed(parts, query) if follow else _found(parts, query)
        return Stream(lines, media_type="application/x-ndjson" if follow else "application/json")

    @get(PREFIX + "/counters", sync_to_thread=True)
    def counters(
        verdict: str = "", origin: str = Parameter(query="from", default=""), to: str = "", tenant: str = ""
    ) -> list[CounterItem]:
        with parts.store.read() as unit:
            names = {record.host.id: record.host.name for record in unit.hosts.all()}
            items = [_counter_item(total, names) for total in unit.counters.totals()]
            mine = {vm.name for vm in unit.vms.ever() if vm.tenant == tenant} if tenant else None
        return [item for item in items if _is_wanted(item, verdict, origin, to) and _is_of(item, mine)]

    @get(PREFIX + "/names", sync_to_thread=True)
    def names() -> list[NameAnswer]:
        with parts.store.read() as unit:
            state = load_state(unit)
        vms = {each.record.id: each.record.name for each in state.registered}
        tenants = {network.name: network.tenant for network in state.pool.networks}
        return [
            NameAnswer(
                each.name,
                each.address,
                each.network,
                tenants.get(each.network, ""),
                vms.get(VmId(each.vm), each.vm),
                each.resolver,
                each.at,
                each.until,
            )
            for each in state.learned
        ]

    @get(PREFIX + "/unused", sync_to_thread=True)
    def unused(days: int = Parameter(query="days", ge=0, le=100_000, default=0)) -> UnusedRules:
        with parts.store.read() as unit:
            return list_unused(unit, parts.clock(), days)

    @get(PREFIX + "/tasks", sync_to_thread=True)
    def list_tasks() -> list[TaskView]:
        with parts.store.read() as unit:
            return list(_tasks(unit).values())

    @get(PREFIX + "/tasks/{task:str}", sync_to_thread=True)
    def show_task(task: str) -> TaskView:
        with parts.store.read() as unit:
            found = _tasks(unit).get(task)
        if found is None:
            raise Refused(404, "no such task")
        return found

    @get(PREFIX + "/rogues", sync_to_thread=True)
    def rogues() -> list[Rogue]:
        with parts.store.read() as unit:
            return list(list_rogues(unit, load_state(unit)))

    return [explain_path, reach, policy_findings, flows, counters, unused, names, list_tasks, show_task, rogues]


def _counter_item(total: CounterTotal, names: dict[HostId, str]) -> CounterItem:
    hosts = tuple(sorted(names.get(HostId(host), host) for host in total.hosts))
    fields = {**msgspec.structs.asdict(total), "hosts": hosts}
    return CounterItem(**{name: fields[name] for name in CounterItem.__struct_fields__})


def _is_wanted(item: CounterItem, verdict: str, origin: str, to: str) -> bool:
    ends = (item.local, item.peer) if item.direction == "egress" else (item.peer, item.local)
    if item.verdict == "shed" and not verdict:
        return True
    return verdict in {"", item.verdict} and origin in {"", ends[0]} and to in {"", ends[1]}


def _is_of(item: CounterItem, mine: set[str] | None) -> bool:
    """Say whether an end is called as one of these; what was shed has no ends."""
    return mine is None or item.verdict == "shed" or bool(mine & {item.local, item.peer})


def _tasks(unit: Unit) -> dict[str, TaskView]:
    names = {record.host.id: record.host.name for record in unit.hosts.all()}
    return {record.task.id: task_view(record, names) for record in unit.tasks.all()}


async def _found(parts: Parts, query: FlowQuery) -> AsyncIterator[bytes]:
    yield msgspec.json.encode([_item(each) for each in await asyncio.to_thread(_find, parts, query)])


async def _followed(parts: Parts, query: FlowQuery) -> AsyncIterator[bytes]:
    quiet = 0
    while True:
        found = await asyncio.to_thread(_find, parts, query)
        for each in found:
            yield msgspec.json.encode(_item(each)) + b"\n"
        if found:
            query = msgspec.structs.replace(query, after=found[-1].cursor, limit=_PAGE)
        elif query.after == 0:
            query = msgspec.structs.replace(query, limit=_PAGE)
        quiet = 0 if found else quiet + 1
        if quiet == _HEARTBEATS:
            yield b"\n"
            quiet = 0
        await asyncio.sleep(_FOLLOW_PERIOD)


def _find(parts: Parts, query: FlowQuery) -> tuple[StoredFlow, ...]:
    with parts.store.read() as unit:
        return unit.flows.find(query)


def _item(stored: StoredFlow) -> FlowItem:
    return FlowItem(cursor=stored.cursor, flow=stored.flow, shed=stored.shed)
