"""Which host runs a copy of a VM that runs elsewhere. Pure but for reading; closes nothing itself.

A VM's place is where the controller first saw it run; it stays there while that host says so (see observed). Another host
that says the same at the same time has a twin, unless its own signed residence has a higher epoch than the place's: then
the VM has come by migration, and the place has not said yet that it left. It has to, and soon.
"""

from __future__ import annotations

import msgspec

from buckler.controller.pool_state import HOST, State
from buckler.controller.sights import Seen, Sight
from buckler.model.bundle import Residence
from buckler.model.domain import DomainState
from buckler.model.ids import HostId, VmId
from buckler.model.pool import HostState
from buckler.trust.statement import Kind, Untrusted, key_from_text, key_id, verify

_FAREWELL_SECONDS = 30.0  # a source says within a second that a VM has left; clocks may differ by the rest


def twins_of(state: State, seen: Seen) -> dict[HostId, tuple[str, ...]]:
    """Uuids of domains that are copies of VMs which run at their place, by the host that has the copy."""
    found: dict[HostId, list[str]] = {}
    double = {uuid for uuid, sights in seen.items() if len(sights) > 1}
    for each in state.registered if double else ():
        if each.vm.uuid not in double:
            continue
        running = [sight for sight in seen[each.vm.uuid] if _runs(sight)]
        place = next((sight for sight in running if sight.host.name == each.attributes.get(HOST)), None)
        if place is None or len(running) < 2:
            continue
        for here in {sight.host.id: sight for sight in reversed(running)}.values():
            if is_twin(here, place, each.vm.id):
                found.setdefault(here.host.id, []).append(each.vm.uuid)
    return {host: tuple(sorted(uuids)) for host, uuids in found.items()}


def is_twin(newcomer: Sight, place: Sight, vm: VmId) -> bool:
    """Say whether the VM cannot have come from its place to the other host."""
    if newcomer.host.id == place.host.id:
        return False
    here, there = residence_of(newcomer, vm), residence_of(place, vm)
    if here is None:
        return True
    if here.epoch > (0 if there is None else there.epoch):
        return place.at > here.since + _FAREWELL_SECONDS
    # A report that is older than the other's start may be overtaken: the VM was stopped there and started here.
    return place.at > here.since


def residence_of(sight: Sight, vm: VmId) -> Residence | None:
    """What the host itself says of the VM's stay; a statement that is not its own, or not of this VM, is none."""
    try:
        key = key_from_text(sight.host.public_key)
        payload = verify(Kind.RESIDENCE, sight.domain.residence, {key_id(key): key})
        stay = msgspec.json.decode(payload, type=Residence)
    except (Untrusted, ValueError):
        return None
    return stay if (stay.vm, stay.host) == (vm, sight.host.id) else None


def _runs(sight: Sight) -> bool:
    return sight.domain.state == DomainState.RUNNING.value and sight.host.state is not HostState.REVOKED
