"""Virtual addresses and what a guest leaves to others: sums that the kernel writes later, and frames that it cuts later."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.model.shield import ServiceKey
from tests import packets as p
from tests.component.ground import ZONE, both_ways
from tests.component.reading import take_frames
from tests.component.serving import (
    TCP,
    UDP,
    VIP4,
    VIP6,
    first_frame,
    next_frame,
    read_packet,
    reply_frame,
    service,
)
from tests.component.test_offload import GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_SUM, ONE, TWO, Ground, ground

HEADER = 10
"""Bytes of virtio-net before each frame."""
MAC = "02:62:6b:00:00:09"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Ground]:
    """VM 1 leaves to others what it can; VM 2, the one member, gets every frame as it stands on the wire."""
    with ground(tmp_path) as made:
        made.host.services.put_services({
            ServiceKey(ZONE, VIP4): service(9, TWO),
            ServiceKey(ZONE, VIP6): service(9 << 8, TWO, six=True),
        })  # fmt: skip
        for wire, vm in ((made.sender, ONE), (made.receiver, TWO)):
            made.host.admit(wire.ifindex, vm, made.host.put_program(*both_ways(0)), services=True)
        yield made


def partial(frame: bytes, l4: int, at: int) -> bytes:
    """What a guest writes into the place of a sum that it leaves to others: that of the pseudo header, not turned round."""
    source, destination, protocol = (26, 30, frame[23]) if l4 == 34 else (22, 38, frame[20])
    size = 4 if l4 == 34 else 16
    ends = frame[source : source + size] + frame[destination : destination + size]
    value = ~p.checksum(ends + struct.pack(">II", len(frame) - l4, protocol)) & 0xFFFF
    return frame[: l4 + at] + struct.pack(">H", value) + frame[l4 + at + 2 :]


def sums(six: bool) -> tuple[int, tuple[tuple[str, str], tuple[str, str]]]:
    ends = (ONE.v6, (MAC, VIP6)) if six else (ONE.v4, (MAC, VIP4))
    return (54 if six else 34), ends


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_a_sum_that_is_left_to_others_comes_out_right(place: Ground, protocol: int, six: bool) -> None:
    l4, ends = sums(six)
    at = 16 if protocol == TCP else 6
    for local in range(4000, 4020):
        frame = partial(first_frame(protocol, ends, local), l4, at)
        assert place.send(frame, NEEDS_SUM, start=l4, offset=at)
        (arrived,) = take_frames(place.receiver)
        assert read_packet(arrived).destination == (TWO.v6 if six else TWO.v4)


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_large_segments_are_cut_into_translated_ones(place: Ground, six: bool) -> None:
    l4, ends = sums(six)
    member = TWO.v6 if six else TWO.v4
    place.send(first_frame(TCP, ends))
    assert len(take_frames(place.receiver)) == 1
    place.receiver.send(reply_frame(TCP, (member, ends[0])))
    (answer,) = take_frames(place.sender)
    assert read_packet(answer[HEADER:]).source[1] == ends[1][1]
    data = bytes(number % 251 for number in range(30000))
    large = partial(next_frame(TCP, ends, data=data), l4, 16)
    assert place.send(large, NEEDS_SUM, GSO_TCP6 if six else GSO_TCP4, l4 + 20, 1400, l4, 16)
    pieces = take_frames(place.receiver)
    assert len(pieces) == 22
    assert {read_packet(piece).destination for piece in pieces} == {member}
    assert b"".join(piece[l4 + 20 :] for piece in pieces) == data


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_large_segments_of_a_member_are_cut_into_translated_ones(place: Ground, six: bool) -> None:
    """The other way: VM 2 is the client, whose tap takes nothing that is left to others."""
    l4, _ = sums(six)
    member, client, virtual = (ONE.v6, TWO.v6, VIP6) if six else (ONE.v4, TWO.v4, VIP4)
    key = ServiceKey(ZONE, virtual)
    place.host.services.put_services({key: service(9 << 8 if six else 9, ONE, six=six)})
    place.receiver.send(first_frame(TCP, (client, (MAC, virtual))))
    assert len(take_frames(place.sender)) == 1
    place.send(partial(reply_frame(TCP, (member, client)), l4, 16), NEEDS_SUM, start=l4, offset=16)
    (answer,) = take_frames(place.receiver)
    assert read_packet(answer).source[1] == virtual
    place.receiver.send(next_frame(TCP, (client, (MAC, virtual))))
    assert len(take_frames(place.sender)) == 1
    data = bytes(number % 251 for number in range(30000))
    body = p.tcp(80, 4000, p.ACK, sequence=5001, acknowledgement=1001, data=data)
    large = partial(p.ip_frame(member, client, TCP, body), l4, 16)
    assert place.send(large, NEEDS_SUM, GSO_TCP6 if six else GSO_TCP4, l4 + 20, 1400, l4, 16)
    pieces = take_frames(place.receiver)
    assert len(pieces) == 22
    assert {read_packet(piece).source[1] for piece in pieces} == {virtual}
    assert b"".join(piece[l4 + 20 :] for piece in pieces) == data


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_large_datagrams_are_cut_into_translated_ones(place: Ground, six: bool) -> None:
    l4, ends = sums(six)
    frame = partial(first_frame(UDP, ends)[: l4 + 8] + bytes(4000), l4, 6)
    frame = set_lengths(frame, l4)
    if not place.send(partial(frame, l4, 6), NEEDS_SUM, GSO_UDP_L4, l4 + 8, 1000, l4, 6):
        return  # Linux 6.1 takes none from a guest
    pieces = take_frames(place.receiver)
    assert len(pieces) == 4
    assert {read_packet(piece).destination for piece in pieces} == {TWO.v6 if six else TWO.v4}


def set_lengths(frame: bytes, l4: int) -> bytes:
    """Of a datagram that grew."""
    size = struct.pack(">H", len(frame) - l4)
    frame = frame[: l4 + 4] + size + frame[l4 + 6 :]
    if l4 == 54:
        return frame[:18] + size + frame[20:]
    frame = frame[:16] + struct.pack(">H", len(frame) - 14) + frame[18:24] + b"\0\0" + frame[26:]
    return frame[:24] + struct.pack(">H", p.checksum(frame[14:34])) + frame[26:]


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_sum_in_another_place_is_no_way_past_the_translation(place: Ground, six: bool) -> None:
    l4, ends = sums(six)
    frame = first_frame(UDP, ends)
    for start in range(0, l4, 2):
        place.send(frame, NEEDS_SUM, start=start, offset=6)
    assert place.receiver.receive(seconds=0.1) == []
