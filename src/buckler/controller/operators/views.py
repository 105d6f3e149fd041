"""Rows as the API shows them. Reads what it is given; decides nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.controller.changes import etag_of
from buckler.controller.numbering import read_numbers
from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, PASSPORT, QUARANTINE, STATE, Registered, State, load_state
from buckler.controller.sights import Sight, is_active, sights
from buckler.controller.ticking import at_time
from buckler.controller.twins import twins_of
from buckler.model.agentapi import Acknowledgement, AddressSource, Observation, ObservedInterface
from buckler.model.ids import HostId, Revision, VmId
from buckler.model.operatorapi.hosts import HostView
from buckler.model.operatorapi.pool import Rogue
from buckler.model.operatorapi.vms import InterfaceView, PolicyName, TaskView, VmView
from buckler.model.pool import HostState
from buckler.policy.language import Document, VmSpec
from buckler.policy.pool import Station, identity_key, singled_out, stations
from buckler.policy.rules import Rule, list_rules
from buckler.policy.whose import rules_by_labels
from buckler.ports.publication import Order
from buckler.ports.roster import HostRecord, TaskRecord
from buckler.ports.store import Unit


class Scene(msgspec.Struct, frozen=True):
    """What several views are made from, read once."""

    state: State
    stations: dict[VmId, tuple[Station, ...]]
    rules: dict[str, tuple[Rule, ...]]
    """By label set (``identity_key``)."""
    seen: dict[str, tuple[Sight, ...]]
    identities: dict[str, int]
    documents: dict[str, Document]


def load_scene(unit: Unit, now: float) -> Scene:
    """Read everything that VM views need."""
    state = at_time(load_state(unit), now).state
    found = tuple(stations(state.pool, singled_out(state.documents)))
    by_vm: dict[VmId, tuple[Station, ...]] = {}
    for station in found:
        by_vm[station.vm.id] = (*by_vm.get(station.vm.id, ()), station)
    return Scene(
        state=state,
        stations=by_vm,
        rules=rules_by_labels((station.labels for station in found), list_rules(state.documents)),
        seen=sights(unit),
        identities=dict(read_numbers(unit).identities),
        documents={document.key: document for document in state.documents},
    )


def vm_view(scene: Scene, each: Registered) -> VmView:
    """Show one VM."""
    key = f"VM/{each.vm.tenant}/{each.vm.name}"
    spec = scene.documents[key].spec
    seen = scene.seen.get(each.vm.uuid, ())
    mine = scene.stations.get(each.vm.id, ())
    return VmView(
        id=each.vm.id,
        number=each.vm.number,
        name=each.vm.name,
        tenant=each.vm.tenant,
        uuid=each.vm.uuid,
        labels=dict(scene.documents[key].labels),
        mode=each.vm.mode,
        quarantined=QUARANTINE in each.attributes,
        host=each.attributes.get(HOST, ""),
        state=each.attributes.get(STATE, "unknown"),
        has_passport=PASSPORT in each.attributes,
        interfaces=tuple(_interface(scene, each, card.mac, mine, seen) for card in each.vm.interfaces),
        policies=_policies(scene, mine),
        owner=spec.owner if isinstance(spec, VmSpec) else "",
        purpose=spec.purpose if isinstance(spec, VmSpec) else "",
        etag=etag_of(scene.state.stored[key][0]),
    )


def host_views(parts: Parts, unit: Unit, state: State, records: Iterable[HostRecord]) -> tuple[HostView, ...]:
    """Show hosts."""
    acks, observations = unit.acks.all(), unit.observations.all()
    views = []
    for record in records:
        ack = acks.get(record.host.id, Acknowledgement(Revision(0), 0))
        manifest = unit.manifests.order(record.host.id)
        views.append(_host_view(parts, record, state, ack, manifest, observations.get(record.host.id)))
    return tuple(views)


def _host_view(
    parts: Parts,
    record: HostRecord,
    state: State,
    ack: Acknowledgement,
    manifest: Order | None,
    observation: Observation | None,
) -> HostView:
    host = record.host
    known = {each.vm.uuid for each in state.registered}
    rogues = [domain for domain in observation.domains if domain.uuid not in known] if observation else []
    problems = (*ack.problems, *(observation.problems if observation else ()))
    return HostView(
        id=host.id,
        name=host.name,
        state=host.state,
        fabric=host.fabric,
        addresses=host.addresses,
        migrate_uri=host.migrate_uri,
        connected=parts.presence.is_connected(host.id),
        seen_at=record.seen_at,
        wanted=manifest.revision if manifest and host.state is not HostState.REVOKED else 0,
        enforced=ack.revision,
        stage=manifest.stage if manifest else "",
        vms=tuple(sorted(each.vm.name for each in state.registered if each.attributes.get(HOST) == host.name)),
        rogues=len(rogues),
        problems=tuple(dict.fromkeys(problems)),
    )


def task_view(record: TaskRecord, names: dict[HostId, str]) -> TaskView:
    """Show one task."""
    return TaskView(
        id=record.task.id,
        kind=record.task.kind.value,
        vm=record.vm_name,
        source=names.get(record.task.host, record.task.host),
        destination=names.get(record.task.destination, record.task.destination),
        state=record.state,
        message=record.message,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def list_rogues(unit: Unit, state: State) -> tuple[Rogue, ...]:
    """Every observed domain that nobody registered, and every copy of a VM that runs elsewhere."""
    names = {each.vm.uuid: each.vm.name for each in state.registered}
    seen = sights(unit)
    members = [record.host for record in unit.hosts.all() if record.host.state is not HostState.REVOKED]
    twins = {(uuid, host) for host, uuids in twins_of(state, seen).items() for uuid in uuids}
    return tuple(
        _rogue(sight, names.get(uuid, ""))
        for uuid, each in sorted(seen.items())
        for sight in each
        if sight.host in members and (uuid not in names or (uuid, sight.host.id) in twins)
    )


def _rogue(sight: Sight, twin_of: str) -> Rogue:
    domain = sight.domain
    macs = tuple(card.mac for card in domain.interfaces)
    bridges = tuple(card.bridge for card in domain.interfaces if card.bridge)
    return Rogue(domain.uuid, domain.name, sight.host.name, domain.state, macs, bridges, sight.at, twin_of)


def _interface(
    scene: Scene, each: Registered, mac: str, mine: tuple[Station, ...], seen: tuple[Sight, ...]
) -> InterfaceView:
    card = next(card for card in each.vm.interfaces if card.mac == mac)
    station = next((station for station in mine if station.interface.mac == mac), None)
    observed = _observed(each, mac, seen)
    return InterfaceView(
        mac=mac,
        network=card.network,
        addresses=station.addresses if station else card.addresses,
        sources=_sources(each, mac, station.addresses if station else card.addresses),
        labels=dict(station.labels) if station else dict(card.labels),
        identity=scene.identities.get(identity_key(station.labels), 0) if station else 0,
        device=observed.device if observed else "",
        bridge=observed.bridge if observed else "",
        admitted=observed.admitted if observed else False,
        reason=observed.reason if observed else "",
    )


def _sources(each: Registered, mac: str, addresses: tuple[str, ...]) -> dict[str, str]:
    declared = {address for card in each.declared.interfaces if card.mac == mac for address in card.addresses}
    sources = dict.fromkeys(addresses, AddressSource.IMPLIED.value)
    sources |= {grant.address: grant.source.value for grant in each.grants if grant.mac == mac}
    sources |= dict.fromkeys(declared, AddressSource.DECLARED.value)
    return {address: sources[address] for address in addresses}


def _observed(each: Registered, mac: str, seen: tuple[Sight, ...]) -> ObservedInterface | None:
    for sight in seen:
        if sight.host.name == each.attributes.get(HOST) and is_active(sight.domain):
            return next((card for card in sight.domain.interfaces if card.mac.lower() == mac.lower()), None)
    return None


def _policies(scene: Scene, mine: tuple[Station, ...]) -> tuple[PolicyName, ...]:
    names: dict[str, PolicyName] = {}
    for rule in (rule for station in mine for rule in scene.rules[identity_key(station.labels)]):
        kind, tenant, _ = rule.document.split("/", 2)
        if not rule.policy.startswith("buckler:"):
            names.setdefault(rule.document, PolicyName(kind, rule.policy, tenant, rule.tier.value))
    return tuple(names.values())
