"""What a host reports of its domains, laid beside what is registered. A host is believed for itself only."""

from __future__ import annotations

from buckler.controller.parts import Parts
from buckler.controller.passports import signer_of, trusted_issuers
from buckler.controller.pool_state import HOST, PASSPORT, STATE, attributes_now, document_of, merge_attributes
from buckler.controller.sights import Seen, Sight, is_active, sights
from buckler.model.agentapi import Observation, ObservedDomain
from buckler.model.domain import DomainState
from buckler.model.ids import VmId
from buckler.model.pool import Host, HostState
from buckler.policy.language import Kind, VmSpec
from buckler.ports.store import Unit
from buckler.trust.statement import KeySet


def note_observation(parts: Parts, unit: Unit, host: Host, observation: Observation) -> bool:
    """Store a host's report and what it changes of VMs; say whether the engine has to look."""
    before = unit.observations.all().get(host.id)
    unit.observations.put(host.id, observation)
    uuids = _vms_by_uuid(unit)
    keys, seen = trusted_issuers(parts, unit), sights(unit)
    for domain in observation.domains:
        vm = uuids.get(domain.uuid)
        if vm is not None:
            _note_domain(parts, unit, host, vm, domain, keys, seen)
    _note_absent(parts, unit, host, uuids, observation, seen)
    is_draining = host.state is HostState.DRAINING
    return is_draining or before is None or _passports(before) != _passports(observation)


def _note_domain(
    parts: Parts, unit: Unit, host: Host, vm: VmId, domain: ObservedDomain, keys: KeySet, seen: Seen
) -> None:
    place = attributes_now(unit, vm).get(HOST) or host.name
    # Of the two ends of a migration only the one where it runs is its place: the other is still, or already, paused.
    if place != host.name and (not _runs(domain) or _runs_at(unit, place, seen.get(domain.uuid, ()))):
        return
    changes = {HOST: host.name, STATE: domain.state}
    if not _runs(domain):
        other = next((each for each in seen.get(domain.uuid, ()) if _runs(each.domain) and _is_member(each)), None)
        changes = changes if other is None else {HOST: other.host.name, STATE: other.domain.state}
    signer = signer_of(domain.passport, vm, domain.uuid, keys) if domain.passport else ""
    if signer:
        changes[PASSPORT] = signer
    merge_attributes(unit, vm, changes, parts.clock())


def _note_absent(
    parts: Parts, unit: Unit, host: Host, uuids: dict[str, VmId], observation: Observation, seen: Seen
) -> None:
    """A VM that its host no longer has is where another host reported it last; that host does not say it twice."""
    present = {domain.uuid for domain in observation.domains}
    for uuid, vm in uuids.items():
        if uuid not in present and attributes_now(unit, vm).get(HOST) == host.name:
            found = next((each for each in seen.get(uuid, ()) if is_active(each.domain) and _is_member(each)), None)
            changes = {HOST: "", STATE: ""} if found is None else {HOST: found.host.name, STATE: found.domain.state}
            merge_attributes(unit, vm, changes, parts.clock())


def _runs(domain: ObservedDomain) -> bool:
    return domain.state == DomainState.RUNNING.value


def _is_member(sight: Sight) -> bool:
    return sight.host.state is not HostState.REVOKED


def _runs_at(unit: Unit, place: str, seen: tuple[Sight, ...]) -> bool:
    """Say whether a host that is heard says that it runs there: then no other host's word moves it away."""
    heard = {record.host.id for record in unit.hosts.all() if not record.lost_at}
    return any(
        each.host.name == place and each.host.id in heard and _is_member(each) and _runs(each.domain) for each in seen
    )


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
