"""Random frames against the laws that no configuration changes, asked of the real programs through BPF_PROG_TEST_RUN.

Frames come from the bypass catalogue and from lawful control traffic, mutated where structure lies. The reference below
is written from the documents (docs/design/shield.md), not from the C.
"""

from __future__ import annotations

import ctypes as c
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.drivers.ebpf import libbpf
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.bundle import ServiceMember, ServicePort
from buckler.model.program import Direction
from buckler.model.shield import Service, ServiceKey
from tests import packets as p
from tests.component.attacks import ATTACKS, dhcp, igmp, mld, nd
from tests.component.catalogue import ATTACKS_FROM_OUTSIDE, ATTACKS_OF_VM, ATTACKS_TOWARDS_VM, ONE, THIRD, TWO
from tests.component.ground import SLOWNESS, ZONE, Host, Vm, add_bridge, both_ways, open_veth, own_bpffs, own_network
from tests.component.switched_off import build_without

FRAMES = 210_000
OWN = {p.address(each) for each in (ONE.ipv4, ONE.ipv6, ONE.link_local)}
MAC = p.mac(ONE.mac)
ZERO4, ZERO6 = bytes(4), bytes(16)
LAWFUL = [
    p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, ("00:00:00:00:00:00", TWO.ipv4))),
    p.ether(ONE.mac, p.BROADCAST, 0x8035, p.arp(3, (ONE.mac, "0.0.0.0"), (ONE.mac, "0.0.0.0"))),
    nd(135, TWO.ipv6, p.nd_option(1, ONE.mac)), nd(136, ONE.ipv6, p.nd_option(2, ONE.mac)), p.nd(ONE.ll, ("33:33:00:00:00:02", "ff02::2"), 133),
    p.nd((ONE.mac, "::"), ("33:33:ff:00:00:01", "ff02::1:ff00:1"), 135, ONE.ipv6, bytes([14, 1]) + bytes(6)),
    dhcp(p.dhcp_request(ONE.mac)), igmp(0x16, b""), igmp(0x22, b"\4\0\0\0\xe0\0\0\xfb", 1), mld(b"\4\0\0\0" + p.address("ff02::fb")),
    p.ip_frame(ONE.ll, ("33:33:00:01:00:02", "ff02::1:2"), 17, p.udp(546, 547)),
]  # fmt: skip
SOME = [
    p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(5, 6)), p.ip_frame(ONE.v6, TWO.v6, 17, p.udp(5, 6)), p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(5, 80, p.SYN)),
    p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(6, 5)), p.ip_frame(TWO.v6, ONE.v6, 6, p.tcp(80, 5, p.SYN | p.ACK)), p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(4)),
]  # fmt: skip
VIRTUAL4, VIRTUAL6, DESERTED = "10.9.0.200", "fd00:9::200", "10.9.0.202"
TO_VIRTUAL = [
    p.ip_frame(ONE.v4, ("02:62:6b:00:00:07", VIRTUAL4), 17, p.udp(5, 6)), p.ip_frame(ONE.v6, ("02:62:6b:00:00:08", VIRTUAL6), 6, p.tcp(5, 80, p.SYN)),
    p.ip_frame(ONE.v4, (TWO.mac, VIRTUAL4), 132, b"\0\5\0\6" + bytes(8) + b"\1\0\0\x14" + bytes(16)), p.ip_frame(ONE.v4, (TWO.mac, VIRTUAL4), 17, p.udp(5, 7)),
    p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, ("00:00:00:00:00:00", VIRTUAL4))), nd(135, VIRTUAL6, p.nd_option(1, ONE.mac)),
    p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(6, 5)), p.ip_frame(TWO.v6, ONE.v6, 6, p.tcp(80, 5, p.SYN | p.ACK)), p.ip_frame((TWO.mac, VIRTUAL4), ONE.v4, 17, p.udp(6, 5)),
    p.ip_frame(ONE.v4, (TWO.mac, DESERTED), 17, p.udp(5, 6)), p.ip_frame(TWO.v4, ONE.v4, 1, p.icmp(3, 3, data=p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(5, 6)))),
]  # fmt: skip
CORPUS = LAWFUL * 6 + SOME * 4 + [
    frame
    for attack in (*ATTACKS_OF_VM.values(), *ATTACKS.values(), *ATTACKS_TOWARDS_VM.values(), *ATTACKS_FROM_OUTSIDE.values())
    for frame in attack[0]
]  # fmt: skip
WORDS = [p.address(each) for vm in (ONE, TWO, THIRD) for each in (vm.ipv4, vm.ipv6, vm.link_local)]
WORDS += [p.address(each) for each in (VIRTUAL4, VIRTUAL6)]
WORDS += [p.mac(vm.mac) for vm in (ONE, TWO, THIRD)] + [
    b"\0\x44\0\x43",
    b"\0\x43\0\x44",
    b"\2\x22\2\x23",
    ZERO4,
    b"\xff" * 6,
]
BYTES = (
    0,
    1,
    2,
    4,
    6,
    14,
    17,
    41,
    43,
    44,
    50,
    51,
    58,
    59,
    60,
    64,
    128,
    129,
    130,
    133,
    134,
    135,
    136,
    137,
    143,
    254,
    255,
)


def mutate(choose: random.Random, frame: bytes) -> bytes:
    made = bytearray(frame)
    for _ in range(choose.choice((0, 1, 1, 2, 3, 5))):
        what, at = choose.randrange(6), choose.randrange(len(made))
        if what == 0:
            made[at] = choose.choice(BYTES)
        elif what == 1:
            made[min(at, choose.randrange(70)) % len(made)] ^= 1 << choose.randrange(8)
        elif what == 2:
            word = choose.choice(WORDS)
            at = choose.choice((0, 6, 22, 26, 28, 30, 34, 38, 54, 62, 70, 80, at))
            made[at : at + len(word)] = word
        elif what == 3:
            del made[max(14, at) :]
        elif what == 4:
            made += choose.randbytes(choose.choice((1, 8, 40, 400)))
        else:
            made[14:] = choose.choice(CORPUS)[14:]
    least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(bytes(made[12:14]), 15)
    return bytes(made[:1500]).ljust(least, b"\0")  # shorter ones the kernel does not run


def may_pass_unasked(frame: bytes) -> bool:
    """Is this one of the forms in which a VM without any allowing rule may speak?"""
    kind, body = frame[12:14], frame[14:]
    if frame[6:12] != MAC:
        return False
    if kind in (b"\x08\x06", b"\x80\x35"):
        return is_lawful_arp(kind, body, len(frame))
    if kind == b"\x08\x00":
        return is_lawful_ipv4(body, len(frame))
    return kind == b"\x86\xdd" and is_lawful_ipv6(body, len(frame))


def is_lawful_arp(kind: bytes, body: bytes, length: int) -> bool:
    if length > 64 or body[:6] != b"\0\1\x08\0\6\4" or body[8:14] != MAC:
        return False
    operation, sender, target = body[6:8], body[14:18], body[24:28]
    if kind == b"\x80\x35":
        return operation == b"\0\3" and body[18:24] == MAC and sender == target == ZERO4
    if operation == b"\0\1" and sender == ZERO4:
        return target in OWN
    return operation in (b"\0\1", b"\0\2") and sender in OWN


def is_lawful_ipv4(body: bytes, length: int) -> bool:
    header, total = (body[0] & 15) * 4, struct.unpack(">H", body[2:4])[0]
    protocol, source, target, payload = body[9], body[12:16], body[16:20], body[header:total]
    if (length > 64 and length != 14 + total) or body[6] & 0x3F or body[7]:
        return False
    if protocol == 2:
        return source in OWN and body[8] == 1 and is_lawful_report(payload, 4)
    ports = payload[:4] == b"\0\x44\0\x43" and target == b"\xff" * 4 and (source in OWN or source == ZERO4)
    return (
        protocol == 17 and ports and payload[8:12] == b"\1\1\6\0" and payload[32:36] == ZERO4 and payload[36:42] == MAC
    )


def is_lawful_report(payload: bytes, size: int) -> bool:
    kind = payload[0]
    if kind not in (0x22, 143):
        return kind in (0x12, 0x16, 0x17, 131, 132) and len(payload) == 8 + (0 if size == 4 else 16)
    at, records = 8, struct.unpack(">H", payload[6:8])[0]
    for _ in range(records):
        if len(payload) < at + 4 or payload[at + 1]:
            return False
        at += 4 + size * (1 + struct.unpack(">H", payload[at + 2 : at + 4])[0])
    return at == len(payload)


def is_lawful_ipv6(body: bytes, length: int) -> bool:
    end = 40 + struct.unpack(">H", body[4:6])[0]
    following, hops, source, payload = body[6], body[7], body[8:24], body[40:end]
    if length > 64 and length != 14 + end:
        return False
    if following in (0, 60):
        following, payload = payload[0], payload[(payload[1] + 1) * 8 :]
    if following == 17:
        return payload[:4] == b"\2\x22\2\x23" and source in OWN and body[24:40] == p.address("ff02::1:2")
    if following != 58:
        return False
    if payload[0] in (131, 132, 143):
        return hops == 1 and source == p.address(ONE.link_local) and is_lawful_report(payload, 16)
    return body[6] == 58 and hops == 255 and payload[1] == 0 and is_lawful_discovery(payload, source)


def is_lawful_discovery(payload: bytes, source: bytes) -> bool:
    kind, target = payload[0], payload[8:24]
    options = payload[8 if kind == 133 else 24 :]
    for at in range(0, len(options), 8):
        option = options[at : at + 8]
        if (
            len(option) < 8
            or at > 8
            or option[0] not in (1, 2, 14)
            or option[1] != 1
            or (option[0] != 14 and option[2:] != MAC)
        ):
            return False
    if source == ZERO6:
        return kind == 133 or (kind == 135 and target in OWN)
    return source in OWN and (kind in (133, 135) or (kind == 136 and target in OWN))


def speaks_for_itself(frame: bytes) -> bool:
    """Holds for whatever a VM that may do everything gets out: its own MAC, its own address."""
    if frame[6:12] != MAC:
        return False
    if frame[12:14] == b"\x08\x00":
        return frame[26:30] in OWN or (frame[26:30] == ZERO4 and may_pass_unasked(frame))
    if frame[12:14] == b"\x86\xdd":
        return frame[22:38] in OWN or (frame[22:38] == ZERO6 and may_pass_unasked(frame))
    return may_pass_unasked(frame)


def is_addressed_to_it(frame: bytes) -> bool:
    group_mac = bool(frame[0] & 1)
    if (frame[:6] != MAC and not group_mac) or frame[6:12] == MAC:
        return False
    if frame[12:14] == b"\x08\x00":
        to = frame[30:34]
        return to in OWN or 224 <= to[0] < 240 or to == b"\xff" * 4 or group_mac
    if frame[12:14] == b"\x86\xdd":
        return frame[38:54] in OWN or frame[38] == 0xFF or group_mac
    return frame[12:14] == b"\x08\x06"


class Runner:
    """One hook at one interface, with buffers made once."""

    def __init__(self, host: Host, hook: str, ifindex: int) -> None:
        self._fd = host.kernel.hook(hook)
        self._data, self._out = c.create_string_buffer(2048), c.create_string_buffer(4096)
        self._context = c.create_string_buffer(192)
        struct.pack_into("<I", self._context, 40, ifindex)
        self._options = libbpf.TestRunOptions(
            sz=c.sizeof(libbpf.TestRunOptions), data_in=c.cast(self._data, c.c_void_p), data_out=c.cast(self._out, c.c_void_p),
            ctx_in=c.cast(self._context, c.c_void_p), ctx_size_in=192, repeat=1,
        )  # fmt: skip

    def passes(self, frame: bytes) -> bool:
        c.memmove(self._data, frame, len(frame))
        self._options.data_size_in, self._options.data_size_out = len(frame), 4096
        libbpf.check(libbpf.prog_test_run(self._fd, c.byref(self._options)), f"run {frame.hex()} {len(frame)}")
        self.written = self._out.raw[: self._options.data_size_out]
        assert self._options.retval in (0xFFFFFFFF, 2), "neither let go nor dropped"
        return self._options.retval == 0xFFFFFFFF


@pytest.fixture
def shielded(tcx_host: Host) -> Iterator[tuple[Host, int, int, int]]:
    """Interfaces of one VM: denied everything, allowed everything, and one that nobody configured."""
    yield from shield(tcx_host)


def serve(host: Host) -> None:
    """Virtual addresses: with members, the VM itself among them, and with none. Every port of three protocols."""
    ports = tuple(ServicePort(protocol, 1, 0xFFFF) for protocol in (6, 17, 132))
    ports = (*ports[:1], ServicePort(17, 1, 6), ports[2])
    four, six = (
        [ServiceMember(vm_end[1], vm_end[0]) for vm_end in ends] for ends in ((ONE.v4, TWO.v4), (ONE.v6, TWO.v6))
    )
    host.services.put_services({
        ServiceKey(ZONE, VIRTUAL4): Service(7, ports, tuple(four)),
        ServiceKey(ZONE, VIRTUAL6): Service(8, ports, tuple(six)),
        ServiceKey(ZONE, DESERTED): Service(9, ports, ()),
    })  # fmt: skip


def is_rid_of_virtual_addresses(name: str, frame: bytes, written: bytes) -> bool:
    """None leaves as a destination, and none arrives as a source that a frame brought; what is written is whole."""
    virtual = {p.address(each) for each in (VIRTUAL4, VIRTUAL6, DESERTED)}
    at, size = {b"\x08\x00": (26, 4), b"\x86\xdd": (22, 16)}.get(frame[12:14], (0, 0))
    if not size:
        return written == frame
    if name.endswith("in"):
        return frame[at : at + size] not in virtual and len(written) == len(frame)
    to = slice(at + size, at + 2 * size)
    if frame[to] in virtual:
        return written[to] == p.address(TWO.ipv4 if size == 4 else TWO.ipv6) and written[:6] == p.mac(TWO.mac)
    return written == frame


def shield(host: Host, *, served: bool = False) -> Iterator[tuple[Host, int, int, int]]:
    if served:
        serve(host)
    wires = [open_veth(name) for name in ("denied0", "open0", "unknown0")]
    for vm in (TWO, THIRD):
        host.know(vm)
    host.admit(wires[0].ifindex, ONE, host.put_program(), services=served)
    host.admit(wires[1].ifindex, ONE, host.put_program(*both_ways(0)), services=served)
    yield host, *(wire.ifindex for wire in wires)
    for wire in wires:
        wire.close()


def fuzz(
    host: Host, denied: int, opened: int, unknown: int, frames: int, seed: int, *, served: bool = False
) -> dict[str, int]:
    choose = random.Random(seed)
    corpus = CORPUS + TO_VIRTUAL * 12 if served else CORPUS
    runs = {name: Runner(host, hook, at) for name, hook, at in (
        ("denied", "tap_from_vm", denied), ("denied in", "tap_to_vm", denied), ("open", "tap_from_vm", opened),
        ("open in", "tap_to_vm", opened), ("unknown", "tap_from_vm", unknown), ("unknown in", "tap_to_vm", unknown))}  # fmt: skip
    laws = {
        "denied": may_pass_unasked,
        "open": speaks_for_itself,
        "open in": is_addressed_to_it,
        "denied in": is_addressed_to_it,
    }
    names, passed = list(runs), dict.fromkeys(runs, 0)
    for number in range(frames):
        frame = mutate(choose, choose.choice(corpus))
        name = names[number % 6 if number % 6 < 4 or number % 60 > 53 else number % 2 * 2]
        if runs[name].passes(frame):
            passed[name] += 1
            assert name in laws, f"seed {seed}: an interface without a shield lets pass {frame.hex()}"
            assert laws[name](frame), f"seed {seed}: {name} lets pass {frame.hex()}"
            kept = (
                is_rid_of_virtual_addresses(name, frame, runs[name].written) if served else runs[name].written == frame
            )
            assert kept, f"seed {seed}: {name} makes {runs[name].written.hex()} of {frame.hex()}"
    return passed


@pytest.mark.timeout(280)
@pytest.mark.parametrize("served", [False, True])
def test_random_frames_keep_the_laws(tcx_host: Host, served: bool) -> None:
    for shielded in shield(tcx_host, served=served):
        keep_the_laws(shielded, served=served)


def keep_the_laws(shielded: tuple[Host, int, int, int], *, served: bool) -> None:
    host, denied, opened, unknown = shielded
    frames, seed = int(FRAMES / SLOWNESS), time.time_ns() & 0xFFFFFFFF
    passed = fuzz(*shielded, frames, seed, served=served)
    counted = {
        at: sum(count for (_, reason), count in host.reasons(at).items() if reason is not Reason.ANSWER)
        for at in (denied, opened)
    }
    unknowing = frames - sum(counted.values())
    assert host.reasons(unknown) == {}, "nobody made counters for it"
    assert 0 < unknowing < frames // 10
    assert counted[denied] > frames // 4
    assert sum(counted.values()) + unknowing == frames
    assert passed["denied"] > frames // 100, "lawful forms are among them"
    assert passed["open"] > frames // 50
    assert passed["open in"] > frames // 1000
    reasons = {reason for at in (denied, opened) for _, reason in host.reasons(at)}
    never = {
        Reason.NONE,
        Reason.ANSWER,
        Reason.RATE,
        Reason.EXPIRED,
        Reason.OBSERVED,
        Reason.PORT,
        Reason.NO_PROGRAM,
        Reason.FOREIGN_TUNNEL,
        Reason.FOREIGN_OUTSIDE,
        Reason.UNCONFIGURED,
        *(() if served else (Reason.RESOLVED, Reason.SERVICE, Reason.NO_MEMBER)),
    }
    rare = {Reason.RELATED, Reason.TCP_RESET, Reason.CONNECTIONS_FULL, Reason.INFRA}
    assert set(Reason) - never - rare <= reasons


@pytest.mark.parametrize("reason", [Reason.SPOOFED_ND, Reason.SPOOFED_MAC, Reason.ROGUE_MEMBERSHIP])
def test_the_fuzzer_notices_a_missing_control(reason: Reason, tmp_path: Path) -> None:
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        host = Host(pins, object_file=build_without(reason))
        for made in shield(host):
            with pytest.raises(AssertionError, match="lets pass"):
                fuzz(*made, 20_000, 1)
        host.close()


def test_counts_are_per_direction(shielded: tuple[Host, int, int, int]) -> None:
    host, denied, _, _ = shielded
    Runner(host, "tap_from_vm", denied).passes(LAWFUL[0])
    Runner(host, "tap_to_vm", denied).passes(LAWFUL[0])
    assert {direction for direction, _ in host.reasons(denied)} == set(Direction)


def test_a_vm_of_another_number_is_another(shielded: tuple[Host, int, int, int]) -> None:
    assert not may_pass_unasked(p.ether(Vm(9, ONE.identity).mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, TWO.v4)))
    assert all(may_pass_unasked(frame) for frame in LAWFUL)
