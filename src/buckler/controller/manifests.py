"""Who gets a passport written by which host, and a signed manifest per host. Owns no stage and no object."""

from __future__ import annotations

import msgspec

from buckler.controller.observed import Seen, is_active
from buckler.controller.parts import Parts
from buckler.controller.passports import issuing_id, passport_of
from buckler.controller.pool_state import HOST, PASSPORT, State
from buckler.controller.twins import twins_at
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.pool import Host, HostState
from buckler.policy.bundle import build_members


def adoptions_for(parts: Parts, state: State, seen: Seen, host: Host) -> dict[str, str]:
    """Passports that this host is to write: for VMs that never showed one, or one by a key that signs no more.

    A domain is given its VM's passport only where it is seen, so that a second domain with its uuid gets none; one that
    nobody has seen yet may appear anywhere.
    """
    adoptions: dict[str, str] = {}
    for each in state.registered:
        if each.attributes.get(PASSPORT) == issuing_id(parts):
            continue
        at = [sight for sight in seen.get(each.vm.uuid, ()) if sight.host.state is not HostState.REVOKED]
        place = [sight for sight in at if sight.host.name == each.attributes.get(HOST)]
        best = place or [sight for sight in at if is_active(sight.domain)] or at
        if not best or best[0].host.id == host.id:
            adoptions[each.vm.id] = passport_of(parts, each.vm)
    return adoptions


class Errand(msgspec.Struct, frozen=True):
    """What a host is told of single domains: passports to write, and copies to keep closed."""

    adoptions: dict[str, str]
    twins: tuple[str, ...]


def errand_for(parts: Parts, state: State, seen: Seen, host: Host) -> Errand:
    """Both, from what all hosts report now."""
    return Errand(adoptions_for(parts, state, seen, host), twins_at(state, seen, host))


def rest_of(parts: Parts, state: State, host: Host, errand: Errand) -> str:
    """Name what a host's manifest says beside its objects, and who signs it, so that a change of it is published."""
    said = [host.state.value, build_members(state.hosts), sorted(errand.adoptions), errand.twins, issuing_id(parts)]
    return digest_of(canonical_bytes(said))


def members(state: State) -> tuple[Host, ...]:
    """Hosts that are told anything at all."""
    return tuple(host for host in state.hosts if host.state is not HostState.REVOKED)
