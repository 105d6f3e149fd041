"""Segments and members → who owns which address and MAC, change by change. Touches no kernel; owns no tap."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.bundle import Endpoint, Member, Segment
from buckler.model.ids import IDENTITY_HOST, IDENTITY_INFRA, IDENTITY_WORLD, IdentityNumber, VmNumber, Zone
from buckler.model.shield import Address, AddressFlag, AddressKey, MacKey

_EVERYWHERE = Zone(0)
_NOBODY = VmNumber(0)


def endpoint_addresses(endpoint: Endpoint) -> tuple[str, ...]:
    """All addresses that are the interface's own, sorted. None is implied here: the link-local one is said too, or is none."""
    return tuple(sorted({str(ipaddress.ip_address(address)) for address in endpoint.addresses}))


def reachable_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of a host's own addresses that other machines can name; the first serves where none was set."""
    parsed = sorted(
        (ipaddress.ip_address(address) for address in addresses), key=lambda address: (address.version, address)
    )
    return tuple(str(address) for address in parsed if not (address.is_loopback or address.is_link_local))


def prefix_of(address: str) -> str:
    """Write an address or prefix as the address book keys it. Raises ValueError."""
    return str(ipaddress.ip_network(address, strict=False))


def resolve_addresses(
    segments: Iterable[Segment], members: Iterable[Member], host_addresses: Iterable[str]
) -> dict[AddressKey, Address]:
    """The whole book: every network's, and the hosts' own addresses that no guest may reach."""
    return Book().resolve(segments, members, host_addresses)[0]


def resolve_macs(segments: Iterable[Segment]) -> dict[MacKey, VmNumber]:
    """Every registered MAC in its zone."""
    return Book().resolve(segments, (), ())[1]


class Book:
    """The same, change by change. What it keeps spares work and decides nothing: the answer follows from what is asked."""

    def __init__(self) -> None:
        self._pages: dict[tuple[Zone, str], _Page] = {}

    def resolve(
        self, segments: Iterable[Segment], members: Iterable[Member], host_addresses: Iterable[str]
    ) -> tuple[dict[AddressKey, Address], dict[MacKey, VmNumber]]:
        """All addresses and all MACs."""
        segments = tuple(segments)
        before = self._pages
        self._pages = {name: _page(each, before.get(name)) for each in segments for name in [(each.zone, each.network)]}
        addresses: dict[AddressKey, Address] = {}
        macs: dict[MacKey, VmNumber] = {}
        for page in self._pages.values():
            addresses |= page.addresses
            macs |= page.macs
        served = {prefix_of(address) for segment in segments for address in segment.gateway}
        hidden = {prefix_of(address) for address in host_addresses}
        hidden |= {prefix_of(each) for member in members for each in (*member.addresses, member.fabric) if each}
        for prefix in hidden - served:
            addresses[AddressKey(_EVERYWHERE, prefix)] = Address(IDENTITY_INFRA)
        return addresses, macs


class _Page(msgspec.Struct, frozen=True):
    """One segment's part. ``is_clear``: nothing in it has two owners or two meanings, so that parts of it can change alone."""

    segment: Segment
    endpoints: dict[str, Endpoint] = {}
    owners: dict[str, Endpoint] = {}
    identities: dict[str, IdentityNumber] = {}
    addresses: dict[AddressKey, Address] = {}
    macs: dict[MacKey, VmNumber] = {}
    is_clear: bool = True


def _page(segment: Segment, before: _Page | None) -> _Page:
    """Go through what differs from before, which is everything where more than endpoints and identities does."""
    if before is not None and before.segment is segment:
        return before
    if before is not None and before.is_clear and _is_alike(before.segment, segment):
        page = _turned(before, segment)
        if page.is_clear:
            return page
    cidrs = {AddressKey(segment.zone, prefix_of(each.cidr)): Address(each.identity) for each in segment.cidr_identities}
    blank = msgspec.structs.replace(segment, endpoints=(), identities={})
    return _turned(_Page(blank, addresses=cidrs), segment)


def _is_alike(before: Segment, segment: Segment) -> bool:
    """Services own nothing here: a virtual address is nobody's."""
    same = {"endpoints": segment.endpoints, "identities": segment.identities, "services": segment.services}
    return msgspec.structs.replace(before, **same) == segment


def _turned(before: _Page, segment: Segment) -> _Page:
    endpoints = {endpoint.mac: endpoint for endpoint in segment.endpoints}
    gone = [each for mac, each in before.endpoints.items() if endpoints.get(mac) != each]
    come = [each for each in segment.endpoints if before.endpoints.get(each.mac) != each]
    owners, macs = dict(before.owners), dict(before.macs)
    touched: set[str] = set(_flags(segment))
    for each in gone:
        macs.pop(MacKey(segment.zone, each.mac.lower()), None)
        for prefix in _own_prefixes(each):
            owners.pop(prefix, None)
            touched.add(prefix)
    is_clear = len(endpoints) == len(segment.endpoints)
    for each in come:
        macs[MacKey(segment.zone, each.mac.lower())] = each.number
        for prefix in _own_prefixes(each):
            is_clear &= prefix not in owners
            owners[prefix] = each
            touched.add(prefix)
    identities, moved = _identities(before, segment)
    is_clear &= len(identities) == len(segment.identities)
    touched |= moved
    touched |= {other for prefix in moved if prefix in owners for other in _own_prefixes(owners[prefix])}
    page = _Page(segment, endpoints, owners, identities, dict(before.addresses), macs, is_clear)
    _write(page, touched)
    return page


def _identities(before: _Page, segment: Segment) -> tuple[dict[str, IdentityNumber], set[str]]:
    """What each prefix means now, and which of them mean something else than before."""
    old, new = before.segment.identities, segment.identities
    identities, moved = dict(before.identities), set()
    for address in old.keys() - new.keys():
        identities.pop(prefix_of(address), None)
        moved.add(prefix_of(address))
    for address, number in new.items():
        if old.get(address) != number:
            identities[prefix_of(address)] = number
            moved.add(prefix_of(address))
    return identities, moved


def _write(page: _Page, touched: set[str]) -> None:
    """Say of some prefixes whose they are and what they mean."""
    segment, flags = page.segment, _flags(page.segment)
    cidrs = {prefix_of(entry.cidr): entry.identity for entry in segment.cidr_identities}
    for prefix in touched:
        key, endpoint = AddressKey(segment.zone, prefix), page.owners.get(prefix)
        if prefix in page.identities:
            identity = page.identities[prefix]
        elif endpoint is not None:
            identity = _lagging_identity(endpoint, page.identities)
        elif prefix in flags:
            identity = _outside_identity(prefix, segment)
        elif prefix in cidrs:
            identity = cidrs[prefix]
        else:
            page.addresses.pop(key, None)
            continue
        number = _NOBODY if endpoint is None else endpoint.number
        page.addresses[key] = Address(identity, number, flags.get(prefix, 0))


def _own_prefixes(endpoint: Endpoint) -> tuple[str, ...]:
    return tuple(prefix_of(address) for address in endpoint_addresses(endpoint))


def _lagging_identity(endpoint: Endpoint, identities: dict[str, IdentityNumber]) -> IdentityNumber:
    """An address of which nothing is said flips together with the others, not before them."""
    for address in endpoint.addresses:
        identity = identities.get(prefix_of(address))
        if identity is not None:
            return identity
    return endpoint.identity


def _outside_identity(prefix: str, segment: Segment) -> IdentityNumber:
    network = ipaddress.ip_network(prefix)
    if prefix in {prefix_of(address) for address in segment.gateway}:
        return IDENTITY_HOST
    best, identity = -1, IDENTITY_WORLD
    for entry in segment.cidr_identities:
        outer = ipaddress.ip_network(entry.cidr, strict=False)
        if outer.version == network.version and outer.prefixlen > best and network.subnet_of(outer):  # type: ignore[arg-type]
            best, identity = outer.prefixlen, entry.identity
    return identity


def _flags(segment: Segment) -> dict[str, int]:
    flags: dict[str, int] = {}
    for address, flag in _flagged(segment):
        flags[prefix_of(address)] = flags.get(prefix_of(address), 0) | flag
    return flags


def _flagged(segment: Segment) -> Iterator[tuple[str, int]]:
    yield from ((address, AddressFlag.DHCP_SERVER) for address in segment.dhcp_servers)
    yield from ((address, AddressFlag.ROUTER) for address in segment.routers)
    yield from ((address, AddressFlag.RESOLVER) for address in segment.resolvers)
    yield from ((address, 0) for address in segment.gateway)
