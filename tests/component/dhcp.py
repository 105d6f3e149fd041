"""DHCP messages as bytes, for tests: exactly what they are told to be, wrong ones too."""

from __future__ import annotations

import struct

from tests import packets as p

OFFER, ACK, NAK = 2, 5, 6
REPLY6 = 7


def option(code: int, value: bytes) -> bytes:
    return struct.pack(">BB", code, len(value)) + value


def answer(kind: int, client: str, address: str, server: str, lease: int | None = 3600, *, op: int = 2,
           more: bytes = b"", end: bytes = b"\xff") -> bytes:  # fmt: skip
    """A server's DHCPv4 message (RFC 2131) behind the UDP header."""
    head = struct.pack(">BBBBIHH", op, 1, 6, 0, 0x1234, 0, 0) + bytes(4) + p.address(address) + bytes(8)
    head += p.mac(client).ljust(16, b"\0") + bytes(64 + 128) + bytes((99, 130, 83, 99))
    options = option(53, bytes((kind,))) + option(54, p.address(server))
    options += b"" if lease is None else option(51, struct.pack(">I", lease))
    return head + options + more + end


def answer_frame(server: tuple[str, str], client: str, address: str, message: bytes, *, broadcast: bool = False,
                 ports: tuple[int, int] = (67, 68)) -> bytes:  # fmt: skip
    """``server`` is (MAC, address); unicast goes to the address that the client is about to get."""
    to = (p.BROADCAST, "255.255.255.255") if broadcast else (client, address)
    return p.ip_frame(server, to, 17, p.udp(*ports, message))


def option6(code: int, value: bytes) -> bytes:
    return struct.pack(">HH", code, len(value)) + value


def reply6(*addresses: tuple[str, int], kind: int = REPLY6, more: bytes = b"") -> bytes:
    """A DHCPv6 message (RFC 8415) with one IA_NA of (address, valid lifetime)."""
    inner = b"".join(option6(5, p.address(address) + struct.pack(">II", life, life)) for address, life in addresses)
    ids = option6(1, b"\0\4" + b"c" * 16) + option6(2, b"\0\4" + b"s" * 16)
    return bytes((kind, 1, 2, 3)) + ids + option6(3, struct.pack(">III", 7, 0, 0) + inner) + more


def reply6_frame(server: tuple[str, str], client: tuple[str, str], message: bytes) -> bytes:
    return p.ip_frame(server, client, 17, p.udp(547, 546, message, ends=(server[1], client[1])))
