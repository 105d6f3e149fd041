"""VMs over the API: look, adopt, quarantine, release, migrate, history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec
from litestar import get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter

from buckler.controller.adopting import document_of_rogue
from buckler.controller.bound import bound_policies
from buckler.controller.changes import Wanted, apply_documents
from buckler.controller.moving import order_move
from buckler.controller.operators.callers import AnyRequest, actor_of, find_host, find_vm
from buckler.controller.operators.selecting import parse_selector
from buckler.controller.operators.views import load_scene, task_view, vm_view
from buckler.controller.parts import Parts
from buckler.controller.passports import claims_of, passport_of
from buckler.controller.pool_state import HOST, load_state
from buckler.controller.problems import Refused
from buckler.controller.quarantine import Order, begin_quarantine, end_quarantine, quarantine_view, wait_closed
from buckler.controller.reading import ever_registered, history_of
from buckler.controller.registry import Author
from buckler.controller.series import make_series
from buckler.controller.waiting import wait_enforced
from buckler.model.event import EventKind
from buckler.model.ids import HostId, Revision
from buckler.model.operatorapi import PREFIX
from buckler.model.operatorapi.body import HostWait
from buckler.model.operatorapi.traffic import SampleItem, VmLoad
from buckler.model.operatorapi.vms import (
    AdoptRequest,
    Allowance,
    BoundPolicy,
    HistoryEntry,
    InterfaceView,
    MigrateRequest,
    PassportView,
    QuarantineRequest,
    TaskView,
    VmView,
)
from buckler.model.pool import Vm
from buckler.policy.language import Document, VmSpec
from buckler.ports.store import Unit

_ONE = PREFIX + "/vms/{name:str}"
_SAMPLES = 10_000
_LATER = 1e12


def vm_routes(parts: Parts) -> list[BaseRouteHandler]:
    """Everything about VMs."""

    @get(PREFIX + "/vms", sync_to_thread=True)
    def list_vms(tenant: str = "", selector: str = "") -> list[VmView]:
        chosen = parse_selector(selector)
        with parts.store.read() as unit:
            scene = load_scene(unit, parts.clock())
        found = [each for each in scene.state.registered if each.vm.tenant in {tenant or each.vm.tenant}]
        return [vm_view(scene, each) for each in found if chosen.matches(each.vm.labels)]

    @get(_ONE, sync_to_thread=True)
    def show_vm(name: str, tenant: str = "") -> VmView:
        return _view(parts, name, tenant)

    @get(_ONE + "/passport", sync_to_thread=True)
    def show_passport(name: str, tenant: str = "") -> PassportView:
        with parts.store.read() as unit:
            vm = find_vm(load_state(unit), name, tenant).vm
        return PassportView(passport_of(parts, vm), msgspec.to_builtins(claims_of(parts, vm)))

    @get(_ONE + "/history", sync_to_thread=True)
    def history(name: str, tenant: str = "", limit: int = 0) -> list[HistoryEntry]:
        with parts.store.read() as unit:
            return history_of(parts, unit, name, tenant, limit)

    @get(_ONE + "/samples", sync_to_thread=True)
    def samples(
        name: str,
        tenant: str = "",
        since: float = 0,
        limit: int = Parameter(query="limit", ge=0, le=_SAMPLES, default=0),
    ) -> list[SampleItem]:
        with parts.store.read() as unit:
            vm = find_vm(load_state(unit), name, tenant).vm
            found = unit.samples.of_vm(vm.id, since, _LATER, limit or _SAMPLES)
            hosts = {record.host.id: record.host.name for record in unit.hosts.all()}
        return list(make_series(found, hosts))

    @get(PREFIX + "/load", sync_to_thread=True)
    def load(tenant: str = "", seconds: float = Parameter(query="seconds", ge=1, le=86400, default=60)) -> list[VmLoad]:
        with parts.store.read() as unit:
            hosts = {record.host.id: record.host.name for record in unit.hosts.all()}
            vms = [each.vm for each in load_state(unit).registered if tenant in {"", each.vm.tenant}]
            return [_load(unit, vm, hosts, parts.clock() - 2 * seconds, seconds) for vm in vms]

    @get(_ONE + "/policy", sync_to_thread=True)
    def policy(
        name: str, tenant: str = "", at: float = Parameter(query="at", ge=0, default=0), host: str = ""
    ) -> list[BoundPolicy]:
        with parts.store.read() as unit:
            return bound_policies(parts, unit, ever_registered(unit, name, tenant), at, host)

    @post(PREFIX + "/vms/adopt", status_code=200)
    async def adopt(request: AnyRequest, data: AdoptRequest) -> VmView:
        document = await asyncio.to_thread(_rogue, parts, data)
        wanted = Wanted(documents=(document,), dry_run=data.dry_run)
        await apply_documents(parts, wanted, Author(actor_of(request), "adopted", EventKind.VM_ADOPTED))
        if data.dry_run:
            return _planned(document)
        return await asyncio.to_thread(_view, parts, data.name, data.tenant)

    @post(_ONE + "/quarantine", status_code=200)
    async def quarantine(request: AnyRequest, name: str, data: QuarantineRequest, tenant: str = "") -> VmView:
        return await _quarantined(parts, (name, tenant), data, actor_of(request), on=True)

    @post(_ONE + "/release", status_code=200)
    async def release(request: AnyRequest, name: str, data: QuarantineRequest, tenant: str = "") -> VmView:
        return await _quarantined(parts, (name, tenant), data, actor_of(request), on=False)

    @post(_ONE + "/migrate", status_code=200, sync_to_thread=True)
    def migrate(request: AnyRequest, name: str, data: MigrateRequest, tenant: str = "") -> TaskView:
        with parts.store.write() as unit:
            vm = find_vm(load_state(unit), name, tenant)
            if not vm.attributes.get(HOST):
                raise Refused(409, f"{name} cannot move", "no host reports it")
            source, destination = find_host(unit, vm.attributes[HOST]).host, find_host(unit, data.host).host
            record = order_move(parts, unit, vm, source, destination, actor_of(request), dry_run=data.dry_run)
            names = {each.host.id: each.host.name for each in unit.hosts.all()}
        parts.news.ring()
        return task_view(record, names)

    return [list_vms, show_vm, show_passport, history, policy, samples, load, adopt, quarantine, release, migrate]


def _load(unit: Unit, vm: Vm, hosts: Mapping[HostId, str], since: float, seconds: float) -> VmLoad:
    series = make_series(unit.samples.of_vm(vm.id, since, _LATER, _SAMPLES), hosts)
    last = series[-1] if series else None
    older = [item for item in series if last is not None and item.at <= last.at - seconds]
    earlier = older[-1] if older else series[0] if len(series) > 1 else None
    return VmLoad(vm=vm.name, tenant=vm.tenant, last=last, earlier=earlier)


async def _quarantined(
    parts: Parts, vm: tuple[str, str], request: QuarantineRequest, actor: str, *, on: bool
) -> VmView:
    revision = await asyncio.to_thread(set_quarantine, parts, vm, request, actor, on=on)
    waiting: tuple[HostWait, ...] = ()
    if request.wait and not request.dry_run:
        wait = wait_closed if on else wait_enforced
        waiting = await wait(parts, revision, min(request.wait, 600))
    view = await asyncio.to_thread(_view, parts, *vm)
    return msgspec.structs.replace(view, waiting=waiting, quarantined=on if request.dry_run else view.quarantined)


def set_quarantine(parts: Parts, vm: tuple[str, str], request: QuarantineRequest, actor: str, *, on: bool) -> Revision:
    """Put a VM into quarantine or take it out; return the revision that says so."""
    if not request.reason.strip():
        raise Refused(400, "a quarantine needs a reason, and so does its end")
    if not on and request.allow is not Allowance.NOTHING:
        raise Refused(400, "a release allows nothing of its own", "the pool's policies decide again")
    if request.dry_run:
        with parts.store.read() as unit:
            find_vm(load_state(unit), *vm)
            return unit.revisions.current()
    with parts.store.write() as unit:
        found, order = find_vm(load_state(unit), *vm), Order(actor, request.reason, request.allow)
        revision = (begin_quarantine if on else end_quarantine)(parts, unit, found, order)
    parts.work.ring()
    return revision


def _planned(document: Document) -> VmView:
    """Show what an adoption would register."""
    spec = document.spec
    if not isinstance(spec, VmSpec):
        raise TypeError(f"{document.key} is no VM")
    cards = tuple(InterfaceView(card.mac, card.network, card.addresses, labels=card.labels) for card in spec.interfaces)
    return VmView(
        "", 0, document.name, document.tenant, spec.uuid, document.labels, spec.mode,
        interfaces=cards, owner=spec.owner, purpose=spec.purpose,
    )  # fmt: skip


def _rogue(parts: Parts, request: AdoptRequest) -> Document:
    with parts.store.read() as unit:
        return document_of_rogue(unit, request)


def _view(parts: Parts, name: str, tenant: str) -> VmView:
    with parts.store.read() as unit:
        scene = load_scene(unit, parts.clock())
        found = find_vm(scene.state, name, tenant)
        quarantine = quarantine_view(parts, unit, found)
    return msgspec.structs.replace(vm_view(scene, found), quarantine=quarantine)
