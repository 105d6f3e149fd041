"""The short way of known and repeated packets: what it remembers never outlives a change, and it says what the long way says."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_INFRA, Digest, IdentityNumber, VmNumber, Zone
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressKey, Tap
from tests import packets as p
from tests.component.ground import (
    APP,
    SLOWNESS,
    WEB,
    ZONE,
    Host,
    Vm,
    Wire,
    add_bridge,
    allow,
    both_ways,
    open_veth,
    own_bpffs,
    own_network,
)

ONE, TWO, THIRD = Vm(1, WEB), Vm(2, APP), Vm(3, WEB)
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
HOOKS = {EGRESS: "tap_from_vm", INGRESS: "tap_to_vm"}
SHORT_WAY = "f->plain = read_plain(skb, f);"


class Asked:
    """VM 1's shield; every call of ``ask`` is a new flow to TWO:53 that differs in its source port alone."""

    def __init__(self, host: Host, wire: Wire) -> None:
        self.host, self.wire, self._ports = host, wire, count(2000)
        host.know(TWO)
        host.know(THIRD)
        self.admit(self.opened())

    def opened(self) -> Digest:
        return self.host.put_program(allow(APP, EGRESS, 17, 53, 32), allow(APP, EGRESS, 6, 80, 32))

    def closed(self) -> Digest:
        return self.host.put_program(allow(APP, EGRESS, 6, 80, 32))

    def admit(self, program: Digest, vm: Vm = ONE, **changes: object) -> Tap:
        return self.host.admit(self.wire.ifindex, vm, program, **changes)

    def judge(self, frame: bytes, direction: Direction = EGRESS) -> Reason:
        before = self.host.reasons(self.wire.ifindex)
        run_hook(self.host.kernel, HOOKS[direction], frame, self.wire.ifindex)
        (changed,) = [k for k, n in self.host.reasons(self.wire.ifindex).items() if n != before.get(k)]
        return changed[1]

    def ask(self) -> Reason:
        return self.judge(p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(next(self._ports), 53)))

    def talk(self, port: int = 1999) -> None:
        """One established flow."""
        for direction in (EGRESS, INGRESS, EGRESS, EGRESS):
            assert self.judge(self.packet(direction, port), direction) < Reason.POLICY

    def packet(self, direction: Direction = EGRESS, port: int = 1999, *, six: bool = False) -> bytes:
        ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
        source, destination = ends if direction is EGRESS else ends[::-1]
        ports = (port, 53) if direction is EGRESS else (53, port)
        return p.ip_frame(source, destination, 17, p.udp(*ports, ends=(source[1], destination[1])))

    def slip_in(self, owner: Address) -> None:
        """Change whose TWO's address is, past the door: nobody is told."""
        _, key = layout.pack_prefix(ZONE, f"{TWO.ipv4}/32")
        self.host.kernel["hosts"].put(key, layout.OWNER.pack(owner.identity, owner.vm, 0))


@pytest.fixture
def asked(tcx_host: Host) -> Asked:
    made = Asked(tcx_host, open_veth("tap1"))
    assert [made.ask(), made.ask(), made.ask()] == [Reason.NEW] * 3
    return made


def test_a_decision_is_remembered_until_somebody_may_have_changed_it(asked: Asked) -> None:
    """Else the tests below could not fail."""
    asked.slip_in(Address(WEB, TWO.number))
    assert asked.ask() is Reason.NEW
    asked.host.shield.rejudge()
    assert asked.ask() is Reason.POLICY


def test_another_program_is_asked(asked: Asked) -> None:
    asked.admit(asked.closed())
    assert asked.ask() is Reason.POLICY
    assert asked.ask() is Reason.POLICY
    asked.admit(asked.opened())
    assert asked.ask() is Reason.NEW, "a refusal is remembered no longer either"


@pytest.mark.parametrize(
    ("zone", "prefix", "owner", "reason"),
    [
        (ZONE, f"{TWO.ipv4}/32", Address(WEB, TWO.number), Reason.POLICY),
        (Zone(0), f"{TWO.ipv4}/32", Address(IDENTITY_INFRA), Reason.INFRA),
        (Zone(0), "10.9.0.0/24", Address(IDENTITY_INFRA), Reason.INFRA),
    ],
    ids=["relabelled", "infra", "infra's prefix"],
)
def test_the_address_book_is_asked_anew(asked: Asked, zone: Zone, prefix: str, owner: Address, reason: Reason) -> None:
    asked.host.book.put_addresses({AddressKey(zone, prefix): owner})
    assert asked.ask() is reason


def test_a_forgotten_address_is_the_worlds(asked: Asked) -> None:
    asked.host.book.delete_addresses(frozenset({AddressKey(ZONE, f"{TWO.ipv4}/32")}))
    assert asked.ask() is Reason.POLICY


def test_while_the_book_changes_and_after_a_writer_died_nothing_is_remembered(asked: Asked) -> None:
    with asked.host.kernel.changing_book():
        asked.slip_in(Address(WEB, TWO.number))
        assert asked.ask() is Reason.POLICY
        asked.slip_in(Address(APP, TWO.number))
        assert asked.ask() is Reason.NEW
    with pytest.raises(RuntimeError), asked.host.kernel.changing_book():
        raise RuntimeError
    for owner, reason in ((WEB, Reason.POLICY), (APP, Reason.NEW)):
        asked.slip_in(Address(owner, TWO.number))
        assert asked.ask() is reason
    asked.host.book.put_addresses({AddressKey(ZONE, f"{THIRD.ipv4}/32"): Address(WEB, THIRD.number)})
    asked.ask()
    asked.slip_in(Address(WEB, TWO.number))
    assert asked.ask() is Reason.NEW, "the next whole change lets it remember again"


def test_an_address_that_was_taken_away_speaks_no_more(asked: Asked) -> None:
    asked.talk()
    asked.admit(asked.opened(), addresses=(ONE.ipv6,))
    assert asked.ask() is Reason.SPOOFED_ADDRESS
    assert asked.judge(asked.packet()) is Reason.SPOOFED_ADDRESS, "nor in an established flow"
    assert asked.judge(asked.packet(INGRESS), INGRESS) is Reason.NOT_FOR_VM


def test_the_next_tap_of_a_slot_inherits_nothing(asked: Asked) -> None:
    for _ in range(3):
        asked.talk()
        asked.host.shield.delete_tap(asked.wire.ifindex)
        asked.admit(asked.closed(), vm_number(9))
        assert asked.ask() is Reason.POLICY
        assert asked.judge(asked.packet()) is Reason.POLICY
        asked.host.shield.delete_tap(asked.wire.ifindex)
        asked.admit(asked.opened())
        assert asked.ask() is Reason.NEW


def vm_number(number: int) -> Vm:
    """Another VM that has VM 1's card and addresses."""
    vm = Vm(1, WEB)
    vm.number = VmNumber(number)
    return vm


def test_an_established_flow_excuses_no_malformed_or_spoofed_packet(asked: Asked) -> None:
    asked.talk()
    whole = asked.packet()
    assert asked.judge(whole) is Reason.ESTABLISHED
    for frame, reason in {
        whole[:6] + p.mac(THIRD.mac) + whole[12:]: Reason.SPOOFED_MAC,
        p.mac(p.BROADCAST) + whole[6:]: Reason.MARTIAN,
        whole[:16] + struct.pack(">H", 0xFFFF) + whole[18:]: Reason.MALFORMED,
        whole[:38] + struct.pack(">H", 7) + whole[40:]: Reason.MALFORMED,
        whole[:38] + struct.pack(">H", 900) + whole[40:]: Reason.MALFORMED,
        whole[:20] + struct.pack(">H", 0x0003) + whole[22:]: Reason.FRAGMENT,
        whole[:14] + bytes([0x55]) + whole[15:]: Reason.MALFORMED,
    }.items():
        assert asked.judge(frame) is reason, frame.hex()
    assert asked.judge(whole) is Reason.ESTABLISHED


def test_ipv6_written_as_ipv4_is_no_packet_of_an_ipv4_flow(asked: Asked) -> None:
    asked.talk()
    body = p.ipv6("::ffff:" + ONE.ipv4, "::ffff:" + TWO.ipv4, 17, p.udp(1999, 53))
    assert asked.judge(p.ether(ONE.mac, TWO.mac, 0x86DD, body)) is Reason.MARTIAN


def test_a_flow_is_no_way_around_dhcp(asked: Asked) -> None:
    """An answer to port 68 needs a declared server, also where a connection from there stands."""
    assert asked.judge(asked.packet(port=68)) is Reason.NEW
    assert asked.judge(asked.packet(INGRESS, 68), INGRESS) is Reason.ROGUE_DHCP


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[tuple[Asked, Asked]]:
    """The shield as it is, and one whose short way is walled up."""
    shutil.copytree(Path(__file__).parents[2] / "bpf", tmp_path / "bpf")
    header = tmp_path / "bpf/lib/tap.h"
    assert header.read_text().count(SHORT_WAY) == 1
    header.write_text(header.read_text().replace(SHORT_WAY, "f->plain = 0;"))
    options = [f"BUILD={tmp_path}/out", f"PACKAGE={tmp_path}/package"]
    subprocess.run(["make", "-s", "-C", tmp_path / "bpf", *options], check=True, capture_output=True)
    with own_network(), own_bpffs(tmp_path / "one") as first, own_bpffs(tmp_path / "two") as second:
        add_bridge()
        wires = open_veth("tap1"), open_veth("tap2")
        hosts = Host(first), Host(second, object_file=tmp_path / "out/shield.bpf.o")
        yield Asked(hosts[0], wires[0]), Asked(hosts[1], wires[1])
        for host in hosts:
            host.close()


def test_both_ways_say_the_same(twins: tuple[Asked, Asked]) -> None:
    """Thousands of packets, most of them of few flows and a little broken, with changes in between."""
    choose, seen = random.Random(7), set()
    for number in range(12_000 // SLOWNESS):
        if number % 300 == 299:
            change_both(twins, choose)
        direction, frame = random_packet(choose)
        verdicts = [asked.judge(frame, direction) for asked in twins]
        assert verdicts[0] is verdicts[1], (number, direction, frame.hex())
        seen.add(verdicts[0])
    assert {
        Reason.ESTABLISHED,
        Reason.NEW,
        Reason.POLICY,
        Reason.MALFORMED,
        Reason.TCP_RESET,
        Reason.NO_CONNECTION,
    } <= seen
    sums = [{(q.peer_vm, q.peer_identity, q.rule, q.direction, q.allowed): (q.packets, q.bytes) for q in a.host.telemetry.pairs()} for a in twins]  # fmt: skip
    assert sums[0] == sums[1]
    assert twins[0].host.telemetry.connections(twins[0].wire.ifindex) == twins[1].host.telemetry.connections(
        twins[1].wire.ifindex
    )


def change_both(twins: tuple[Asked, Asked], choose: random.Random) -> None:
    kind = choose.randrange(4)
    labels = Address(choose.choice([APP, WEB, IdentityNumber(0x20000009)]), TWO.number)
    for asked in twins:
        if kind == 0:
            asked.admit(asked.opened())
        elif kind == 1:
            asked.admit(asked.host.put_program(*both_ways(APP, 17, prefix=16), *both_ways(APP, 6, prefix=16)))
        elif kind == 2:
            asked.host.book.put_addresses({AddressKey(ZONE, f"{TWO.ipv4}/32"): labels})
        else:
            asked.host.book.put_addresses({AddressKey(ZONE, f"{TWO.ipv4}/32"): Address(APP, TWO.number)})
            asked.host.shield.rejudge()


def random_packet(choose: random.Random) -> tuple[Direction, bytes]:
    direction, six = choose.choice([EGRESS, INGRESS]), choose.random() < 0.3
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, choose.choice([TWO.v4, TWO.v4, THIRD.v4]))
    source, destination = ends if direction is EGRESS else ends[::-1]
    ours, theirs = choose.choice([2000, 2001, 68, 80]), choose.choice([53, 80, 81, 67])
    ports = (ours, theirs) if direction is EGRESS else (theirs, ours)
    if choose.random() < 0.4:
        segment = p.udp(*ports, bytes(choose.randrange(30)), ends=(source[1], destination[1]))
        frame = p.ip_frame(source, destination, 17, segment)
    else:
        flags = choose.choice([p.SYN, p.SYN | p.ACK, p.ACK, p.ACK, p.ACK, p.FIN | p.ACK, p.RST, p.RST | p.ACK, 0x08, 0])
        numbers = {
            "sequence": choose.choice([1000, 1001, 5000, 5001, 90000]),
            "acknowledgement": choose.choice([1001, 5001, 0]),
        }
        segment = p.tcp(*ports, flags, **numbers, data=bytes(choose.choice([0, 0, 1, 20])))
        frame = p.ip_frame(source, destination, 6, segment)
    if choose.random() < 0.15:
        at = choose.randrange(12, min(len(frame), 60))
        frame = frame[:at] + bytes([choose.randrange(256)]) + frame[at + 1 :]
    if choose.random() < 0.03 and len(frame) > 55:
        frame = frame[: choose.randrange(54, len(frame))]
    return direction, frame
