"""What every shield, address book and set of ports does: in memory and in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import pytest

from buckler.drivers.ebpf.address_book import EbpfAddressBook
from buckler.drivers.ebpf.bridge_ports import EbpfPorts
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.drivers.inmemory.shield import InMemoryAddressBook, InMemoryPorts, InMemoryShield
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import IDENTITY_INFRA, Digest, IdentityNumber, RuleNumber, VmNumber, Zone
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Entry, Program, Terms, Verdict
from buckler.model.shield import Address, AddressKey, BridgePort, MacKey, PortRole, Tap
from buckler.ports.shield import AddressBook, Ports, Shield, ShieldFailed, Upkeep
from tests.component.ground import add_bridge, open_veth, own_bpffs, own_network

ABSENT = 987654


@dataclass(frozen=True)
class Doors:
    shield: Shield
    book: AddressBook
    ports: Ports
    first: int
    second: int
    upkeep: Upkeep
    take_down: Callable[[int], None]


@pytest.fixture(params=["inmemory", "tcx", "clsact"])
def doors(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Doors]:
    if request.param == "inmemory":
        interfaces = {3, 4}
        memory, ports = InMemoryShield(interfaces), InMemoryPorts(interfaces)
        yield Doors(memory, InMemoryAddressBook(), ports, 3, 4, memory, interfaces.discard)
        return
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        first, second = open_veth("tap1"), open_veth("tap2")
        kernel = Kernel(pins, tcx=None if request.param == "tcx" else False)
        shield = EbpfShield(kernel)
        shield.open()
        ends = (first.ifindex, second.ifindex)
        take_down = partial(kernel.attachments.detach, hook="tap_to_vm")
        yield Doors(shield, EbpfAddressBook(kernel), EbpfPorts(kernel), *ends, shield, take_down)
        kernel.close()
        first.close()
        second.close()


def named(*rules: int) -> tuple[Digest, Program]:
    peer = IdentityNumber(0x20000001)
    entries = (Entry(peer, Direction.EGRESS, 6, rule, 32, Verdict.ALLOW, RuleNumber(rule)) for rule in rules)
    program = Program(tuple(sorted(entries)))
    return digest_of(canonical_bytes(program)), program


def tap_at(ifindex: int, program: Digest) -> Tap:
    return Tap(
        ifindex,
        VmNumber(1),
        "52:54:00:00:00:01",
        Zone(2),
        0,
        IdentityNumber(0x20000001),
        ("10.0.0.1", "fd00::1"),
        program,
    )


def test_a_tap_reads_back_as_it_was_put(doors: Doors) -> None:
    digest, program = named(1, 2)
    doors.shield.put_program(digest, program)
    tap = tap_at(doors.first, digest)
    for _ in range(2):
        doors.shield.put_tap(tap)
        assert doors.shield.taps() == {doors.first: tap}


@pytest.mark.parametrize("changed", [
    {"addresses": ("10.0.0.2",)}, {"mode": ShieldMode.OBSERVE}, {"connections": 10}, {"vlan": 7}, {"zone": Zone(9)},
    {"vm": VmNumber(8)}, {"mac": "52:54:00:00:00:08"}, {"identity": IdentityNumber(0x20000009)},
])  # fmt: skip
def test_any_change_of_a_tap_reads_back(doors: Doors, changed: dict[str, object]) -> None:
    digest, program = named(1)
    doors.shield.put_program(digest, program)
    doors.shield.put_tap(tap_at(doors.first, digest))
    tap = msgspec.structs.replace(tap_at(doors.first, digest), **changed)
    doors.shield.put_tap(tap)
    assert doors.shield.taps() == {doors.first: tap}


TERMED = (
    Terms(),
    Terms(until=2_000_000_000),
    Terms(log=True),
    Terms(connections=10, within=60),
    Terms(staged=3, staged_rule=RuleNumber(8)),
)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_program_with_terms_is_put_as_any_other(doors: Doors, verdict: Verdict) -> None:
    peer = IdentityNumber(0x20000001)
    entries = (
        Entry(peer, Direction.EGRESS, 6, port, 32, verdict, RuleNumber(1), RuleNumber(0), terms)
        for port, terms in enumerate(TERMED)
    )
    program = Program(tuple(sorted(entries, key=lambda entry: entry.port)))
    digest = digest_of(canonical_bytes(program))
    doors.shield.put_program(digest, program)
    assert doors.shield.programs() == {digest}
    assert doors.upkeep.altered_programs() == frozenset()
    doors.shield.put_tap(tap_at(doors.first, digest))
    assert doors.shield.taps() == {doors.first: tap_at(doors.first, digest)}


def test_a_clock_is_told_once_until_its_standing_changes(doors: Doors) -> None:
    assert [doors.upkeep.keep_time(is_believed=word) for word in (False, True, True, False, False, True)] == [
        False, True, False, True, False, True,
    ]  # fmt: skip


def test_a_shield_that_hangs_no_more_is_told_as_fallen(doors: Doors) -> None:
    digest, program = named(1)
    doors.shield.put_program(digest, program)
    doors.shield.put_tap(tap_at(doors.first, digest))
    doors.ports.put_bridge_port(BridgePort(doors.second, PortRole.OUTSIDE, Zone(2)))
    assert (doors.upkeep.held(), doors.upkeep.fallen()) == ({doors.first}, frozenset())
    doors.take_down(doors.first)
    assert doors.upkeep.fallen() == {doors.first}
    assert doors.shield.taps() == {}
    doors.shield.delete_tap(doors.first)
    assert (doors.upkeep.held(), doors.upkeep.fallen()) == (frozenset(), frozenset())


def test_programs_are_swapped_and_freed(doors: Doors) -> None:
    old, new = named(1), named(2)
    for digest, program in (old, new):
        doors.shield.put_program(digest, program)
    doors.shield.put_tap(tap_at(doors.first, old[0]))
    doors.shield.put_tap(tap_at(doors.first, new[0]))
    doors.shield.delete_program(old[0])
    doors.shield.delete_program(old[0])
    assert doors.shield.programs() == {new[0]}
    assert doors.shield.taps()[doors.first].program == new[0]


def test_the_empty_program_is_one_too(doors: Doors) -> None:
    digest, program = named()
    doors.shield.put_program(digest, program)
    doors.shield.put_tap(tap_at(doors.first, digest))
    assert doors.shield.taps()[doors.first].program == digest


def test_what_cannot_be_is_refused(doors: Doors) -> None:
    digest, program = named(1)
    with pytest.raises(ShieldFailed):
        doors.shield.put_tap(tap_at(doors.first, digest))
    with pytest.raises(ShieldFailed):
        doors.shield.put_program(named(2)[0], program)
    doors.shield.put_program(digest, program)
    with pytest.raises(ShieldFailed):
        doors.shield.put_tap(tap_at(ABSENT, digest))
    with pytest.raises(ShieldFailed):
        doors.ports.put_bridge_port(BridgePort(ABSENT, PortRole.TUNNEL, Zone(2)))
    assert doors.shield.taps() == {}
    assert doors.ports.bridge_ports() == {}


def test_change_and_revert_leaves_nothing(doors: Doors) -> None:
    digest, program = named(1)
    doors.shield.put_program(digest, program)
    for ifindex in (doors.first, doors.second):
        doors.shield.put_tap(tap_at(ifindex, digest))
    doors.shield.rejudge()
    for ifindex in (doors.first, doors.second, ABSENT):
        doors.shield.delete_tap(ifindex)
    doors.shield.delete_program(digest)
    assert doors.shield.taps() == {}
    assert doors.shield.programs() == frozenset()


def test_the_address_book_reads_back(doors: Doors) -> None:
    entries = {
        AddressKey(Zone(2), "10.0.0.1/32"): Address(IdentityNumber(0x20000001), VmNumber(1)),
        AddressKey(Zone(3), "10.0.0.1/32"): Address(IdentityNumber(0x20000002), VmNumber(2)),
        AddressKey(Zone(2), "10.0.0.0/8"): Address(IdentityNumber(0x10000000)),
        AddressKey(Zone(2), "0.0.0.0/0"): Address(IdentityNumber(0x10000001)),
        AddressKey(Zone(2), "::/0"): Address(IdentityNumber(0x10000002)),
        AddressKey(Zone(2), "fd00::/64"): Address(IdentityNumber(0x10000003)),
        AddressKey(Zone(0), "192.168.0.1/32"): Address(IDENTITY_INFRA),
        AddressKey(Zone(2), "fe80::1/128"): Address(IdentityNumber(2), VmNumber(0), 3),
    }
    doors.book.put_addresses(entries)
    doors.book.put_addresses(entries)
    assert doors.book.addresses() == entries
    gone = AddressKey(Zone(2), "10.0.0.0/8")
    doors.book.delete_addresses(frozenset({gone, AddressKey(Zone(7), "10.0.0.0/8")}))
    assert doors.book.addresses() == {key: value for key, value in entries.items() if key != gone}


def test_macs_read_back(doors: Doors) -> None:
    entries = {MacKey(Zone(2), "52:54:00:00:00:01"): VmNumber(1), MacKey(Zone(3), "52:54:00:00:00:01"): VmNumber(2)}
    doors.book.put_macs(entries)
    assert doors.book.macs() == entries
    doors.book.delete_macs(frozenset(entries))
    doors.book.delete_macs(frozenset(entries))
    assert doors.book.macs() == {}


def test_bridge_ports_read_back_change_and_go(doors: Doors) -> None:
    for port in (
        BridgePort(doors.first, PortRole.TUNNEL, Zone(2)),
        BridgePort(doors.first, PortRole.TUNNEL, Zone(2), ((7, Zone(3)), (8, Zone(4)))),
        BridgePort(doors.first, PortRole.OUTSIDE, Zone(3)),
    ):
        doors.ports.put_bridge_port(port)
        doors.ports.put_bridge_port(port)
        assert doors.ports.bridge_ports() == {doors.first: port}
    doors.ports.delete_bridge_port(doors.first)
    doors.ports.delete_bridge_port(doors.first)
    assert doors.ports.bridge_ports() == {}
