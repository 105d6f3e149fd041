"""DHCP messages as servers send them → leases. Pure, and hostile input is its food: what is not plain gives none.

Owns no trust: that the server is a permitted one, and the message meant for the VM, the shield has seen to.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator

import msgspec

_MAGIC = bytes((99, 130, 83, 99))
_OPTIONS = 240
_PAD, _END, _LEASE, _OVERLOAD, _MESSAGE = 0, 255, 51, 52, 53
_ACK, _REPLY6 = 5, 7
_IA_NA, _IA_ADDRESS, _STATUS = 3, 5, 13
_FOR_EVER = 0xFFFFFFFF
_MAX_OPTIONS = 256
_MAX_ADDRESSES = 8


class Lease(msgspec.Struct, frozen=True):
    """``seconds`` 0: for ever."""

    address: str
    seconds: int


def read_dhcp(message: bytes, mac: str) -> Lease | None:
    """Read a DHCPACK that leases an address to ``mac`` (RFC 2131, table 3). None for anything else.

    An ACK without lease time answers DHCPINFORM and gives no address.
    """
    if len(message) < _OPTIONS or message[0] != 2 or message[1:3] != b"\1\6" or message[236:_OPTIONS] != _MAGIC:
        return None
    if message[28:34] != bytes.fromhex(mac.replace(":", "")):
        return None
    found = dict.fromkeys((_LEASE, _MESSAGE, _OVERLOAD), b"")
    for code, value in _options(message[_OPTIONS:]):
        if code in found and not found[code]:
            found[code] = value
    # Options that overflow into the fields of names (RFC 2132, 9.3) are no server's that gives plain leases.
    if found[_MESSAGE] != bytes((_ACK,)) or len(found[_LEASE]) != 4 or found[_OVERLOAD]:
        return None
    address = ipaddress.IPv4Address(message[16:20])
    (seconds,) = struct.unpack(">I", found[_LEASE])
    return _lease(address, seconds)


def read_dhcpv6(message: bytes) -> tuple[Lease, ...]:
    """Read the addresses of all IA_NA of a Reply (RFC 8415, 18.2.10.1). An error's status takes its IA's away."""
    if len(message) < 4 or message[0] != _REPLY6:
        return ()
    leases: list[Lease] = []
    options = list(_options6(message[4:]))
    if _has_failed(options):
        return ()
    for code, value in options:
        if code == _IA_NA and len(value) >= 12:
            leases += _leases6(list(_options6(value[12:])))
    return tuple(leases[:_MAX_ADDRESSES])


def _leases6(options: list[tuple[int, bytes]]) -> Iterator[Lease]:
    if _has_failed(options):
        return
    for code, value in options:
        if code != _IA_ADDRESS or len(value) < 24 or _has_failed(list(_options6(value[24:]))):
            continue
        (seconds,) = struct.unpack(">I", value[20:24])
        lease = _lease(ipaddress.IPv6Address(value[:16]), seconds)
        if lease is not None:
            yield lease


def _lease(address: ipaddress.IPv4Address | ipaddress.IPv6Address, seconds: int) -> Lease | None:
    if seconds == 0 or address.is_unspecified:
        return None
    return Lease(str(address), 0 if seconds == _FOR_EVER else seconds)


def _has_failed(options: list[tuple[int, bytes]]) -> bool:
    return any(code == _STATUS and value[:2] != b"\0\0" for code, value in options)


def _options(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Options up to the end mark, or to where they are cut."""
    at = 0
    for _ in range(_MAX_OPTIONS):
        while at < len(raw) and raw[at] == _PAD:
            at += 1
        if at + 2 > len(raw) or raw[at] == _END or at + 2 + raw[at + 1] > len(raw):
            return
        yield raw[at], raw[at + 2 : at + 2 + raw[at + 1]]
        at += 2 + raw[at + 1]


def _options6(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    for _ in range(_MAX_OPTIONS):
        if at + 4 > len(raw):
            return
        code, length = struct.unpack_from(">HH", raw, at)
        if at + 4 + length > len(raw):
            return
        yield code, raw[at + 4 : at + 4 + length]
        at += 4 + length
