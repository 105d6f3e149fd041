"""Answers to frames of which a guest left the check sum or the cutting to others: nothing of that clings to the answer."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from buckler.model.program import Entry, Verdict
from tests import packets as p
from tests.component.ground import both_ways
from tests.component.reading import Answer, read_answer, take_frames
from tests.component.test_offload import GSO_TCP4, GSO_TCP6, GSO_UDP_L4, NEEDS_SUM, ONE, TWO, Ground, ground

HEADER = 10
"""Bytes of virtio-net before each frame."""


def set_rules(place: Ground, one: Verdict, two: Verdict) -> None:
    def rules(verdict: Verdict) -> tuple[Entry, ...]:
        return tuple(msgspec.structs.replace(entry, verdict=verdict) for entry in both_ways(0))

    place.host.admit(place.sender.ifindex, ONE, place.host.put_program(*rules(one)))
    place.host.admit(place.receiver.ifindex, TWO, place.host.put_program(*rules(two)))


def speak(place: Ground) -> None:
    """Both VMs live here."""
    for wire, vm, before in ((place.sender, ONE, bytes(HEADER)), (place.receiver, TWO, b"")):
        wire.send(before + p.ether(vm.mac, p.BROADCAST, 0x0806, p.arp(1, vm.v4, ("00:00:00:00:00:00", vm.ipv4))))
    place.sender.receive(seconds=0.2)
    place.receiver.receive(seconds=0.2)


def answer(place: Ground) -> Answer:
    (found,) = take_frames(place.sender)
    assert found[0] & NEEDS_SUM == 0, "its sum stands already"
    assert found[1] == 0, "it is one frame"
    return read_answer(found[HEADER:])


@pytest.mark.parametrize("at_sender", [True, False])
@pytest.mark.parametrize("six", [False, True])
def test_answers_to_what_was_left_to_others_are_whole(tmp_path: Path, six: bool, at_sender: bool) -> None:
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    l4 = 54 if six else 34
    with ground(tmp_path) as place:
        set_rules(place, *((Verdict.REJECT, Verdict.ALLOW) if at_sender else (Verdict.ALLOW, Verdict.REJECT)))
        speak(place)
        place.send(p.ip_frame(*ends, 6, p.tcp(4000, 80, p.SYN)), NEEDS_SUM, start=l4, offset=16)
        assert answer(place).tcp == (80, 4000, 0, 1001, p.RST | p.ACK)
        for size in (0, 18, 1200):
            frame = p.ip_frame(*ends, 17, p.udp(5000 + size, 53, b"q" * size))
            place.send(frame, NEEDS_SUM, start=l4, offset=6)
            got = answer(place)
            assert (got.icmp, got.unused) == (((1, 1) if six else (3, 13)), 0)
            assert frame[14:].startswith(got.quoted[: l4 - 14 + 6])
            assert len(got.quoted) == min(len(frame) - 14, 1232 if six else 548)
        large = p.ip_frame(*ends, 17, p.udp(5001, 53, b"g" * 4000))
        if place.send(large, NEEDS_SUM, GSO_UDP_L4, l4 + 8, 1000, l4, 6):  # Linux 6.1 takes none from a guest
            found = take_frames(place.sender)
            assert found
            assert all(read_answer(each[HEADER:]).icmp for each in found)


@pytest.mark.parametrize("six", [False, True])
def test_a_large_segment_of_a_connection_that_a_change_ends_is_reset(tmp_path: Path, six: bool) -> None:
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    l4 = 54 if six else 34
    with ground(tmp_path) as place:
        set_rules(place, Verdict.ALLOW, Verdict.ALLOW)
        speak(place)
        place.send(p.ip_frame(*ends, 6, p.tcp(4000, 80, p.SYN, sequence=999)), NEEDS_SUM, start=l4, offset=16)
        place.receiver.send(p.ip_frame(*ends[::-1], 6, p.tcp(80, 4000, 18, sequence=76, acknowledgement=1000)))
        place.send(p.ip_frame(*ends, 6, p.tcp(4000, 80, p.ACK, sequence=1000, acknowledgement=77)))
        assert len(take_frames(place.sender)) == 1
        set_rules(place, Verdict.REJECT, Verdict.ALLOW)
        data = p.tcp(4000, 80, p.ACK, sequence=1000, acknowledgement=77, data=b"d" * 20000)
        assert place.send(p.ip_frame(*ends, 6, data), NEEDS_SUM, GSO_TCP6 if six else GSO_TCP4, l4 + 20, 1400, l4, 16)
        assert answer(place).tcp == (80, 4000, 77, 0, p.RST)
