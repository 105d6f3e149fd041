"""Answers for names, as hosts tell them: kept or refused in one transaction, and ended. Owns no rule of either (policy.naming)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.pool_state import (
    HOST,
    Registered,
    State,
    attributes_now,
    load_learned,
    load_state,
    merge_attributes,
)
from buckler.controller.sights import is_active
from buckler.model.agentapi import ClaimOutcome, NameClaim
from buckler.model.event import Event, EventKind
from buckler.model.ids import VmId
from buckler.model.pool import Host
from buckler.policy.claim import Ground, Owners, ground_of, owners_of
from buckler.policy.learned import Learned
from buckler.policy.naming import end_of, is_name, list_over, patterns_at, refuse_answer
from buckler.policy.pool import singled_out, stations_of
from buckler.ports.naming import NameRecord
from buckler.ports.store import Unit

_REFUSED = "refused answer "
"""Followed by a name and an address: a VM attribute that holds why an answer was refused."""
_MAX_REFUSALS = 32
_LONGEST = 256
"""Characters of an address and its resolver, by far."""


class _Book(msgspec.Struct):
    """What one batch is judged against; grows with each answer that is kept."""

    state: State
    ground: Ground
    owners: Owners
    registered: dict[VmId, Registered]
    held: dict[tuple[str, str, str], Learned]
    here: frozenset[tuple[str, str]]
    """(uuid, MAC) of every interface that the host observes in a domain that occupies it."""
    patterns: dict[tuple[VmId, str], frozenset[str]]


def take_names(parts: Parts, unit: Unit, host: Host, claims: Sequence[NameClaim]) -> tuple[ClaimOutcome, ...]:
    """Judge answers one after the other. What is kept, or kept longer, is one new revision: the engine has to be woken then."""
    book = _open(parts, unit, host)
    before = dict(book.held)
    outcomes = tuple(_take(parts, unit, host, book, claim) for claim in claims)
    if {place: each.until for place, each in before.items()} != {
        place: each.until for place, each in book.held.items()
    }:
        unit.revisions.allocate("answers learned", f"host:{host.name}", parts.clock())
    return outcomes


def release_names(parts: Parts) -> bool:
    """End every answer that must end; say whether there was one. Reads first: most of the time there is nothing."""
    with parts.store.read() as unit:
        if not unit.names.all() or not _over(parts, load_state(unit)):
            return False
    with parts.store.write() as unit:
        state, now = load_state(unit), parts.clock()
        tenants = {network.name: network.tenant for network in state.pool.networks}
        over = _over(parts, state)
        for each, why in over:
            unit.names.drop(each.network, each.name, each.address)
            vm = VmId(each.vm)
            parts.record(
                unit, _event(EventKind.NAME_CHANGED, vm, tenants.get(each.network, ""), each, now, why, "ended")
            )
        if over:
            unit.revisions.allocate("answers ended", "controller", now)
    if over:
        parts.work.ring()
    return bool(over)


def forget_network(parts: Parts, unit: Unit, network: str, tenant: str) -> None:
    """End the answers of a network that is no more: another one of its name, of whichever tenant, has none of them."""
    for each in load_learned(unit):
        if each.network == network:
            unit.names.drop(network, each.name, each.address)
            why = "the network is gone"
            parts.record(unit, _event(EventKind.NAME_CHANGED, VmId(each.vm), tenant, each, parts.clock(), why, "ended"))


def _over(parts: Parts, state: State) -> tuple[tuple[Learned, str], ...]:
    owners = owners_of(state.pool.vms)
    return list_over(ground_of(state.pool, parts.addresses()), owners, state.documents, state.learned, parts.clock())


def _open(parts: Parts, unit: Unit, host: Host) -> _Book:
    state = load_state(unit)
    observation = unit.observations.all().get(host.id)
    domains = [domain for domain in observation.domains if is_active(domain)] if observation else []
    return _Book(
        state=state,
        ground=ground_of(state.pool, parts.addresses()),
        owners=owners_of(state.pool.vms),
        registered={each.record.id: each for each in state.registered},
        held={_place(each): each for each in state.learned},
        here=frozenset((domain.uuid, card.mac.lower()) for domain in domains for card in domain.interfaces),
        patterns={},
    )


def _take(parts: Parts, unit: Unit, host: Host, book: _Book, claim: NameClaim) -> ClaimOutcome:
    each, now = book.registered.get(claim.vm), parts.clock()
    network = book.ground.cards.get((claim.vm, claim.mac))
    if each is None or network is None or not is_name(claim.name) or len(claim.address + claim.resolver) > _LONGEST:
        return ClaimOutcome.REFUSED  # no honest host tells that: nothing of it is written down
    if each.attributes.get(HOST) != host.name or (each.vm.uuid, claim.mac) not in book.here:
        return ClaimOutcome.LATER
    until = end_of(claim.at, claim.seconds, now)
    wanted = Learned(claim.name, network, claim.address, until, claim.vm, claim.resolver, round(min(claim.at, now), 3))
    patterns = _patterns(book, each, claim.mac)
    why = refuse_answer(book.ground, book.owners, patterns, tuple(book.held.values()), wanted, (claim.vm, claim.mac))
    if why:
        _refuse(parts, unit, host, each, wanted, why)
        return ClaimOutcome.REFUSED
    held = book.held.get(_place(wanted))
    if until <= now or (held is not None and held.until >= until):
        return ClaimOutcome.GRANTED  # too old to open anything, or known for as long
    unit.names.put(NameRecord(network, wanted.name, wanted.address, claim.vm, wanted.resolver, wanted.at, until))
    book.held[_place(wanted)] = wanted
    if held is None:
        tenant = each.record.tenant
        parts.record(unit, _event(EventKind.NAME_CHANGED, claim.vm, tenant, wanted, now, "", "learned", host.id))
    return ClaimOutcome.GRANTED


def _patterns(book: _Book, each: Registered, mac: str) -> frozenset[str]:
    key = (each.record.id, mac)
    if key not in book.patterns:
        networks = {network.name: network for network in book.state.pool.networks}
        singled = singled_out(book.state.documents)
        here = [station for station in stations_of(each.vm, networks, singled) if station.interface.mac == mac]
        found = [patterns_at(book.state.documents, station.labels) for station in here]
        book.patterns[key] = frozenset[str]().union(*found)
    return book.patterns[key]


def _refuse(parts: Parts, unit: Unit, host: Host, each: Registered, wanted: Learned, why: str) -> None:
    """Record a refusal once for each name and address, and for each VM not without end."""
    now, attributes = parts.clock(), attributes_now(unit, each.record.id)
    known = [name for name in attributes if name.startswith(_REFUSED)]
    name = f"{_REFUSED}{wanted.name} {wanted.address}"
    if name in known or len(known) >= _MAX_REFUSALS:
        return
    merge_attributes(unit, each.record.id, {name: why}, now)
    parts.record(
        unit, _event(EventKind.NAME_REFUSED, each.record.id, each.record.tenant, wanted, now, why, "", host.id)
    )


def _place(each: Learned) -> tuple[str, str, str]:
    return each.network, each.name, each.address


def _event(
    kind: EventKind, vm: VmId, tenant: str, each: Learned, at: float, cause: str, change: str = "", host: str = ""
) -> Event:
    facts = {"name": each.name, "address": each.address, "network": each.network, "resolver": each.resolver}
    facts |= {"change": change} if change else {}
    return Event(kind, at, host=host, vm=vm, tenant=tenant, cause=cause, detail=facts)
