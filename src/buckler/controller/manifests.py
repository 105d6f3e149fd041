"""Which host is to write which passport, and to keep which copy closed. Owns no stage and no object."""

from __future__ import annotations

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.passports import issuing_id, passport_of
from buckler.controller.pool_state import HOST, PASSPORT, Registered, State
from buckler.controller.sights import Seen, is_active
from buckler.controller.twins import twins_of
from buckler.model.ids import HostId
from buckler.model.pool import Host, HostState


class Errand(msgspec.Struct, frozen=True):
    """What a host is told of single domains: passports to write, and copies to keep closed."""

    adoptions: dict[str, str]
    twins: tuple[str, ...]


def errands_of(parts: Parts, state: State, seen: Seen) -> tuple[dict[HostId, Errand], dict[str, str]]:
    """What single hosts are told, and passports that any host is to write where their domain appears."""
    adoptions, common = _adoptions(parts, state, seen)
    twins = twins_of(state, seen)
    hosts = adoptions.keys() | twins.keys()
    return {host: Errand(adoptions.get(host, {}), twins.get(host, ())) for host in hosts}, common


def may_have_errand(parts: Parts, vm: Registered, seen: Seen) -> bool:
    """Say whether any host may have to be told of this VM by itself: it lacks a passport, or is seen more than once."""
    return vm.attributes.get(PASSPORT) != issuing_id(parts) or len(seen.get(vm.vm.uuid, ())) > 1


def _adoptions(parts: Parts, state: State, seen: Seen) -> tuple[dict[HostId, dict[str, str]], dict[str, str]]:
    """Passports of VMs that never showed one, or one by a key that signs no more: each host's own, and everybody's.

    A domain is given its VM's passport only where it is seen, so that a second domain with its uuid gets none; one that
    nobody has seen yet may appear anywhere.
    """
    own: dict[HostId, dict[str, str]] = {}
    common: dict[str, str] = {}
    issuer = issuing_id(parts)
    for each in [each for each in state.registered if each.attributes.get(PASSPORT) != issuer]:
        at = [sight for sight in seen.get(each.vm.uuid, ()) if sight.host.state is not HostState.REVOKED]
        place = [sight for sight in at if sight.host.name == each.attributes.get(HOST)]
        best = place or [sight for sight in at if is_active(sight.domain)] or at
        (own.setdefault(best[0].host.id, {}) if best else common)[each.vm.id] = passport_of(parts, each.vm)
    return own, common


def members(state: State) -> tuple[Host, ...]:
    """Hosts that are told anything at all."""
    return tuple(host for host in state.hosts if host.state is not HostState.REVOKED)
