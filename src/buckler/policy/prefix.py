"""Prefixes and addresses: which named prefix an address falls in. Owns the arithmetic, not who named them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
ALL_IPV4 = "0.0.0.0/0"


@lru_cache(maxsize=65536)
def network_of(prefix: str) -> Network:
    """Parse a prefix."""
    return ipaddress.ip_network(prefix)


@lru_cache(maxsize=65536)
def address_of(text: str) -> Address:
    """Parse an address."""
    return ipaddress.ip_address(text)


def is_within(part: str, whole: str) -> bool:
    """Say whether a prefix lies in another of its family."""
    version, address, length, bits = _bits_of(part)
    family, base, outer, _ = _bits_of(whole)
    return version == family and length >= outer and (address ^ base) >> (bits - outer) == 0


@lru_cache(maxsize=65536)
def _bits_of(prefix: str) -> tuple[int, int, int, int]:
    """Version, address and length of a prefix, and the bits that an address of its family has."""
    network = network_of(prefix)
    return network.version, int(network.network_address), network.prefixlen, network.max_prefixlen


@lru_cache(maxsize=262144)
def host_prefix(address: str) -> str:
    """Write an address as the prefix that holds it alone."""
    return f"{address}/{address_of(address).max_prefixlen}"


def is_host_prefix(prefix: str) -> bool:
    """Say whether a prefix holds one address alone."""
    _, _, length, bits = _bits_of(prefix)
    return length == bits


def broadcast_prefixes(cidrs: Iterable[str]) -> tuple[str, ...]:
    """Name the directed broadcast address of each IPv4 prefix that has one."""
    networks = [each for each in map(network_of, cidrs) if isinstance(each, ipaddress.IPv4Network)]
    return tuple(f"{each.broadcast_address}/32" for each in networks if each.prefixlen < 31)


def longest(prefix: str, named: Iterable[str]) -> str | None:
    """Find the longest of ``named`` that contains ``prefix``."""
    found = [each for each in named if is_within(prefix, each)]
    return max(found, key=lambda each: network_of(each).prefixlen, default=None)


class Nest:
    """``longest`` among prefixes that are known before: asked by length, the longest first."""

    def __init__(self, named: Iterable[str]) -> None:
        self._by: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        for prefix in named:
            version, address, length, bits = _bits_of(prefix)
            self._by[version].setdefault(length, {})[address >> (bits - length)] = prefix
        self._lengths = {version: sorted(found, reverse=True) for version, found in self._by.items()}

    def longest(self, prefix: str) -> str | None:
        """Find the longest that contains ``prefix``."""
        version, address, length, bits = _bits_of(prefix)
        for each in self._lengths[version]:
            found = self._by[version][each].get(address >> (bits - each)) if each <= length else None
            if found is not None:
                return found
        return None


def covers_mapped(prefix: str) -> bool:
    """Say whether an IPv6 prefix contains the room in which the kernel's table keeps IPv4 (``::ffff:0:0/96``)."""
    network = network_of(prefix)
    return isinstance(network, ipaddress.IPv6Network) and _MAPPED.subnet_of(network)
