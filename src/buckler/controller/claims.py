"""Claims of addresses, as a host tells them: granted or refused in one transaction, so that the first in the pool wins."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from buckler.controller.grants import REFUSED, attribute_of
from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, Registered, attributes_now, load_state, merge_attributes
from buckler.controller.sights import is_active
from buckler.model.agentapi import AddressClaim, AddressSource, ClaimOutcome
from buckler.model.event import Event, EventKind
from buckler.model.ids import VmId
from buckler.model.pool import Host
from buckler.policy.claim import Grant, Ground, ground_of, owners_of, refuse_claim
from buckler.ports.store import Unit

_MAX_REFUSALS = 32
_LONGEST_LEASE = 366 * 86400
"""Seconds. A longer lease holds for as long as this from its last renewal."""


class _Book(msgspec.Struct):
    """What one batch is judged against; grows with each grant."""

    ground: Ground
    registered: dict[VmId, Registered]
    owners: dict[tuple[str, str], tuple[VmId, str]]
    held: list[Grant]
    here: frozenset[tuple[str, str]]
    """(uuid, MAC) of every interface that the host observes in a domain that occupies it."""


def take_claims(parts: Parts, unit: Unit, host: Host, claims: Sequence[AddressClaim]) -> tuple[ClaimOutcome, ...]:
    """Judge claims one after the other. Granting anything is one new revision: the engine has to be woken then."""
    book = _open(unit, host)
    before = len(book.held)
    outcomes = tuple(_take(parts, unit, host, book, claim) for claim in claims)
    if len(book.held) != before:
        unit.revisions.allocate("address granted", f"host:{host.name}", parts.clock())
    return outcomes


def _open(unit: Unit, host: Host) -> _Book:
    state = load_state(unit)
    observation = unit.observations.all().get(host.id)
    domains = [domain for domain in observation.domains if is_active(domain)] if observation else []
    return _Book(
        ground=ground_of(state.pool),
        registered={each.record.id: each for each in state.registered},
        owners=owners_of(state.pool.vms),
        held=[grant for each in state.registered for grant in each.grants],
        here=frozenset((domain.uuid, card.mac.lower()) for domain in domains for card in domain.interfaces),
    )


def _take(parts: Parts, unit: Unit, host: Host, book: _Book, claim: AddressClaim) -> ClaimOutcome:
    each, now = book.registered.get(claim.vm), parts.clock()
    network = book.ground.cards.get((claim.vm, claim.mac))
    wanted = None if network is None else _wanted(claim, network, now)
    if each is None or wanted is None:
        return ClaimOutcome.REFUSED
    if each.attributes.get(HOST) != host.name or (each.vm.uuid, wanted.mac) not in book.here:
        return ClaimOutcome.LATER
    held = next((one for one in book.held if _place(one) == _place(wanted)), None)
    if held is None and book.owners.get((wanted.network, wanted.address)) == (wanted.vm, wanted.mac):
        return ClaimOutcome.GRANTED  # it is declared
    if held is not None and not _adds(held, wanted, now):
        return ClaimOutcome.GRANTED
    why = refuse_claim(book.ground, book.owners, book.held, wanted, now)
    if why:
        _refuse(parts, unit, host, each, wanted, why)
        return ClaimOutcome.REFUSED
    _grant(parts, unit, host, book, each, wanted, held)
    return ClaimOutcome.GRANTED


def _wanted(claim: AddressClaim, network: str, now: float) -> Grant | None:
    """Read what a host wrote; its clock may be wrong, but a lease never runs longer than from now."""
    try:
        address = ipaddress.ip_address(claim.address)
        server = str(ipaddress.ip_address(claim.server)) if claim.server else ""
    except ValueError:
        return None
    is_leased = claim.source is AddressSource.DHCP
    if getattr(address, "scope_id", None) or claim.lease < 0 or not (is_leased or _is_detected(claim)):
        return None
    expires_at = min(claim.at, now) + min(claim.lease, _LONGEST_LEASE) if is_leased and claim.lease else 0.0
    source = AddressSource.DHCP if is_leased else AddressSource.DETECTED
    return Grant(claim.vm, claim.mac, network, str(address), source, server if is_leased else "", round(expires_at, 3))


def _is_detected(claim: AddressClaim) -> bool:
    return claim.source is AddressSource.DETECTED


def _adds(held: Grant, wanted: Grant, now: float) -> bool:
    """Say whether a claim changes what is held: a guest may renew as often as it likes, and is written down seldom."""
    if wanted.source is AddressSource.DETECTED:
        return False
    if held.source is AddressSource.DETECTED or held.server != wanted.server:
        return True
    if not (held.expires_at and wanted.expires_at):
        return held.expires_at != wanted.expires_at
    return abs(wanted.expires_at - held.expires_at) >= (wanted.expires_at - now) / 4


def _place(grant: Grant) -> tuple[str, str, str, str]:
    return grant.vm, grant.mac, grant.network, grant.address


def _grant(
    parts: Parts, unit: Unit, host: Host, book: _Book, each: Registered, wanted: Grant, held: Grant | None
) -> None:
    now = parts.clock()
    name, value = attribute_of(wanted)
    merge_attributes(unit, each.record.id, {name: value, f"{REFUSED}{wanted.address}": ""}, now)
    if held is not None:
        book.held[book.held.index(held)] = wanted
        return
    book.held.append(wanted)
    book.owners[wanted.network, wanted.address] = (wanted.vm, wanted.mac)
    parts.record(unit, event_of(EventKind.ADDRESS_CHANGED, each, wanted, now, host.id, change="granted"))


def _refuse(parts: Parts, unit: Unit, host: Host, each: Registered, wanted: Grant, why: str) -> None:
    """Record a refusal once for each address, and for each VM not without end."""
    now, attributes = parts.clock(), attributes_now(unit, each.record.id)
    known = [name for name in attributes if name.startswith(REFUSED)]
    name = f"{REFUSED}{wanted.address}"
    if name in known or len(known) >= _MAX_REFUSALS:
        return
    merge_attributes(unit, each.record.id, {name: why}, now)
    is_last = len(known) + 1 == _MAX_REFUSALS
    more = {"note": "the VM's further refusals are not recorded"} if is_last else {}
    parts.record(unit, event_of(EventKind.ADDRESS_REFUSED, each, wanted, now, host.id, cause=why, **more))


def event_of(
    kind: EventKind, each: Registered, grant: Grant, at: float, host: str = "", cause: str = "", **detail: str
) -> Event:
    """Tell what became of an address."""
    facts = {"address": grant.address, "network": grant.network, "mac": grant.mac, "source": grant.source.value}
    facts |= {"server": grant.server} if grant.server else {}
    return Event(
        kind, at, host=host, vm=each.record.id, tenant=each.record.tenant, cause=cause, detail={**facts, **detail}
    )
