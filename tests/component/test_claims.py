"""Claims of addresses on real taps: which frames make one, which verdict they keep, and how many a VM may make."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_INFRA, IDENTITY_WORLD
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressFlag, AddressKey, BridgePort, GuardState, PortRole
from buckler.ports.claims import ClaimSource
from tests import packets as p
from tests.component import dhcp
from tests.component.ground import APP, WEB, ZONE, Host, Vm, Wire, open_tap, open_veth

ONE, TWO = Vm(1, WEB), Vm(2, APP)
SERVER = ("52:54:00:00:00:99", "10.9.0.99")
SERVER6 = ("52:54:00:00:00:99", "fe80::99")
STRANGER = ("52:54:00:00:00:98", "10.9.0.98")
STRANGER6 = ("52:54:00:00:00:98", "fe80::98")
NOBODY = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Ground:
    host: Host
    one: Wire
    two: Wire
    outside: Wire

    def count(self, wire: Wire, direction: Direction, reason: Reason) -> int:
        return self.host.reasons(wire.ifindex).get((direction, reason), 0)


@pytest.fixture
def ground(tcx_host: Host) -> Iterator[Ground]:
    one, two, outside = open_tap("tap1"), open_tap("tap2"), open_veth("out0")
    for wire, vm in ((one, ONE), (two, TWO)):
        tcx_host.admit(wire.ifindex, vm, tcx_host.put_program())
    server = Address(IDENTITY_WORLD, flags=AddressFlag.DHCP_SERVER)
    tcx_host.book.put_addresses({
        AddressKey(ZONE, f"{SERVER[1]}/32"): server, AddressKey(ZONE, f"{SERVER6[1]}/128"): server,
        AddressKey(ZONE, "10.9.0.250/32"): Address(IDENTITY_INFRA),
    })  # fmt: skip
    tcx_host.ports.put_bridge_port(BridgePort(outside.ifindex, PortRole.OUTSIDE, ZONE))
    wires = (one, two, outside)
    tcx_host.guard.apply(GuardState(frozenset({"br0"}), frozenset((wire.ifindex, "br0") for wire in wires)))
    yield Ground(tcx_host, *wires)
    for wire in wires:
        wire.close()


def arp_probe(address: str, *, operation: int = 1, sender: str = ONE.mac) -> bytes:
    return p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(operation, (sender, "0.0.0.0"), (NOBODY, address)))


def nd_probe(
    address: str, options: bytes = b"", to: tuple[str, str] = ("33:33:ff:00:00:50", "ff02::1:ff00:50")
) -> bytes:
    return p.nd((ONE.mac, "::"), to, 135, address, options)


@pytest.mark.parametrize("broadcast", [False, True])
def test_a_permitted_servers_answer_arrives_and_claims(ground: Ground, broadcast: bool) -> None:
    message = dhcp.answer(dhcp.ACK, ONE.mac, "10.9.0.50", SERVER[1])
    frame = dhcp.answer_frame(SERVER, ONE.mac, "10.9.0.50", message, broadcast=broadcast)
    ground.outside.send(frame)
    assert ground.one.receive(seconds=0.3) == [frame]
    (claim,) = ground.host.claims.claims(10)
    assert (claim.vm, claim.ifindex, claim.source) == (ONE.number, ground.one.ifindex, ClaimSource.DHCP)
    assert claim.message == message
    assert claim.server[12:] == p.address(SERVER[1])


@pytest.mark.parametrize("broadcast", [False, True])
def test_a_stranger_gives_no_address(ground: Ground, broadcast: bool) -> None:
    message = dhcp.answer(dhcp.ACK, ONE.mac, "10.9.0.50", STRANGER[1])
    ground.outside.send(dhcp.answer_frame(STRANGER, ONE.mac, "10.9.0.50", message, broadcast=broadcast))
    assert ground.one.receive(seconds=0.3) == []
    assert ground.host.claims.claims(10) == []


def test_a_vm_is_no_dhcp_server(ground: Ground) -> None:
    message = dhcp.answer(dhcp.ACK, TWO.mac, "10.9.0.50", ONE.ipv4)
    ground.one.send(dhcp.answer_frame(ONE.v4, TWO.mac, "10.9.0.50", message))
    ground.one.send(dhcp.answer_frame((ONE.mac, SERVER[1]), TWO.mac, "10.9.0.50", message))
    assert ground.two.receive(seconds=0.3) == []
    assert ground.host.claims.claims(10) == []
    assert ground.count(ground.one, Direction.EGRESS, Reason.ROGUE_DHCP) == 1
    assert ground.count(ground.one, Direction.EGRESS, Reason.SPOOFED_ADDRESS) == 1


def test_only_dhcp_of_the_server_reaches_what_is_not_the_vms_own(ground: Ground) -> None:
    for ports in ((67, 69), (53, 68), (68, 67)):
        ground.outside.send(dhcp.answer_frame(SERVER, ONE.mac, "10.9.0.50", b"x" * 300, ports=ports))
    assert ground.one.receive(seconds=0.3) == []
    assert ground.count(ground.one, Direction.INGRESS, Reason.NOT_FOR_VM) == 3


def test_a_broadcast_answer_for_another_vm_claims_nothing_here(ground: Ground) -> None:
    message = dhcp.answer(dhcp.ACK, TWO.mac, "10.9.0.50", SERVER[1])
    ground.outside.send(dhcp.answer_frame(SERVER, ONE.mac, "10.9.0.50", message, broadcast=True))
    assert len(ground.one.receive(seconds=0.3)) == 1
    assert [claim.vm for claim in ground.host.claims.claims(10)] == [TWO.number]


@pytest.mark.parametrize(
    "message", [b"", b"\2", b"\2" * 33, dhcp.answer(dhcp.ACK, ONE.mac, "10.9.0.50", SERVER[1], op=1)]
)
def test_what_is_no_answer_claims_nothing(ground: Ground, message: bytes) -> None:
    ground.outside.send(dhcp.answer_frame(SERVER, ONE.mac, "10.9.0.50", message))
    ground.one.receive(seconds=0.2)
    assert ground.host.claims.claims(10) == []


def test_a_long_answer_is_cut(ground: Ground) -> None:
    message = dhcp.answer(dhcp.ACK, ONE.mac, "10.9.0.50", SERVER[1], more=dhcp.option(43, b"z" * 250) * 4)
    ground.outside.send(dhcp.answer_frame(SERVER, ONE.mac, "10.9.0.50", message))
    (claim,) = [*ground.one.receive(seconds=0.3)] and ground.host.claims.claims(10)
    assert len(message) > 1024
    assert claim.message == message[:1024]


def test_dhcpv6_replies_claim_by_permitted_servers_only(ground: Ground) -> None:
    message = dhcp.reply6(("fd00:9::50", 600))
    good = dhcp.reply6_frame(SERVER6, ONE.ll, message)
    ground.outside.send(
        dhcp.reply6_frame(STRANGER6, ONE.ll, message), dhcp.reply6_frame(SERVER6, ONE.ll, dhcp.reply6(kind=2)), good
    )
    assert ground.one.receive(seconds=0.3)[-1] == good
    (claim,) = ground.host.claims.claims(10)
    assert (claim.source, claim.message) == (ClaimSource.DHCPV6, message)


@pytest.mark.parametrize(("frame", "address", "reason"), [
    (arp_probe("10.9.0.50"), "10.9.0.50", Reason.SPOOFED_ARP),
    (arp_probe(TWO.ipv4), TWO.ipv4, Reason.SPOOFED_ARP),
    (nd_probe("fd00:9::50"), "fd00:9::50", Reason.SPOOFED_ND),
    (nd_probe("fd00:9::50", struct.pack(">BB6s", 14, 1, b"nonce!")), "fd00:9::50", Reason.SPOOFED_ND),
])  # fmt: skip
def test_a_probe_claims_and_stays_dropped(ground: Ground, frame: bytes, address: str, reason: Reason) -> None:
    ground.one.send(frame)
    assert ground.two.receive(seconds=0.3) == []
    assert ground.count(ground.one, Direction.EGRESS, reason) == 1
    (claim,) = ground.host.claims.claims(10)
    assert claim.source == ClaimSource.DETECTED
    packed = p.address(address)
    assert claim.address[-len(packed) :] == packed


@pytest.mark.parametrize("frame", [
    arp_probe(ONE.ipv4), nd_probe(ONE.ipv6), arp_probe("10.9.0.250"), arp_probe("10.9.0.50", operation=2),
    arp_probe("10.9.0.50", sender=TWO.mac), arp_probe("224.0.0.1"), nd_probe("ff02::5"),
    nd_probe("fd00:9::50", to=(TWO.mac, TWO.ipv6)), nd_probe("fd00:9::50", p.nd_option(1, TWO.mac)),
    p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, (ONE.mac, "10.9.0.50"), (NOBODY, TWO.ipv4))),
])  # fmt: skip
def test_other_frames_claim_nothing(ground: Ground, frame: bytes) -> None:
    ground.one.send(frame)
    ground.two.receive(seconds=0.1)
    assert ground.host.claims.claims(10) == []


def test_a_flood_of_probes_is_shed_and_counted_and_takes_nothing_of_a_neighbours(ground: Ground) -> None:
    for number in range(200):
        ground.one.send(arp_probe(f"10.9.1.{number}"))
    message = dhcp.answer(dhcp.ACK, TWO.mac, "10.9.0.50", SERVER[1])
    ground.outside.send(dhcp.answer_frame(SERVER, TWO.mac, "10.9.0.50", message))
    ground.two.receive(seconds=0.3)
    claims = ground.host.claims.claims(1000)
    of_one = [claim for claim in claims if claim.vm == ONE.number]
    assert 5 <= len(of_one) <= 10
    assert [claim.source for claim in claims if claim.vm == TWO.number] == [ClaimSource.DHCP]
    assert ground.host.claims.shed().suppressed == 200 - len(of_one)
    assert ground.host.claims.shed().lost == 0
