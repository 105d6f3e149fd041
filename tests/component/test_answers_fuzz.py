"""Hostile frames against a shield that rejects: whatever it says goes to who asked, is whole, and is no larger than it may be."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from buckler.model.shield import Tap
from tests import packets as p
from tests.component.ground import SLOWNESS, Host, Wire, both_ways, open_tap
from tests.component.reading import read_answer
from tests.component.test_answers import reject
from tests.component.test_fuzz import CORPUS, MAC, ONE, OWN, THIRD, TWO, Runner, mutate

FRAMES, AT_ONCE = 6_000, 40
LARGER_BY = {4: 28, 6: 48}
"""What an ICMP error puts before the packet that it quotes: a network header and its own."""


class Rejecting:
    """VM 1 rejects everything, with a full bucket for every few frames; what is let out or in is read on both sides."""

    def __init__(self, host: Host) -> None:
        self.host, self.tap, self.other = host, open_tap("tap1"), open_tap("tap2")
        for vm in (TWO, THIRD):
            host.know(vm)
        self.admitted: Tap = host.admit(self.tap.ifindex, ONE, host.put_program(*reject(*both_ways(0))))
        self.runs = {way: Runner(host, hook, self.tap.ifindex) for way, hook in
                     ((Direction.EGRESS, "tap_from_vm"), (Direction.INGRESS, "tap_to_vm"))}  # fmt: skip

    def fill_buckets(self) -> None:
        key = layout.U32.pack(self.tap.ifindex)
        index = layout.U32.unpack(self.host.kernel["tap_index"].get(key) or b"")[0]
        state = layout.TAP_STATE.pack(0, 0, 0, 1, 0, 0, 0)
        self.host.kernel["tap_states"].put(layout.U32.pack(index >> 1), state)

    def close(self) -> None:
        self.tap.close()
        self.other.close()


@pytest.fixture
def rejecting(tcx_host: Host) -> Iterator[Rejecting]:
    made = Rejecting(tcx_host)
    yield made
    made.close()


def drain(wire: Wire) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(os.read(wire.fd, 70000))
        except BlockingIOError:
            return found


def check(asked: list[bytes], said: list[bytes], way: Direction) -> None:
    """Each answer is to some frame that was sent, from the one whom it asked, to the one who asked."""
    wanted = {(frame[:6], frame[6:12]) for frame in asked}
    for frame in said:
        answer = read_answer(frame)
        assert (frame[6:12], frame[:6]) in wanted, f"to nobody who asked: {frame.hex()}"
        assert not (frame[0] | frame[6]) & 1, "no group is spoken to, and none speaks"
        own = answer.destination if way is Direction.EGRESS else answer.source
        assert p.address(own[1]) in OWN, f"in nobody's name: {frame.hex()}"
        assert p.mac(own[0]) == MAC
        if answer.quoted:
            (quoted,) = {each[14:][: len(answer.quoted)] for each in asked if each[14:].startswith(answer.quoted)}
            assert len(frame) - 14 == len(quoted) + LARGER_BY[6 if frame[12:14] == b"\x86\xdd" else 4]


@pytest.mark.timeout(200)
def test_answers_to_hostile_frames_go_to_who_asked_and_are_whole(rejecting: Rejecting) -> None:
    seed = time.time_ns() & 0xFFFFFFFF
    choose, said = random.Random(seed), dict.fromkeys(Direction, 0)
    for number in range(FRAMES // AT_ONCE // SLOWNESS):
        way = Direction(number % 2)
        asked = [mutate(choose, choose.choice(CORPUS)) for _ in range(AT_ONCE)]
        rejecting.fill_buckets()
        passed = [frame for frame in asked if rejecting.runs[way].passes(frame)]
        answers = drain(rejecting.tap) if way is Direction.EGRESS else []
        time.sleep(0.002)
        answers += drain(rejecting.other)
        assert len(answers) + len(passed) <= AT_ONCE, "never two for one"
        assert not [frame for frame in answers if frame in passed]
        try:
            check(asked, answers, way)
        except AssertionError as failure:
            raise AssertionError(f"seed {seed}: {failure}") from failure
        said[way] += len(answers)
    assert min(said.values()) > 20, said


def test_every_answer_is_counted_and_every_refusal_too(rejecting: Rejecting) -> None:
    choose = random.Random(7)
    for _ in range(20):
        rejecting.fill_buckets()
        for _ in range(AT_ONCE):
            rejecting.runs[Direction.EGRESS].passes(mutate(choose, choose.choice(CORPUS)))
    answers = len(drain(rejecting.tap))
    counts = rejecting.host.reasons(rejecting.tap.ifindex)
    assert counts[Direction.INGRESS, Reason.ANSWER] == answers > 0
    assert counts[Direction.EGRESS, Reason.POLICY] >= answers
    assert sum(number for (way, _), number in counts.items() if way is Direction.EGRESS) == 20 * AT_ONCE
