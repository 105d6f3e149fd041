"""Reads the answers of a shield, and holds every length and check sum in them to be right. Trusts no field of another."""

from __future__ import annotations

import ipaddress
import select
import struct

import msgspec

from tests import packets as p
from tests.component.ground import SLOWNESS, Wire


class Answer(msgspec.Struct, frozen=True):
    """``tcp``: ports, sequence, acknowledgement, flags. ``icmp``: type and code, with what it quotes."""

    source: tuple[str, str]
    destination: tuple[str, str]
    tcp: tuple[int, int, int, int, int] | None = None
    icmp: tuple[int, int] | None = None
    quoted: bytes = b""
    unused: int = 0


def take_frames(wire: Wire) -> list[bytes]:
    """Wait for something to arrive, and for what comes right behind it."""
    select.select([wire.fd], [], [], 5.0 * SLOWNESS)
    return wire.receive(seconds=0.1)


def read_answer(frame: bytes) -> Answer:
    """Read an untagged frame that holds a reset or an ICMP error and nothing else."""
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        protocol, source, destination, payload = _ipv4(packet)
    else:
        assert kind == b"\x86\xdd"
        protocol, source, destination, payload = _ipv6(packet)
    ends = (frame[6:12].hex(":"), source), (frame[:6].hex(":"), destination)
    pseudo = p.pseudo(source, destination, protocol, len(payload))
    if protocol == 6:
        assert p.checksum(pseudo + payload) == 0, "the sum of TCP"
        assert len(payload) == 20
        *numbers, offset, flags, window, _, urgent = struct.unpack(">HHIIBBHHH", payload)
        assert (offset, window, urgent) == (0x50, 0, 0)
        return Answer(*ends, tcp=(*numbers, flags))
    assert protocol in (1, 58)
    assert p.checksum((pseudo if protocol == 58 else b"") + payload) == 0, "the sum of ICMP"
    (unused,) = struct.unpack(">I", payload[4:8])
    return Answer(*ends, icmp=(payload[0], payload[1]), quoted=payload[8:], unused=unused)


def _ipv4(packet: bytes) -> tuple[int, str, str, bytes]:
    assert packet[0] == 0x45
    assert p.checksum(packet[:20]) == 0, "the sum of the IPv4 header"
    assert struct.unpack(">H", packet[2:4])[0] == len(packet) <= 576
    assert packet[6:8] in (b"\x40\0", b"\0\0")
    assert packet[8] == 64
    ends = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return packet[9], *ends, packet[20:]  # type: ignore[return-value]


def _ipv6(packet: bytes) -> tuple[int, str, str, bytes]:
    assert packet[0] == 0x60
    assert struct.unpack(">H", packet[4:6])[0] == len(packet) - 40 <= 1240
    assert packet[7] == 64
    ends = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
    return packet[6], *ends, packet[40:]  # type: ignore[return-value]
