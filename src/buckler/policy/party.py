"""Whom people ask about, by the words they say: VMs, endpoints, the host, addresses outside. Judges nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.pool import Outsider, Vm
from buckler.policy.bundle import infra_prefixes
from buckler.policy.draft import vm_title
from buckler.policy.pool import Pool
from buckler.policy.prefix import address_of
from buckler.policy.problem import guess
from buckler.policy.space import WHOLE, Range, range_of, within, write_ranges
from buckler.policy.unpoliced import is_somewhere

WORLD = "world"
HOST = "host"
SHOWN = 3
_TAKEN = (WORLD, HOST)
_NOBODY = "nobody's: no packet passes with it, whatever policies say (of multicast ask `explain VM group PORT`)"


class UnknownEnd(ValueError):
    """Nobody of this name, or several; the message says what was asked."""


class Party(msgspec.Struct, frozen=True):
    """One asked end: ``key`` of a VM or endpoint, or the host, or ``room`` outside."""

    key: str = ""
    is_host: bool = False
    room: tuple[Range, ...] = ()


def endpoint_key(outsider: Outsider) -> str:
    """Name an endpoint apart from every VM's id."""
    return f"endpoint {outsider.tenant}/{outsider.name}"


def vm_names(pool: Pool, tenant: str = "") -> dict[str, str]:
    """Name VMs by id and endpoints by key: the name, or ``tenant/name`` where the name alone is not one thing's.

    With a tenant: its own, by what is known of it alone.
    """
    things = [(str(vm.id), vm.tenant, vm.name) for vm in pool.vms if tenant in {"", vm.tenant}]
    things += [(endpoint_key(each), each.tenant, each.name) for each in pool.outsiders if tenant in {"", each.tenant}]
    count = Counter([*(name for _, _, name in things), *_TAKEN])
    return {key: name if count[name] == 1 else f"{tenant}/{name}" for key, tenant, name in things}


def find_thing(pool: Pool, text: str, tenant: str = "") -> Vm | Outsider | None:
    """Find a VM (by name, ``tenant/name``, title or id) or an endpoint, of a tenant or of all. Raises UnknownEnd: several."""
    vms = [vm for vm in pool.vms if tenant in {"", vm.tenant} and text in {vm.id, vm.name, vm_title(vm), _full(vm)}]
    things = [each for each in pool.outsiders if tenant in {"", each.tenant} and text in {each.name, _full(each)}]
    found: list[Vm | Outsider] = [*vms, *things]
    titles = sorted({_full(each) for each in found})
    if len(found) > 1 and len(titles) == 1:
        raise UnknownEnd(f"a VM and an endpoint are called {text!r}: ask by an address")
    if len(found) > 1:
        raise UnknownEnd(f"several are called {text!r}: write {' or '.join(titles)}")
    return found[0] if found else None


def unknown_end(pool: Pool, text: str, tenant: str = "", hint: str = "") -> UnknownEnd:
    """Say that nobody is called so, and who may have been meant."""
    told = f"{text!r} is neither a VM nor an endpoint nor an address nor {WORLD}"
    hint = hint or guess(text, vm_names(pool, tenant).values())
    return UnknownEnd(f"{told} ({hint})" if hint else told)


def find_party(pool: Pool, text: str, tenant: str = "") -> Party:
    """Find whom a question about the pool means: also ``world``, ``host``, an address or a prefix outside. Raises UnknownEnd."""
    if text in _TAKEN:
        return Party(is_host=True) if text == HOST else Party(room=WHOLE)
    thing = find_thing(pool, text, tenant) or _owner_of(pool, text, tenant)
    if thing is not None:
        return Party(thing.id if isinstance(thing, Vm) else endpoint_key(thing))
    try:
        return Party(room=(range_of(text),))
    except ValueError as error:
        if "host bits" in str(error):
            raise UnknownEnd(f"{text!r} is no prefix: bits behind its length are set") from error
        raise unknown_end(pool, text, tenant) from None


def _owner_of(pool: Pool, text: str, tenant: str) -> Vm | Outsider | None:
    """Find whose an address alone is, if it is one thing's; nobody's and several's are asked for where they are outside."""
    try:
        address = address_of(text)
    except ValueError:
        return None
    found: list[Vm | Outsider] = [
        vm
        for vm in pool.vms
        if tenant in {"", vm.tenant}
        and any(address_of(own) == address for card in vm.interfaces for own in card.addresses)
    ]
    found += [
        each
        for each in pool.outsiders
        if tenant in {"", each.tenant} and any(address_of(own) == address for own in each.addresses)
    ]
    return found[0] if len(found) == 1 else None


def note_insiders(pool: Pool, party: Party, tenant: str = "") -> tuple[str, ...]:
    """Say which addresses of the pool's own lie among addresses that were asked for as outside ones."""
    if party.room in {(), WHOLE}:
        return ()
    if not is_somewhere(party.room):
        return (f"{', '.join(write_ranges(party.room))} is {_NOBODY}",)
    mine = [f"{address} is {who}" for address, who in _insiders(pool, tenant) if _is_in(address, party.room)]
    more = len(mine) - SHOWN
    told = "; ".join(mine[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return (f"not outside everywhere: {told}. What is told here is for where they are outside.",) if mine else ()


def _insiders(pool: Pool, tenant: str) -> Iterator[tuple[str, str]]:
    names = vm_names(pool, tenant)
    for vm in pool.vms:
        for card in vm.interfaces if vm.id in names else ():
            yield from ((address, f"{names[vm.id]} in network {card.network}") for address in card.addresses)
    for each in pool.outsiders:
        if endpoint_key(each) in names:
            who = f"{names[endpoint_key(each)]} in network {each.network}"
            yield from ((address, who) for address in each.addresses)
    for service in pool.services:
        if tenant in {"", service.tenant}:
            yield service.address, f"the virtual address of service {service.name} in network {service.network}"
    for network in pool.networks:
        if tenant in {"", network.tenant}:
            yield from ((address, f"the host in network {network.name}") for address in network.gateway)
    yield from (
        (each.partition("/")[0], "a hypervisor host's, closed to every VM") for each in sorted(infra_prefixes(pool))
    )


def _is_in(address: str, room: Iterable[Range]) -> bool:
    return bool(within((range_of(address.partition("/")[0]),), room))


def _full(thing: Vm | Outsider) -> str:
    return f"{thing.tenant}/{thing.name}"
