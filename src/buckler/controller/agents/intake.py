"""What agents report: acknowledgements, events, observations, flows, task results. Believes a host for itself only."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from litestar import post, put
from litestar.handlers import BaseRouteHandler

from buckler.controller.agents.bounds import (
    fit_acknowledgement,
    fit_count,
    fit_event,
    fit_flow,
    fit_observation,
    fit_sample,
)
from buckler.controller.agents.callers import AnyRequest, caller_of
from buckler.controller.observed import note_observation
from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.controller.responding import Responder
from buckler.ledger.canonical import NotCanonical
from buckler.model.agentapi import (
    Acknowledgement,
    CounterReport,
    EventBatch,
    EventsStored,
    FlowBatch,
    Observation,
    SampleBatch,
    SamplesStored,
    TaskReport,
    TaskState,
)
from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId
from buckler.ports.roster import TaskRecord
from buckler.ports.store import Unit

_BATCH = 5000
_EVENT_SIZE = 64 * 1024
_FLOW_SIZE = 4 * 1024
_COUNTERS = 250_000
_NUMBERS = 2**53
_FROM_HOSTS = (
    *("domain.", "interface.", "gate.", "migration.", "agent.", "witness.", "clock."),
    *(EventKind.REVISION_ENFORCED.value, EventKind.DRIFT_REPAIRED.value, EventKind.GAP.value),
)
_ENDED = frozenset({TaskState.DONE, TaskState.FAILED})


def intake_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything that a host tells."""
    responder = Responder(parts)

    @post("/agent/v1/ack", status_code=204, sync_to_thread=True)
    def ack(request: AnyRequest, data: Acknowledgement) -> None:
        host = caller_of(parts, request).host.id
        with parts.store.write() as unit:
            published = unit.manifests.order(host)
            if data.revision > (published.revision if published else 0):
                raise Refused(409, "no such revision was published for this host")
            unit.acks.put(host, fit_acknowledgement(data, parts.clock()))
        parts.work.ring()
        parts.news.ring()

    @post("/agent/v1/events", status_code=200, sync_to_thread=True)
    def events(request: AnyRequest, data: EventBatch) -> EventsStored:
        host = caller_of(parts, request).host.id
        with parts.store.write() as unit:
            through = store_events(parts, unit, host, data.events)
        return EventsStored(through=through)

    @put("/agent/v1/observed", status_code=204, sync_to_thread=True)
    def observed(request: AnyRequest, data: Observation) -> None:
        host = caller_of(parts, request).host
        with parts.store.write() as unit:
            wakes = note_observation(parts, unit, host, fit_observation(data, parts.clock()))
        if wakes:
            parts.work.ring()

    @post("/agent/v1/flows", status_code=204, sync_to_thread=True)
    def flows(request: AnyRequest, data: FlowBatch) -> None:
        host = caller_of(parts, request).host
        if len(data.flows) > _BATCH or any(len(msgspec.json.encode(flow)) > _FLOW_SIZE for flow in data.flows):
            raise Refused(413, "too many flows in one batch, or one that is too large")
        with parts.store.write() as unit:
            flows_of_host = [fit_flow(flow, host.name, parts.clock()) for flow in data.flows]
            name = data.name[:100].replace("\0", "")
            unit.flows.put(host.id, flows_of_host, fit_count(data.shed), name)
        responder.take(host, flows_of_host, name)

    @put("/agent/v1/counters", status_code=204, sync_to_thread=True)
    def counters(request: AnyRequest, data: CounterReport) -> None:
        host = caller_of(parts, request).host.id
        if len(data.counters) > _BATCH or any(len(msgspec.json.encode(each)) > _FLOW_SIZE for each in data.counters):
            raise Refused(413, "too many counters in one report, or one that is too large")
        with parts.store.write() as unit:
            unit.counters.put(host, data.counters, parts.clock())
            if unit.counters.count(host) > _COUNTERS:
                raise Refused(413, "too many different counters of one host")

    @post("/agent/v1/samples", status_code=200, sync_to_thread=True)
    def samples(request: AnyRequest, data: SampleBatch) -> SamplesStored:
        host = caller_of(parts, request).host.id
        if len(data.samples) > _BATCH or any(not 0 < each.sequence < _NUMBERS for each in data.samples):
            raise Refused(413, "too many samples in one batch, or one whose number cannot be")
        with parts.store.write() as unit:
            ever = {vm.id for vm in unit.vms.ever()}
            known = [fit_sample(each, parts.clock()) for each in data.samples if each.vm in ever]
            through = unit.samples.put(host, known, [each.sequence for each in data.samples])
        return SamplesStored(through=through)

    @post("/agent/v1/tasks", status_code=204, sync_to_thread=True)
    def tasks(request: AnyRequest, data: TaskReport) -> None:
        host = caller_of(parts, request).host.id
        with parts.store.write() as unit:
            record = unit.tasks.get(data.id)
            if record is None or record.task.host != host:
                raise Refused(404, "no such task of this host")
            if record.state not in _ENDED:
                _note_report(parts, unit, record, data)
        parts.work.ring()

    return [ack, events, observed, flows, counters, samples, tasks]


def store_events(parts: Parts, unit: Unit, host: HostId, events: tuple[Event, ...]) -> int:
    """Append those events that are new, in order; return the highest stored sequence. Raises Refused."""
    through = unit.intakes.through(host)
    if len(events) > _BATCH:
        raise Refused(413, "too many events in one batch")
    tenants: dict[str, str] = {vm.id: vm.tenant for vm in unit.vms.ever()}
    for event in events:
        if event.sequence <= through:
            continue
        if event.sequence != through + 1:
            raise Refused(409, f"event {through + 1} is missing", through=through)
        _refuse_unfit(event, through)
        try:
            parts.record(unit, _from_host(fit_event(event, parts.clock()), host, tenants))
        except NotCanonical as error:
            raise Refused(400, "an event that cannot be recorded", str(error), through=through) from error
        through = event.sequence
    unit.intakes.advance(host, through)
    return through


def _from_host(event: Event, host: HostId, tenants: Mapping[str, str]) -> Event:
    """Put in what the controller knows better than the host that tells: who tells it, and whose VM it is."""
    if event.vm and event.vm not in tenants:
        claimed = {**event.detail, "claimed_vm": event.vm}
        return msgspec.structs.replace(event, host=host, vm="", tenant="", detail=claimed)
    return msgspec.structs.replace(event, host=host, tenant=tenants.get(event.vm, ""))


def _refuse_unfit(event: Event, through: int) -> None:
    if not event.kind.value.startswith(_FROM_HOSTS):
        raise Refused(403, f"{event.kind.value} is not a host's to tell", through=through)
    if len(msgspec.json.encode(event)) > _EVENT_SIZE:
        raise Refused(413, "one event is too large", through=through)


def _note_report(parts: Parts, unit: Unit, record: TaskRecord, report: TaskReport) -> None:
    now = parts.clock()
    changed = {"state": report.state, "message": report.message[:1000], "updated_at": now}
    unit.tasks.put(msgspec.structs.replace(record, **changed))
    if report.state in _ENDED:
        detail = {"task": record.task.id, "state": report.state.value, "message": report.message[:1000]}
        event = Event(EventKind.TASK_ENDED, now, host=record.task.host, vm=record.task.vm, detail=detail)
        parts.record(unit, event)
