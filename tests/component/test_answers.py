"""What a shield says to what a rule rejects: on the wire, from real taps and ports; to whom it says nothing; how often."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.layout import EVENT_ANSWERED, MARK_ANSWER
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_GROUP, IDENTITY_INFRA, IDENTITY_WORLD
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Entry, Verdict
from buckler.model.shield import Address, AddressKey, BridgePort, GuardState, PortRole
from tests import packets as p
from tests.component.ground import APP, WEB, ZONE, Host, Vm, Wire, both_ways, open_tap, open_veth, run
from tests.component.reading import Answer, read_answer, take_frames

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
ONE, TWO = Vm(1, WEB), Vm(2, APP)
OUTSIDE = ("52:54:00:ff:ff:01", "192.0.2.9")
OUTSIDE6 = ("52:54:00:ff:ff:01", "2001:db8::9")
BUDGET = 100


def reject(*entries: Entry) -> tuple[Entry, ...]:
    return tuple(msgspec.structs.replace(entry, verdict=Verdict.REJECT) for entry in entries)


class Ground:
    """VM 1 and VM 2 on taps of one bridge behind a guard, and a port to the outside."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.one, self.two, self.outside = open_tap("tap1"), open_tap("tap2"), open_veth("up0")
        host.ports.put_bridge_port(BridgePort(self.outside.ifindex, PortRole.OUTSIDE, ZONE))
        self.rules(both_ways(0), both_ways(0))
        ports = frozenset((wire.ifindex, "br0") for wire in (self.one, self.two, self.outside))
        host.guard.apply(GuardState(bridges=frozenset({"br0"}), ports=ports, fabric=""))
        for wire, vm in ((self.one, ONE), (self.two, TWO)):
            wire.send(p.ether(vm.mac, p.BROADCAST, 0x0806, p.arp(1, vm.v4, ("00:00:00:00:00:00", vm.ipv4))))
        time.sleep(0.1)
        for wire in (self.one, self.two, self.outside):
            wire.receive(seconds=0.05)
        host.telemetry.events(1 << 16)

    def rules(self, one: tuple[Entry, ...], two: tuple[Entry, ...], **changes: object) -> None:
        for wire, vm, entries in ((self.one, ONE, one), (self.two, TWO, two)):
            self.host.admit(wire.ifindex, vm, self.host.put_program(*entries), **changes)

    def counted(self, wire: Wire, direction: Direction, reason: Reason) -> int:
        return self.host.reasons(wire.ifindex).get((direction, reason), 0)

    def close(self) -> None:
        for wire in (self.one, self.two, self.outside):
            wire.close()


@pytest.fixture
def ground(host: Host) -> Iterator[Ground]:
    made = Ground(host)
    yield made
    made.close()


def answer_to(wire: Wire, frame: bytes, *, at: Wire | None = None) -> Answer:
    """Send it, and read the one frame that comes back; every check sum in it was right."""
    wire.send(frame)
    (found,) = take_frames(at or wire)
    return read_answer(found)


def silent(wire: Wire, *frames: bytes) -> None:
    wire.send(*frames)
    assert wire.receive(seconds=0.4) == []


SYN = p.tcp(4000, 80, p.SYN, sequence=1000)


@pytest.mark.parametrize("six", [False, True])
def test_a_vms_own_syn_is_reset_out_of_its_tap(ground: Ground, six: bool) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    answer = answer_to(ground.one, p.ip_frame(*ends, 6, SYN))
    assert (answer.source, answer.destination) == (ends[1], ends[0])
    assert answer.tcp == (80, 4000, 0, 1001, p.RST | p.ACK)
    assert ground.two.receive(seconds=0.1) == []
    assert ground.counted(ground.one, EGRESS, Reason.POLICY) == 1
    assert ground.counted(ground.one, INGRESS, Reason.ANSWER) == 1


@pytest.mark.parametrize("six", [False, True])
def test_a_receiver_that_rejects_answers_through_the_bridge_and_the_senders_shield(ground: Ground, six: bool) -> None:
    ground.rules(both_ways(0), reject(*both_ways(0)))
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    answer = answer_to(ground.one, p.ip_frame(*ends, 6, SYN))
    assert (answer.source, answer.destination) == (ends[1], ends[0])
    assert answer.tcp == (80, 4000, 0, 1001, p.RST | p.ACK)
    assert ground.counted(ground.one, INGRESS, Reason.ESTABLISHED) == 1, "the sender's shield knows whose it is"
    assert ground.counted(ground.two, EGRESS, Reason.ANSWER) == 1
    assert ground.two.receive(seconds=0.1) == []


@pytest.mark.parametrize("at_sender", [True, False])
@pytest.mark.parametrize("six", [False, True])
def test_a_datagram_is_answered_by_icmp_that_quotes_it(ground: Ground, six: bool, at_sender: bool) -> None:
    closed, opened = reject(*both_ways(0)), both_ways(0)
    ground.rules(*((closed, opened) if at_sender else (opened, closed)))
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    for size in (0, 1, 300, 1400):
        datagram = p.udp(5000 + size, 53, b"q" * size, ends=(ends[0][1], ends[1][1]))
        frame = p.ip_frame(*ends, 17, datagram)
        answer = answer_to(ground.one, frame)
        assert (answer.source, answer.destination) == (ends[1], ends[0])
        assert answer.icmp == ((1, 1) if six else (3, 13))
        room = (1280 - 48) if six else (576 - 28)
        assert answer.quoted == frame[14:][:room]
        assert answer.unused == 0


def test_other_protocols_and_echo_are_answered_by_icmp(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))
    chunk = p.udp(3000, 5008)[:4] + bytes(8) + b"\1\0\0\x14" + bytes(16)
    for protocol, payload in ((132, chunk), (47, bytes(16)), (1, p.echo(7))):
        assert answer_to(ground.one, p.ip_frame(ONE.v4, TWO.v4, protocol, payload)).icmp == (3, 13)
    six = p.icmpv6(ONE.ipv6, TWO.ipv6, 128, 0, b"\0\7\0\1")
    assert answer_to(ground.one, p.ip_frame(ONE.v6, TWO.v6, 58, six)).icmp == (1, 1)


def test_headers_before_the_transport_are_answered_by_plain_ones(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))
    options = p.ipv4(ONE.ipv4, TWO.ipv4, 6, SYN, options=b"\x07\x07\x04\0\0\0\0\0")
    answer = answer_to(ground.one, p.ether(ONE.mac, TWO.mac, 0x0800, options))
    assert answer.tcp == (80, 4000, 0, 1001, p.RST | p.ACK)
    extended = p.ipv6(ONE.ipv6, TWO.ipv6, 60, b"\6\2" + b"\1\x14" + bytes(20) + SYN)
    answer = answer_to(ground.one, p.ether(ONE.mac, TWO.mac, 0x86DD, extended))
    assert answer.tcp == (80, 4000, 0, 1001, p.RST | p.ACK)


def test_an_answer_has_the_tag_of_what_it_answers(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0), vlan=7)
    kind = 0x0800
    ground.one.send(p.ether(ONE.mac, TWO.mac, kind, p.ipv4(ONE.ipv4, TWO.ipv4, 6, SYN), vlans=(7,)))
    (found,) = take_frames(ground.one)
    assert found[12:16] == b"\x81\0\0\7"
    assert read_answer(found[:12] + found[16:]).tcp == (80, 4000, 0, 1001, p.RST | p.ACK)


@pytest.mark.parametrize(("flags", "data", "expected"), [
    (p.SYN, b"", (0, 1001, p.RST | p.ACK)), (p.SYN, b"fast", (0, 1005, p.RST | p.ACK)),
    (p.FIN, b"", (0, 1001, p.RST | p.ACK)),
    (p.ACK, b"data", (77, 0, p.RST)), (p.FIN | p.ACK, b"", (77, 0, p.RST)),
])  # fmt: skip
def test_numbers_of_a_reset_are_those_of_a_closed_port(
    ground: Ground, flags: int, data: bytes, expected: tuple[int, int, int]
) -> None:
    """RFC 9293, 3.10.7.1. In the middle of a connection: when a change refuses what it allowed."""
    ground.rules(both_ways(0), both_ways(0))
    if flags != p.SYN:
        for back, what in ((0, (p.SYN, 999, 0)), (1, (p.SYN | p.ACK, 76, 1000)), (0, (p.ACK, 1000, 77))):
            ends = (TWO.v4, ONE.v4) if back else (ONE.v4, TWO.v4)
            ports = (80, 4000) if back else (4000, 80)
            segment = p.tcp(*ports, what[0], sequence=what[1], acknowledgement=what[2])
            (ground.two if back else ground.one).send(p.ip_frame(*ends, 6, segment))
            assert take_frames(ground.one if back else ground.two)
    ground.rules(reject(*both_ways(0)), both_ways(0))
    segment = p.tcp(4000, 80, flags, sequence=1000, acknowledgement=77 if flags & p.ACK else 0, data=data)
    answer = answer_to(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, segment))
    assert answer.tcp == (80, 4000, *expected)


def test_who_asks_from_outside_is_answered_outside(ground: Ground) -> None:
    ground.rules(both_ways(0), reject(*both_ways(IDENTITY_WORLD)))
    for one, two in ((OUTSIDE, TWO.v4), (OUTSIDE6, TWO.v6)):
        ground.outside.send(p.ip_frame(one, two, 6, SYN))
        answers = [found for found in take_frames(ground.outside) if found[:6] == p.mac(one[0])]
        assert [read_answer(found).tcp for found in answers] == [(80, 4000, 0, 1001, p.RST | p.ACK)]


def test_of_two_that_reject_the_sender_answers_once(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), reject(*both_ways(0)))
    ground.one.send(p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    assert len(take_frames(ground.one)) == 1
    assert ground.two.receive(seconds=0.1) == []
    assert ground.counted(ground.two, EGRESS, Reason.ANSWER) == 0


def test_nothing_is_said_to_what_is_itself_an_answer(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), reject(*both_ways(0)))
    asked = p.ipv4(TWO.ipv4, ONE.ipv4, 17, p.udp(53, 53))
    silent(
        ground.one,
        p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.RST, sequence=1)),
        p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.RST | p.ACK, sequence=1, acknowledgement=1)),
        p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.SYN | p.ACK, sequence=1, acknowledgement=1)),
        p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.ACK, sequence=1, acknowledgement=1)),
        *(p.ip_frame(ONE.v4, TWO.v4, 1, p.icmp(kind, 0, data=asked)) for kind in (3, 4, 5, 11, 12, 0, 14, 18)),
        *(p.ip_frame(ONE.v6, TWO.v6, 58, p.icmpv6(ONE.ipv6, TWO.ipv6, kind, 0, data=asked)) for kind in (1, 2, 3, 4, 127, 137)),
    )  # fmt: skip


def test_nothing_is_said_to_fragments_groups_spoofs_and_hosts(ground: Ground) -> None:
    ground.host.book.put_addresses({AddressKey(0, "10.9.0.250/32"): Address(IDENTITY_INFRA)})  # type: ignore[arg-type]
    ground.rules(reject(*both_ways(0), *both_ways(IDENTITY_GROUP)), both_ways(0))
    syn = p.ipv4(ONE.ipv4, TWO.ipv4, 6, SYN)
    group = "01:00:5e:00:00:fb"
    silent(
        ground.one,
        p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(1, 2), more=True)),
        p.ether(ONE.mac, group, 0x0800, p.ipv4(ONE.ipv4, "224.0.0.251", 17, p.udp(5353, 5353))),
        p.ether(ONE.mac, p.BROADCAST, 0x0800, p.ipv4(ONE.ipv4, "255.255.255.255", 17, p.udp(1, 2))),
        p.ether(ONE.mac, p.BROADCAST, 0x0800, syn),
        p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4("10.9.0.77", TWO.ipv4, 6, SYN)),
        p.ether("52:54:00:00:00:77", TWO.mac, 0x0800, syn),
        p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, ONE.ipv4, 6, SYN)),
        p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, "10.9.0.250", 6, SYN)),
        p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4("0.0.0.0", TWO.ipv4, 6, SYN)),
    )  # fmt: skip


def test_a_denial_says_nothing_and_an_observed_vm_hears_nothing(ground: Ground) -> None:
    ground.rules((), both_ways(0))
    silent(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    ground.rules(reject(*both_ways(0)), both_ways(0), mode=ShieldMode.OBSERVE)
    silent(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    assert take_frames(ground.two) != []


def test_sources_that_are_nobody_hear_nothing(ground: Ground) -> None:
    ground.rules(both_ways(0), reject(*both_ways(IDENTITY_WORLD)))
    for source in ("240.0.0.1", "0.1.2.3", "127.0.0.1", "224.0.0.9"):
        ground.outside.send(p.ip_frame((OUTSIDE[0], source), TWO.v4, 6, SYN))
    assert [found for found in ground.outside.receive(seconds=0.4) if found[6:12] == p.mac(TWO.mac)] == []


def test_a_vm_that_does_not_speak_here_yet_does_not_answer_either(ground: Ground) -> None:
    """One that is still arriving: an answer in its name would draw its frames here before it runs."""
    ground.rules(both_ways(0), reject(*both_ways(0)))
    ground.host.shield.delete_tap(ground.two.ifindex)
    ground.rules(both_ways(0), reject(*both_ways(0)))
    silent(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    assert ground.counted(ground.two, INGRESS, Reason.POLICY) == 1


def test_answers_are_few(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))
    began = time.monotonic()
    ground.one.send(*(p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(1024 + port, 80, p.SYN)) for port in range(1000)))
    took = time.monotonic() - began
    answers = len(ground.one.receive(seconds=0.5))
    assert BUDGET <= answers <= BUDGET * (2 + took)
    assert ground.counted(ground.one, EGRESS, Reason.POLICY) == 1000


def test_both_directions_have_a_budget_of_their_own(ground: Ground) -> None:
    """Whoever knocks from outside does not use up the answers to what the VM itself asks."""
    ground.rules(both_ways(0), reject(*both_ways(0)))
    ground.outside.send(*(p.ip_frame(OUTSIDE, TWO.v4, 6, p.tcp(1024 + port, 80, p.SYN)) for port in range(1000)))
    ground.outside.receive(seconds=0.3)
    assert answer_to(ground.two, p.ip_frame(TWO.v4, ONE.v4, 6, SYN)).tcp == (80, 4000, 0, 1001, p.RST | p.ACK)


def test_an_answer_is_told_with_the_refusal(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))
    answer_to(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    silent(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.RST, sequence=1)))
    events = [event for event in ground.host.telemetry.events(100) if event.ifindex == ground.one.ifindex]
    assert [(event.answered, event.allowed) for event in events] == [(True, False), (False, False)]
    assert EVENT_ANSWERED == 2


def tx_packets(name: str) -> int:
    shown = subprocess.run(["ip", "-s", "-j", "link", "show", name], capture_output=True, check=True)
    return int(json.loads(shown.stdout)[0]["stats64"]["tx"]["packets"])


def test_counts_equal_the_taps_own_with_answers_in_them(ground: Ground) -> None:
    ground.rules(reject(*both_ways(0)), both_ways(0))

    def passed() -> int:
        counts = ground.host.reasons(ground.one.ifindex)
        return sum(number for (way, reason), number in counts.items() if way is INGRESS and reason < Reason.POLICY)

    before, sent = passed(), tx_packets("tap1")
    for port in range(20):
        answer_to(ground.one, p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(1024 + port, 80, p.SYN)))
    assert passed() - before == tx_packets("tap1") - sent == 20


def test_a_mark_from_the_bridge_opens_nothing(ground: Ground) -> None:
    """Only on its way into a tap does our mark say anything; towards a VM it is a number as any other."""
    ground.rules(both_ways(0), reject(*both_ways(0)))
    run(f"nft add table bridge forger; nft 'add chain bridge forger out {{ type filter hook forward priority 1; }}'; "
        f"nft 'add rule bridge forger out meta mark set meta mark or {MARK_ANSWER:#x}'")  # fmt: skip
    ground.one.send(p.ip_frame(ONE.v4, TWO.v4, 6, SYN))
    assert ground.two.receive(seconds=0.3) == []
    assert ground.counted(ground.two, INGRESS, Reason.POLICY) == 1
    run("nft delete table bridge forger")


def test_the_way_for_answers_is_closed_again_after_each(ground: Ground) -> None:
    """What comes right behind an answer is judged as ever, also where the answer could not be made."""
    ground.rules(reject(*both_ways(0)), both_ways(0))
    stranger = p.ip_frame(TWO.v4, ONE.v4, 6, p.tcp(81, 4000, p.ACK, sequence=1, acknowledgement=1))
    huge = p.ipv6(
        ONE.ipv6,
        TWO.ipv6,
        60,
        b"\x11\xff" + b"\1\xff" + bytes(255) + b"\1\xff" * 1 + bytes(1789 - 255 - 2) + p.udp(1, 2),
    )
    for frame in (p.ip_frame(ONE.v4, TWO.v4, 6, SYN), p.ether(ONE.mac, TWO.mac, 0x86DD, huge)):
        run_hook(ground.host.kernel, "tap_from_vm", frame, ground.one.ifindex)
        assert not run_hook(ground.host.kernel, "tap_to_vm", stranger, ground.one.ifindex).passed


def test_a_plain_frame_of_a_test_without_a_tag_is_what_was_built() -> None:
    """The reader would notice a wrong sum."""
    good = p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(1, 2, ends=(ONE.ipv4, TWO.ipv4))))
    with pytest.raises(AssertionError):
        read_answer(good)
    assert layout.MARK_ANSWER & 0x0048FFFF == 0, "no bit that VXLAN's group policy takes from the wire"
    assert struct.calcsize("<I") == 4
