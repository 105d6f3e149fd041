"""Who may send what to whom, as people and the API are told: VMs, endpoints, the host, addresses outside. Judges nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.ids import IDENTITY_HOST
from buckler.model.operatorapi.answers import Reach, ReachPair
from buckler.model.program import Direction
from buckler.policy.bundle import infra_prefixes
from buckler.policy.compile import resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.language import Document
from buckler.policy.outside import Outsides
from buckler.policy.party import HOST, WORLD, Party, endpoint_key, find_party, note_insiders, vm_names
from buckler.policy.pool import Numbers, Pool
from buckler.policy.reach import Ends, Judge, list_ends
from buckler.policy.space import WHOLE, Range, range_of, without
from buckler.policy.unpoliced import is_somewhere

ANYBODY = Party()


class _Asked(msgspec.Struct, frozen=True):
    """One end of the wanted pairs: things in the order of their names, the host, addresses outside."""

    things: tuple[str, ...]
    is_host: bool
    room: tuple[Range, ...]


class _Told(msgspec.Struct, frozen=True):
    """What is known of everything, to answer from."""

    judge: Judge
    names: dict[str, str]
    ends: dict[str, Ends]
    served: dict[str, Ends]
    unshielded: frozenset[str]


def reach_pairs(
    pool: Pool,
    documents: Iterable[Document],
    numbers: Numbers,
    *,
    tenant: str = "",
    origin: str = "",
    to: str = "",
) -> tuple[ReachPair, ...]:
    """Give every ordered pair of different VMs and endpoints (of one tenant, or of all), and of each VM with what is no VM.

    That is the host, where a network has its gateway, and every address outside, those with the same answer together.
    ``origin``, ``to``: only pairs from, to whom ``find_party`` finds. A VM whose shield observes lets everything pass, and
    so does the matrix. Raises UnknownEnd.
    """
    documents = tuple(documents)
    names = vm_names(pool, tenant)
    sender, receiver = (find_party(pool, each, tenant) if each else ANYBODY for each in (origin, to))
    near = who_matters(pool, sender, receiver)
    resolved = resolve_pool(near, documents, numbers)
    judge = Judge(resolved)
    ends = {key: found for key, found in list_ends(near, documents, numbers).items() if key in names}
    ends = {**dict.fromkeys(names, ()), **ends}
    zones = {each.zone for each in pool.networks if each.gateway and tenant in {"", each.tenant}}
    served = {key: tuple(end for end in found if end[0] in zones) for key, found in ends.items()}
    told = _Told(judge, names, ends, served, frozenset(endpoint_key(each) for each in pool.outsiders))
    one, other = (_asked(each, told, pool, is_served=bool(zones)) for each in (sender, receiver))
    pairs = [*_between(told, one, other)]
    for there, direction in ((other, Direction.EGRESS), (one, Direction.INGRESS)):
        here = one if direction is Direction.EGRESS else other
        if there.room:
            outsides = Outsides(resolved, judge, numbers, there.room)
            pairs += _with_outside(told, here, outsides, direction)
    return tuple(pairs)


def answer_reach(draft: Draft, revision: int, tenant: str = "", origin: str = "", to: str = "") -> Reach:
    """Answer a question about the matrix, with what is to be known of it. Raises UnknownEnd."""
    pairs = reach_pairs(draft.pool, draft.documents, draft.numbers, tenant=tenant, origin=origin, to=to)
    names = vm_names(draft.pool, tenant)
    known = tuple(sorted(names[vm.id] for vm in draft.pool.vms if vm.id in names))
    served = any(each.gateway for each in draft.pool.networks if tenant in {"", each.tenant})
    asked = [find_party(draft.pool, each, tenant) for each in (origin, to) if each]
    notes = tuple(note for each in asked for note in note_insiders(draft.pool, each, tenant))
    return Reach(revision, (*known, *((HOST,) if served else ()), WORLD), pairs, notes)


def who_matters(pool: Pool, sender: Party, receiver: Party) -> Pool:
    """Leave out whom a question about named ends cannot be about: who shares no network with them, or was not asked for.

    What binds a VM follows from documents and its own labels, whoever else there is.
    """
    named = {each.key for each in (sender, receiver)} - {""}
    if not named:
        return pool
    shared: set[str] = set()
    if ANYBODY in (sender, receiver):
        shared = {card.network for vm in pool.vms if vm.id in named for card in vm.interfaces}
        shared |= {each.network for each in pool.outsiders if endpoint_key(each) in named}
    return msgspec.structs.replace(
        pool,
        vms=tuple(vm for vm in pool.vms if vm.id in named or any(card.network in shared for card in vm.interfaces)),
        outsiders=tuple(each for each in pool.outsiders if endpoint_key(each) in named or each.network in shared),
    )


def _asked(party: Party, told: _Told, pool: Pool, *, is_served: bool) -> _Asked:
    if party == ANYBODY:
        return _Asked(tuple(sorted(told.ends, key=told.names.__getitem__)), is_served, WHOLE)
    room = party.room
    if room != WHOLE:  # of all of them nobody asks for the hosts' own
        room = without(room, map(range_of, infra_prefixes(pool)))
    return _Asked((party.key,) if party.key else (), party.is_host, room if is_somewhere(room) else ())


def _between(told: _Told, one: _Asked, other: _Asked) -> Iterator[ReachPair]:
    for origin in one.things:
        for to in other.things:
            if origin != to and not {origin, to} <= told.unshielded:
                allowed = told.judge.between(told.ends[origin], told.ends[to])
                yield ReachPair(told.names[origin], told.names[to], allowed)
        if other.is_host and origin not in told.unshielded:
            allowed = told.judge.with_class(told.served[origin], IDENTITY_HOST, Direction.EGRESS)
            yield ReachPair(told.names[origin], HOST, allowed)
    for to in other.things if one.is_host else ():
        if to not in told.unshielded:
            allowed = told.judge.with_class(told.served[to], IDENTITY_HOST, Direction.INGRESS)
            yield ReachPair(HOST, told.names[to], allowed)


def _with_outside(told: _Told, here: _Asked, outsides: Outsides, direction: Direction) -> Iterator[ReachPair]:
    for key in here.things:
        if key in told.unshielded:
            continue
        for allowed, there in outsides.named(told.ends[key], direction):
            name = told.names[key]
            yield ReachPair(name, there, allowed) if direction is Direction.EGRESS else ReachPair(there, name, allowed)
