"""Resets of a connection that came from another host: nobody's window is known there, so none is believed before it is."""

from __future__ import annotations

import random

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from tests import packets as p
from tests.component.ground import SLOWNESS
from tests.component.test_connections import APP, ONE, Tapped, allow, shared, tapped

__all__ = ["shared", "tapped"]
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
OURS, THEIRS = 1001, 5001
"""What either end sends next."""


def carry(tapped: Tapped) -> None:
    """Leave of a connection what a handover leaves: no stamp, no sequence number."""
    tapped.shake_hands()
    table = tapped.host.shield._inner("established", slot_of(tapped))
    assert table is not None
    for key, value in table.items().items():
        fields = list(layout.CONNECTION.unpack(value))
        fields[2] = fields[3] = 0
        for side in (4, 10):
            fields[side : side + 3] = 0, 0, 0
            fields[side + 4] = 0
        table.put(key, layout.CONNECTION.pack(*fields))
    table.close()


def slot_of(tapped: Tapped) -> int:
    index = tapped.host.kernel["tap_index"].get(layout.U32.pack(tapped.ifindex))
    assert index is not None
    return int(layout.U32.unpack(index)[0]) >> 1


def reset(tapped: Tapped, direction: Direction, sequence: int, acknowledgement: int | None = None) -> Reason:
    flags = p.RST if acknowledgement is None else p.RST | p.ACK
    return tapped.tcp(direction, flags, sequence & 0xFFFFFFFF, acknowledgement or 0)


def lives(tapped: Tapped) -> bool:
    return tapped.tcp(EGRESS, p.ACK, OURS, THEIRS) is Reason.ESTABLISHED and tapped.counts() == (1, 0)


@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_before_anybody_spoke_no_reset_passes(tapped: Tapped, direction: Direction) -> None:
    carry(tapped)
    for sequence in (0, OURS, THEIRS, 0x80000000, 0xFFFFFFFF):
        for acknowledgement in (None, 0, OURS, THEIRS):
            assert reset(tapped, direction, sequence, acknowledgement) is Reason.TCP_RESET
    assert lives(tapped)


def test_a_sender_alone_teaches_nobody_to_believe_it(tapped: Tapped) -> None:
    """A forger outside speaks first in the other end's name: what it claims opens no window for its reset."""
    carry(tapped)
    assert tapped.tcp(INGRESS, p.ACK, 0x40000000, OURS, data=b"forged") is Reason.ESTABLISHED
    for sequence in (0x40000000, 0x40000006, THEIRS):
        assert reset(tapped, INGRESS, sequence) is Reason.TCP_RESET
    assert lives(tapped)


def test_what_a_forger_taught_gives_no_more_than_the_window(tapped: Tapped) -> None:
    carry(tapped)
    tapped.tcp(INGRESS, p.ACK, 0x40000000, OURS, data=b"forged")
    tapped.tcp(EGRESS, p.ACK, OURS, THEIRS)
    for sequence in (0x40000000, 0x40000006, THEIRS + 70000, THEIRS - 1):
        assert reset(tapped, INGRESS, sequence) is Reason.TCP_RESET
    assert lives(tapped)


def test_one_end_known_only_the_exact_reset_is_believed(tapped: Tapped) -> None:
    carry(tapped)
    assert tapped.tcp(EGRESS, p.ACK, OURS, THEIRS) is Reason.ESTABLISHED
    choose = random.Random(3)
    for sequence in [
        THEIRS - 1,
        THEIRS + 1,
        THEIRS + 100,
        *(choose.randrange(1 << 32) for _ in range(500 // SLOWNESS)),
    ]:
        if sequence != THEIRS:
            assert reset(tapped, INGRESS, sequence) is Reason.TCP_RESET
    assert reset(tapped, INGRESS, THEIRS) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, OURS, THEIRS) is not Reason.NEW


def test_both_ends_known_it_is_as_at_home(tapped: Tapped) -> None:
    carry(tapped)
    tapped.tcp(EGRESS, p.ACK, OURS, THEIRS)
    tapped.tcp(INGRESS, p.ACK, THEIRS, OURS, data=b"0123456789")
    assert reset(tapped, INGRESS, THEIRS + 5) is Reason.ESTABLISHED, "under way: passes, and is challenged by the VM"
    assert lives(tapped), "but ends nothing"
    assert reset(tapped, INGRESS, THEIRS + 11) is Reason.TCP_RESET
    assert reset(tapped, INGRESS, THEIRS) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.SYN, 90000) is Reason.NEW, "the exact one ends it"


def test_a_reset_is_judged_by_policy_like_any_packet(tapped: Tapped) -> None:
    carry(tapped)
    tapped.host.admit(tapped.ifindex, ONE, tapped.host.put_program(allow(APP, EGRESS, 6, 81, 32)))
    assert reset(tapped, INGRESS, THEIRS) is Reason.POLICY
    assert tapped.counts() == (0, 0)
