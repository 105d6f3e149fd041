"""Packets as bytes, for tests: small builders that write exactly what they are told, wrong things too."""

from __future__ import annotations

import ipaddress
import struct

BROADCAST = "ff:ff:ff:ff:ff:ff"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ether(source: str, destination: str, ethertype: int, payload: bytes, vlans: tuple[int, ...] = ()) -> bytes:
    tags = b"".join(struct.pack(">HH", 0x8100, vlan) for vlan in vlans)
    return mac(destination) + mac(source) + tags + struct.pack(">H", ethertype) + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes, *, identification: int = 1, fragment: int = 0,
         more: bool = False, ttl: int = 64, options: bytes = b"", total: int | None = None) -> bytes:  # fmt: skip
    """``fragment`` is the offset in bytes."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total is None else total
    header = struct.pack(">BBHHHBBH4s4s", 0x40 | words, 0, length, identification, fragment // 8 | (0x2000 if more else 0),
                         ttl, protocol, 0, address(source), address(destination)) + options  # fmt: skip
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def ipv6(
    source: str, destination: str, protocol: int, payload: bytes, *, hop_limit: int = 64, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">IHBB", 6 << 28, size, protocol, hop_limit) + address(source) + address(destination) + payload


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    return (ipv6 if ":" in source else ipv4)(source, destination, protocol, payload)


def ip_frame(source: tuple[str, str], destination: tuple[str, str], protocol: int, payload: bytes) -> bytes:
    """``source`` and ``destination`` are (MAC, address)."""
    kind = 0x86DD if ":" in source[1] else 0x0800
    return ether(source[0], destination[0], kind, ip(source[1], destination[1], protocol, payload))


def pseudo(source: str, destination: str, protocol: int, length: int) -> bytes:
    if ":" in source:
        return address(source) + address(destination) + struct.pack(">II", length, protocol)
    return address(source) + address(destination) + struct.pack(">BBH", 0, protocol, length)


def udp(
    source_port: int, destination_port: int, data: bytes = b"x" * 18, *, ends: tuple[str, str] | None = None
) -> bytes:
    header = struct.pack(">HHHH", source_port, destination_port, 8 + len(data), 0)
    if ends is None:
        return header + data
    value = checksum(pseudo(*ends, 17, 8 + len(data)) + header + data) or 0xFFFF
    return header[:6] + struct.pack(">H", value) + data


def tcp(source_port: int, destination_port: int, flags: int, *, sequence: int = 1000, acknowledgement: int = 0,
        window: int = 64000, data: bytes = b"", options: bytes = b"") -> bytes:  # fmt: skip
    words = 5 + len(options) // 4
    header = struct.pack(">HHIIBBHHH", source_port, destination_port, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF,
                         words << 4, flags, window, 0, 0)  # fmt: skip
    return header + options + data


def icmp(kind: int, code: int, rest: bytes = b"\0\0\0\0", data: bytes = b"") -> bytes:
    body = struct.pack(">BBH", kind, code, 0) + rest + data
    return body[:2] + struct.pack(">H", checksum(body)) + body[4:]


def icmpv6(source: str, destination: str, kind: int, code: int, rest: bytes = b"\0\0\0\0", data: bytes = b"") -> bytes:
    body = struct.pack(">BBH", kind, code, 0) + rest + data
    return body[:2] + struct.pack(">H", checksum(pseudo(source, destination, 58, len(body)) + body)) + body[4:]


def echo(identifier: int, *, reply: bool = False) -> bytes:
    return icmp(0 if reply else 8, 0, struct.pack(">HH", identifier, 1), b"y" * 16)


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """``sender`` and ``target`` are (MAC, IPv4 address)."""
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    return head + mac(sender[0]) + address(sender[1]) + mac(target[0]) + address(target[1])


def nd_option(kind: int, link: str) -> bytes:
    return struct.pack(">BB", kind, 1) + mac(link)


def nd(source: tuple[str, str], destination: tuple[str, str], kind: int, target: str = "", options: bytes = b"", *,
       hop_limit: int = 255, flags: int = 0) -> bytes:  # fmt: skip
    """A whole neighbour discovery frame; ``kind`` 133 to 137."""
    rest = struct.pack(">I", flags)
    body = (address(target) if target else b"") + options
    if kind == 134:
        body = bytes(8) + body
    message = icmpv6(source[1], destination[1], kind, 0, rest, body)
    return ether(source[0], destination[0], 0x86DD, ipv6(source[1], destination[1], 58, message, hop_limit=hop_limit))


def dhcp_request(
    client: str, *, op: int = 1, hops: int = 0, relay: str = "0.0.0.0", cookie: bytes = b"\x63\x82\x53\x63"
) -> bytes:
    """A DHCPv4 DISCOVER behind the UDP header; ``client`` is the hardware address that asks."""
    head = (
        struct.pack(">BBBBIHH", op, 1, 6, hops, 0x1234, 0, 0)
        + bytes(12)
        + address(relay)
        + mac(client).ljust(16, b"\0")
    )
    return head + bytes(64 + 128) + cookie + b"\x35\x01\x01\xff"
