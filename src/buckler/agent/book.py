"""Segments and members → who owns which address and MAC. Pure; owns no tap."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from buckler.model.bundle import Endpoint, Member, Segment
from buckler.model.ids import IDENTITY_HOST, IDENTITY_INFRA, IDENTITY_WORLD, IdentityNumber, VmNumber, Zone
from buckler.model.shield import Address, AddressFlag, AddressKey, MacKey

_EVERYWHERE = Zone(0)
_NOBODY = VmNumber(0)


def link_local(mac: str) -> str:
    """The EUI-64 link-local address of a MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]))


def endpoint_addresses(endpoint: Endpoint) -> tuple[str, ...]:
    """All addresses that are the interface's own, sorted, the implied one among them."""
    own = {str(ipaddress.ip_address(address)) for address in endpoint.addresses} | {link_local(endpoint.mac)}
    return tuple(sorted(own))


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
    segments = tuple(segments)
    book: dict[AddressKey, Address] = {}
    for segment in segments:
        book.update(_segment_addresses(segment))
    served = {prefix_of(address) for segment in segments for address in segment.gateway}
    hidden = {prefix_of(address) for address in host_addresses}
    hidden |= {prefix_of(address) for member in members for address in (*member.addresses, member.fabric) if address}
    for prefix in hidden - served:
        book[AddressKey(_EVERYWHERE, prefix)] = Address(IDENTITY_INFRA)
    return book


def resolve_macs(segments: Iterable[Segment]) -> dict[MacKey, VmNumber]:
    """Every registered MAC in its zone."""
    return {
        MacKey(segment.zone, endpoint.mac.lower()): endpoint.number
        for segment in segments
        for endpoint in segment.endpoints
    }


def _segment_addresses(segment: Segment) -> dict[AddressKey, Address]:
    owners = {
        prefix_of(address): endpoint for endpoint in segment.endpoints for address in endpoint_addresses(endpoint)
    }
    identities = {prefix_of(address): identity for address, identity in segment.identities.items()}
    book = {prefix_of(entry.cidr): Address(entry.identity) for entry in segment.cidr_identities}
    flags = _flags(segment)
    for prefix in {*owners, *identities, *flags}:
        endpoint = owners.get(prefix)
        if prefix in identities:
            identity = identities[prefix]
        elif endpoint is not None:
            identity = _lagging_identity(endpoint, identities)
        else:
            identity = _outside_identity(prefix, segment)
        number = _NOBODY if endpoint is None else endpoint.number
        book[prefix] = Address(identity, number, flags.get(prefix, 0))
    return {AddressKey(segment.zone, prefix): address for prefix, address in book.items()}


def _lagging_identity(endpoint: Endpoint, identities: dict[str, IdentityNumber]) -> IdentityNumber:
    """An implied address flips together with the declared ones, not before them."""
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
    yield from ((address, 0) for address in segment.gateway)
