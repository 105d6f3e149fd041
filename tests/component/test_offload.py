"""What a guest may write into the virtio-net header before its frame: no header lets a frame pass, or changes one that passed."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from buckler.drivers.ebpf.kernel import DEFAULT_OBJECT
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from tests import packets as p
from tests.component.ground import (
    APP,
    SLOWNESS,
    WEB,
    Host,
    Vm,
    Wire,
    add_bridge,
    allow,
    both_ways,
    open_tap,
    own_bpffs,
    own_network,
    run,
)
from tests.component.switched_off import build_without

ONE, TWO, THIRD = Vm(1, WEB), Vm(2, APP), Vm(3, WEB)
NEEDS_SUM, VALID, COALESCED = 1, 2, 4
GSO_NONE, GSO_TCP4, GSO_UDP, GSO_TCP6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80
_SET_TAP, _SET_HEADER_SIZE, _TAP_WITH_HEADER = 0x400454CA, 0x400454D8, 2 | 0x1000 | 0x4000
SHORT = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(4000, 53, b"x" * 30))
SHORT6 = p.ip_frame(ONE.v6, TWO.v6, 17, p.udp(4000, 53, b"x" * 30, ends=(ONE.ipv6, TWO.ipv6)))
OPEN = p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.SYN))
LONG = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(4000, 53, b"y" * 4000))
FORBIDDEN = {
    "another port": p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(4000, 54, b"z" * 3000)),
    "another's address": p.ip_frame((ONE.mac, THIRD.ipv4), TWO.v4, 17, p.udp(4000, 53, b"z" * 3000)),
    "another's MAC": p.ip_frame((THIRD.mac, ONE.ipv4), TWO.v4, 17, p.udp(4000, 53, b"z" * 3000)),
    "TCP without a connection": p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(4000, 80, p.ACK, data=b"z" * 3000)),
    "a claim to another's address": p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(2, (ONE.mac, THIRD.ipv4), TWO.v4)),
}


class Ground:
    """VM 1 behind a tap with headers, as QEMU opens it; VM 2 behind one that offloads nothing: the kernel writes sums itself."""

    def __init__(self, host: Host) -> None:
        self.host, self.sender, self.receiver = host, open_tap_with_headers("tap1"), open_tap("tap2")
        run("ip link set tap2 txqueuelen 30000")  # a frame cut into single bytes fills the usual queue
        host.admit(
            self.sender.ifindex,
            ONE,
            host.put_program(allow(APP, Direction.EGRESS, 17, 53, 32), allow(APP, Direction.EGRESS, 6, 80, 32)),
        )
        host.admit(self.receiver.ifindex, TWO, host.put_program(*both_ways(WEB)))

    def send(self, frame: bytes, flags: int = 0, kind: int = 0, header: int = 0, size: int = 0, start: int = 0, offset: int = 0) -> bool:  # fmt: skip
        """Return whether the kernel took it: it refuses many by itself."""
        try:
            os.write(self.sender.fd, struct.pack("<BBHHHH", flags, kind, header, size, start, offset) + frame)
        except OSError:
            return False
        return True

    def receive(self) -> list[bytes]:
        """All that came out at VM 2, up to a frame that nothing was asked of."""
        end = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(4001, 53, b"the end"))
        self.send(end)
        return self.receiver.receive(until=end)


def open_tap_with_headers(name: str) -> Wire:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _SET_TAP, struct.pack("16sH22x", name.encode(), _TAP_WITH_HEADER))
    fcntl.ioctl(fd, _SET_HEADER_SIZE, struct.pack("i", 10))
    run(f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1")
    run(f"ip link set {name} master br0 up")
    return Wire(name, fd)


@contextmanager
def ground(folder: Path, object_file: Path = DEFAULT_OBJECT) -> Iterator[Ground]:
    with own_network(), own_bpffs(folder / "bpffs") as pins:
        add_bridge()
        host = Host(pins, object_file=object_file)
        made = Ground(host)
        yield made
        for wire in (made.sender, made.receiver):
            wire.close()
        host.close()


def rewrite_everywhere(place: Ground, frame: bytes) -> list[bytes]:
    """Ask for a check sum at every place there is, and return what arrived otherwise than it was judged."""
    places = [(start, offset) for start in range(0, len(frame), 2) for offset in range(0, 60, 2)]
    changed = []
    for number, (start, offset) in enumerate(places):
        place.send(frame, NEEDS_SUM, start=start, offset=offset)
        if number % 200 == 0 or number == len(places) - 1:
            changed += [arrived for arrived in place.receive() if not is_the_same(arrived, frame)]
    return changed


def is_the_same(arrived: bytes, frame: bytes) -> bool:
    """Up to the check sum of its transport header."""
    if arrived[12:14] != frame[12:14]:
        return False
    l4 = 14 + (20 if frame[12:14] == b"\x08\0" else 40)
    at = l4 + (16 if frame[23] == 6 else 6)
    return arrived[:at] + arrived[at + 2 :] == frame[:at] + frame[at + 2 :]


@pytest.mark.parametrize("frame", [SHORT, SHORT6, OPEN], ids=["udp", "udp in ipv6", "tcp"])
def test_a_check_sum_is_written_nowhere_but_in_its_place(frame: bytes, tmp_path: Path) -> None:
    with ground(tmp_path) as place:
        assert rewrite_everywhere(place, frame) == []
        l4 = 54 if frame is SHORT6 else 34
        place.send(frame, NEEDS_SUM, start=l4, offset=16 if frame is OPEN else 6)
        assert len(place.receive()) == 1, "where it belongs it may be left to others"


def test_without_the_control_a_guest_chooses_what_was_judged(tmp_path: Path) -> None:
    with ground(tmp_path, build_without(Reason.MALFORMED)) as place:
        changed = rewrite_everywhere(place, SHORT)
    assert any(frame[26:30] != SHORT[26:30] for frame in changed), "its address"
    assert any(frame[36:38] != SHORT[36:38] for frame in changed), "the port"


def test_no_sum_is_left_to_others_in_what_is_neither_tcp_nor_udp(tmp_path: Path) -> None:
    with ground(tmp_path) as place:
        place.host.admit(place.sender.ifindex, ONE, place.host.put_program(*both_ways(APP)))
        arp = p.ether(ONE.mac, TWO.mac, 0x0806, p.arp(1, ONE.v4, TWO.v4)) + bytes(18)
        first, later = (
            p.ether(ONE.mac, TWO.mac, 0x0800, p.ipv4(ONE.ipv4, TWO.ipv4, 17, part, identification=7, fragment=at, more=not at))
            for at, part in ((0, p.udp(4000, 53, bytes(80))[:48]), (48, p.udp(4000, 53, bytes(80))[48:]))
        )  # fmt: skip
        for frame in (arp, p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(1)), first, later):
            for offset in range(0, 28, 2):
                place.send(frame, NEEDS_SUM, start=34, offset=offset)
        assert place.receive() == []
        for frame in (arp, p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(1)), first, later):
            place.send(frame)
        assert len(place.receive()) == 4, "without the wish all of them pass"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_header_lets_a_forbidden_frame_pass(name: str, tmp_path: Path) -> None:
    choose = random.Random(name)
    with ground(tmp_path) as place:
        for _ in range(3000 // SLOWNESS):
            place.send(FORBIDDEN[name], **random_header(choose))
        assert place.receive() == []


@pytest.mark.parametrize("frame", [LONG, SHORT, OPEN], ids=["long", "short", "tcp"])
def test_whatever_header_comes_with_it_a_frame_arrives_as_it_was_judged(frame: bytes, tmp_path: Path) -> None:
    choose, seen = random.Random(len(frame)), 0
    with ground(tmp_path) as place:
        for _ in range(300 // SLOWNESS):
            place.send(frame, NEEDS_SUM, GSO_UDP, 42, 1400, 34, 6)  # an honest one among them
            for _ in range(5):
                place.send(frame, **random_header(choose))
            for arrived in place.receive():
                seen += 1
                assert (arrived[:14], arrived[23], arrived[26:34]) == (frame[:14], frame[23], frame[26:34])
                if not struct.unpack(">H", arrived[20:22])[0] & 0x1FFF:
                    assert arrived[34:38] == frame[34:38]
    assert seen


def test_honest_offloads_work(tmp_path: Path) -> None:
    with ground(tmp_path) as place:
        place.send(OPEN, NEEDS_SUM, start=34, offset=16)
        place.receiver.send(
            p.ip_frame(TWO.v4, ONE.v4, 6, p.tcp(80, 4000, p.SYN | p.ACK, sequence=5000, acknowledgement=1001))
        )
        data = p.tcp(4000, 80, p.ACK, sequence=1001, acknowledgement=5001, data=b"d" * 4000)
        place.send(p.ip_frame(ONE.v4, TWO.v4, 6, data), NEEDS_SUM, GSO_TCP4, 54, 1400, 34, 16)
        assert [len(frame) - 54 for frame in place.receive()] == [0, 1400, 1400, 1200]
        if place.send(LONG, NEEDS_SUM, GSO_UDP_L4, 42, 1001, 34, 6):  # Linux 6.2 and later take it from a VM
            assert [len(frame) - 42 for frame in place.receive()] == [1001, 1001, 1001, 997]
        place.send(LONG, NEEDS_SUM, GSO_UDP, 42, 1480, 34, 6)
        assert [len(frame) - 34 for frame in place.receive()] == [1480, 1480, 1048]
        place.send(LONG, NEEDS_SUM, GSO_UDP, 42, 1001, 34, 6)
        assert place.receive() == [], "fragments that would overlap"


def random_header(choose: random.Random) -> dict[str, int]:
    return {
        "flags": choose.choice([0, NEEDS_SUM, VALID, COALESCED, NEEDS_SUM | VALID, 7, choose.randrange(256)]),
        "kind": choose.choice([GSO_NONE, GSO_TCP4, GSO_UDP, GSO_TCP6, GSO_UDP_L4, GSO_TCP4 | GSO_ECN, choose.randrange(256)]),
        "header": choose.choice([0, 14, 34, 42, 54, 66, choose.randrange(65536)]),
        "size": choose.choice([0, 1, 8, 500, 1400, choose.randrange(65536)]),
        "start": choose.choice([0, 14, 20, 26, 34, 34, 54, choose.randrange(65536)]),
        "offset": choose.choice([0, 2, 6, 6, 10, 16, choose.randrange(65536)]),
    }  # fmt: skip
