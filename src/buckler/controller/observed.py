"""What a host reports of its domains, laid beside what is registered. A host is believed for itself only."""

from __future__ import annotations

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.passports import is_passport_of, trusted_issuers
from buckler.controller.pool_state import HOST, PASSPORT, STATE, attributes_now, document_of, merge_attributes
from buckler.model.agentapi import Observation, ObservedDomain
from buckler.model.domain import DomainState
from buckler.model.ids import VmId
from buckler.model.pool import Host, HostState
from buckler.policy.language import Kind, VmSpec
from buckler.ports.store import Unit
from buckler.trust.statement import KeySet

_INACTIVE = frozenset({DomainState.SHUTOFF.value, DomainState.CRASHED.value})


class Sight(msgspec.Struct, frozen=True):
    """A domain as one host sees it."""

    host: Host
    domain: ObservedDomain
    at: float


def note_observation(parts: Parts, unit: Unit, host: Host, observation: Observation) -> bool:
    """Store a host's report and what it changes of VMs; say whether the engine has to look."""
    before = unit.observations.all().get(host.id)
    unit.observations.put(host.id, observation)
    uuids = _vms_by_uuid(unit)
    keys = trusted_issuers(parts, unit)
    for domain in observation.domains:
        vm = uuids.get(domain.uuid)
        if vm is not None:
            _note_domain(parts, unit, host, vm, domain, keys)
    _note_absent(parts, unit, host, uuids, observation)
    is_draining = host.state is HostState.DRAINING
    return is_draining or before is None or _passports(before) != _passports(observation)


def sights(unit: Unit) -> dict[str, tuple[Sight, ...]]:
    """All observed domains by uuid; those that run come first."""
    hosts = {record.host.id: record.host for record in unit.hosts.all()}
    found: dict[str, list[Sight]] = {}
    for host, observation in unit.observations.all().items():
        for domain in observation.domains:
            if host in hosts:
                found.setdefault(domain.uuid, []).append(Sight(hosts[host], domain, observation.at))
    return {uuid: tuple(sorted(each, key=_order)) for uuid, each in found.items()}


def is_active(domain: ObservedDomain) -> bool:
    """Say whether the domain occupies its host now."""
    return domain.state not in _INACTIVE


def _order(sight: Sight) -> tuple[bool, float]:
    return not is_active(sight.domain), -sight.at


def _note_domain(parts: Parts, unit: Unit, host: Host, vm: VmId, domain: ObservedDomain, keys: KeySet) -> None:
    place = attributes_now(unit, vm).get(HOST) or host.name
    # Of the two ends of a migration only the one where it runs is its place: the other is still, or already, paused.
    if place != host.name and domain.state != DomainState.RUNNING.value:
        return
    changes = {HOST: host.name, STATE: domain.state}
    if domain.passport and is_passport_of(domain.passport, vm, domain.uuid, keys):
        changes[PASSPORT] = "valid"
    merge_attributes(unit, vm, changes, parts.clock())


def _note_absent(parts: Parts, unit: Unit, host: Host, uuids: dict[str, VmId], observation: Observation) -> None:
    """A VM that its host no longer has is where another host reported it last; that host does not say it twice."""
    present = {domain.uuid for domain in observation.domains}
    gone = {uuid: vm for uuid, vm in uuids.items() if uuid not in present}
    gone = {uuid: vm for uuid, vm in gone.items() if attributes_now(unit, vm).get(HOST) == host.name}
    elsewhere = sights(unit) if gone else {}
    for uuid, vm in gone.items():
        found = next((sight for sight in elsewhere.get(uuid, ()) if is_active(sight.domain)), None)
        changes = {HOST: "", STATE: ""} if found is None else {HOST: found.host.name, STATE: found.domain.state}
        merge_attributes(unit, vm, changes, parts.clock())


def _vms_by_uuid(unit: Unit) -> dict[str, VmId]:
    records = {(vm.tenant, vm.name): vm.id for vm in unit.vms.all()}
    found = {}
    for stored in unit.documents.all():
        if stored.key.kind == Kind.VM.value:
            spec = document_of(stored).spec
            if isinstance(spec, VmSpec):
                found[spec.uuid] = records[stored.key.tenant, stored.key.name]
    return found


def _passports(observation: Observation) -> frozenset[tuple[str, str]]:
    return frozenset((domain.uuid, domain.passport) for domain in observation.domains)
