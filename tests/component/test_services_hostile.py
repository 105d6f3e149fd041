"""Virtual addresses of services under hostile clients, members and strangers: nothing is opened, mixed or taken by one."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from buckler.model.shield import BridgePort, GuardState, PortRole, ServiceKey
from tests import packets as p
from tests.component.ground import APP, WEB, ZONE, Host, allow, both_ways, open_veth
from tests.component.reading import take_frames
from tests.component.serving import (
    CLIENT,
    FIRST,
    MAC4,
    MAC6,
    SECOND,
    TCP,
    UDP,
    VIP4,
    VIP6,
    Served,
    end_of,
    ends_to,
    first_frame,
    next_frame,
    read_packet,
    reply_frame,
    service,
    whole_tcp,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


@pytest.fixture
def served(tcx_host: Host) -> Iterator[Served]:
    made = Served(tcx_host)
    yield made
    made.close()


def test_who_sends_from_a_virtual_address_is_spoofing(served: Served) -> None:
    for six in (False, True):
        _, virtual = ends_to(six)
        for vm in (CLIENT, FIRST):
            own = (vm.mac, virtual[1])
            assert served.reason(first_frame(UDP, (own, end_of(SECOND, six))), vm) is Reason.SPOOFED_ADDRESS
            assert served.reason(first_frame(UDP, (own, virtual)), vm) in (Reason.SPOOFED_ADDRESS, Reason.MARTIAN)
    claim = p.ether(FIRST.mac, p.BROADCAST, 0x0806, p.arp(2, (FIRST.mac, VIP4), (CLIENT.mac, CLIENT.ipv4)))
    assert served.reason(claim, FIRST) is Reason.SPOOFED_ARP
    served.nothing()


def test_frames_in_the_name_of_a_virtual_address_reach_no_client(served: Served) -> None:
    """From something outside that has the address: a VM cannot."""
    outside = open_veth("up0")
    served.host.ports.put_bridge_port(BridgePort(outside.ifindex, PortRole.OUTSIDE, ZONE))
    ports = frozenset((wire.ifindex, "br0") for wire in (*served.wires.values(), outside))
    served.host.guard.apply(GuardState(bridges=frozenset({"br0"}), ports=ports, fabric=""))
    for kind, frame in (
        ("new", first_frame(UDP, (("52:54:00:ff:ff:01", VIP4), CLIENT.v4))),
        ("again", first_frame(UDP, (("52:54:00:ff:ff:01", VIP4), CLIENT.v4))),
        ("arp", p.ether("52:54:00:ff:ff:01", CLIENT.mac, 0x0806, p.arp(2, ("52:54:00:ff:ff:01", VIP4), CLIENT.v4))),
    ):
        outside.send(frame)
        assert served.client.receive(seconds=0.1) == [], kind
    assert served.reasons()[INGRESS, Reason.SPOOFED_ADDRESS] == 3
    outside.send(first_frame(UDP, (("52:54:00:ff:ff:01", "10.9.0.77"), CLIENT.v4)))
    assert len(take_frames(served.client)) == 1
    outside.close()


def test_whatever_mac_a_frame_to_a_virtual_address_bears(served: Served) -> None:
    """A member's, the other member's, a router's, nobody's: it goes to the chosen one."""
    to, _ = ends_to(six=False)
    served.client.send(first_frame(TCP, to))
    chosen, frame = served.arrived()
    for mac in (FIRST.mac, SECOND.mac, "52:54:00:ff:ff:01", MAC6):
        served.client.send(first_frame(TCP, (to[0], (mac, VIP4))))
        vm, again = served.arrived()
        assert (vm, again) == (chosen, frame)


def test_direct_and_virtual_connections_with_the_same_ports_are_never_mixed(served: Served) -> None:
    to, _ = ends_to(six=False)
    vm = served.open(TCP)
    direct = (CLIENT.v4, vm.v4)
    assert served.reason(next_frame(TCP, direct)) is Reason.SERVICE
    assert served.reason(first_frame(TCP, direct)) is Reason.SERVICE
    served.nothing()
    other = SECOND if vm is FIRST else FIRST
    assert served.reason(first_frame(TCP, (CLIENT.v4, other.v4))) is Reason.NEW, "with another end it is another one"
    served.drain()
    served.stand(vm)
    assert served.reason(first_frame(TCP, direct, local=4500)) is Reason.NEW
    assert served.reason(first_frame(TCP, to, local=4500)) is Reason.SERVICE, "the direct one was first"
    served.drain()
    served.wires[vm.number].send(reply_frame(TCP, direct[::-1], local=4500))
    assert read_packet(served.take(served.client)).source == vm.v4, "and it stays direct"
    assert served.reason(next_frame(TCP, direct, local=4500)) is Reason.ESTABLISHED
    assert served.reason(next_frame(TCP, to, local=4500)) is Reason.SERVICE


def test_two_services_with_the_same_ends_are_never_mixed(served: Served) -> None:
    to, _ = ends_to(six=False)
    served.stand(FIRST)
    another = "10.9.0.201"
    served.host.services.put_services({ServiceKey(ZONE, another): service(8, FIRST)})
    assert served.open(TCP) is FIRST
    beside = (CLIENT.v4, (MAC4, another))
    assert served.reason(first_frame(TCP, beside)) is Reason.SERVICE
    assert served.reason(next_frame(TCP, beside)) is Reason.SERVICE
    assert served.reason(next_frame(TCP, to)) is Reason.ESTABLISHED
    served.host.services.delete_services(frozenset({ServiceKey(ZONE, VIP4)}))
    served.drain()
    assert served.reason(first_frame(TCP, beside)) is Reason.NEW, "once the service is gone, its connection makes room"


def test_a_member_that_was_never_asked_is_not_heard(served: Served) -> None:
    for six in (False, True):
        to, _ = ends_to(six)
        served.client.send(first_frame(TCP, to, 4100))
        asked, _ = served.arrived()
        other = SECOND if asked is FIRST else FIRST
        served.rules(both_ways(APP), (allow(WEB, EGRESS), allow(WEB, INGRESS)))
        served.wires[other.number].send(reply_frame(TCP, (end_of(other, six), end_of(CLIENT, six)), 4100))
        assert served.client.receive(seconds=0.1) == []
        forged = (other.mac, end_of(asked, six)[1])
        assert served.reason(reply_frame(TCP, (forged, end_of(CLIENT, six)), 4100), other) is Reason.SPOOFED_ADDRESS
        served.wires[asked.number].send(reply_frame(TCP, (end_of(asked, six), end_of(CLIENT, six)), 4100))
        assert len(take_frames(served.client)) == 1
        served.drain()


def test_nobody_opens_towards_a_client_through_its_virtual_connection(served: Served) -> None:
    vm = served.open(TCP)
    back = (vm.v4, CLIENT.v4)
    served.wires[vm.number].send(whole_tcp(back, 80, 4000, p.SYN, sequence=1))
    half = served.open_half(six=False, local=4200)
    served.wires[half.number].send(whole_tcp((half.v4, CLIENT.v4), 80, 4200, p.SYN, sequence=1))
    assert served.client.receive(seconds=0.1) == []
    assert served.reason(next_frame(TCP, ends_to(six=False)[0])) is Reason.ESTABLISHED


def test_a_client_cannot_complain_of_a_member(served: Served) -> None:
    """It knows the virtual address alone; and what it complains of to that, is dropped."""
    vm = served.open(UDP)
    quoted = p.ipv4(vm.ipv4, CLIENT.ipv4, UDP, p.udp(53, 4000))
    direct = p.ip_frame(CLIENT.v4, vm.v4, 1, p.icmp(3, 3, data=quoted))
    assert served.reason(direct) is Reason.ICMP_ERROR
    quoted = p.ipv4(VIP4, CLIENT.ipv4, UDP, p.udp(53, 4000))
    assert served.reason(p.ip_frame(CLIENT.v4, (MAC4, VIP4), 1, p.icmp(3, 3, data=quoted))) is Reason.SERVICE


def test_packets_with_options_and_extensions_are_translated_too(served: Served) -> None:
    to, _ = ends_to(six=False)
    body = p.udp(4000, 53, b"o" * 12, ends=(CLIENT.ipv4, VIP4))
    served.client.send(p.ether(*(end[0] for end in to), 0x0800, p.ipv4(CLIENT.ipv4, VIP4, 17, body, options=b"\1" * 8)))
    vm, frame = served.arrived()
    assert read_packet(frame).destination == vm.v4
    to, _ = ends_to(six=True)
    body = struct.pack(">BB6x", 17, 0) + p.udp(4000, 53, b"o" * 12, ends=(CLIENT.ipv6, VIP6))
    served.client.send(p.ip_frame(*to, 60, body))
    vm, frame = served.arrived()
    assert frame[38:54] == p.address(vm.ipv6)
    l4 = frame[62:]
    assert p.checksum(p.pseudo(CLIENT.ipv6, vm.ipv6, 17, len(l4)) + l4) == 0


def test_a_vlan_tag_that_is_not_the_clients_is_no_way_in(served: Served) -> None:
    to, _ = ends_to(six=False)
    plain = first_frame(TCP, to)
    assert served.reason(plain[:12] + b"\x81\x00\x00\x07" + plain[12:]) is Reason.VLAN
    served.nothing()
