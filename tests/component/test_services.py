"""Virtual addresses of services: on the wire, between real taps: who is chosen, what is written, what is answered."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
import pytest

from buckler.drivers.ebpf.layout import CONNECTIONS_HALF_OPEN
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_WORLD
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from tests import packets as p
from tests.component.ground import APP, SLOWNESS, Host, Vm, allow, both_ways
from tests.component.reading import read_answer, take_frames
from tests.component.serving import (
    CLIENT,
    FIRST,
    NUMBER4,
    NUMBER6,
    SCTP,
    SECOND,
    TCP,
    UDP,
    Served,
    end_of,
    ends_to,
    first_frame,
    next_frame,
    read_packet,
    reply_frame,
    whole_tcp,
)

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS


@pytest.fixture
def served(host: Host) -> Iterator[Served]:
    made = Served(host)
    yield made
    made.close()


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_a_client_speaks_with_one_member_in_the_name_of_the_service(served: Served, protocol: int, six: bool) -> None:
    to, back = ends_to(six)
    sent = first_frame(protocol, to)
    served.client.send(sent)
    vm, frame = served.arrived()
    there = read_packet(frame)
    assert (there.source, there.destination) == (end_of(CLIENT, six), end_of(vm, six))
    assert (there.ports, there.rest[-13:]) == (read_packet(sent).ports, read_packet(sent).rest[-13:])
    reply = reply_frame(protocol, (end_of(vm, six), end_of(CLIENT, six)))
    served.wires[vm.number].send(reply)
    here = read_packet(served.take(served.client))
    assert (here.source, here.destination) == (back, end_of(CLIENT, six))
    assert here.rest[-13:] == read_packet(reply).rest[-13:]
    for length in (0, 1, 700, 1300):
        served.client.send(next_frame(protocol, to, data=b"d" * length))
        again, frame = served.arrived()
        assert again is vm
        assert read_packet(frame).destination == end_of(vm, six)
    assert served.reasons()[EGRESS, Reason.NEW] == 1
    assert served.reasons()[EGRESS, Reason.ESTABLISHED] == 4
    assert served.reasons()[INGRESS, Reason.ESTABLISHED] == 1


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_clients_flows_spread_over_the_members_and_stay_where_they_are(served: Served, protocol: int) -> None:
    to, _ = ends_to(six=False)
    chosen = {}
    for local in range(5000, 5024):
        served.client.send(first_frame(protocol, to, local))
        chosen[local] = served.arrived()[0]
    assert {FIRST, SECOND} == set(chosen.values())
    for local, vm in chosen.items():
        served.client.send(first_frame(protocol, to, local))
        assert served.arrived()[0] is vm, "said once more, it goes the same way"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_connections_stay_with_their_member_while_others_come_and_go(served: Served, six: bool) -> None:
    to, back = ends_to(six)
    lives = {local: served.open(TCP, six=six, local=local) for local in range(6000, 6008)}
    half = {local: served.open_half(six, local) for local in range(6100, 6104)}
    for members in ((CLIENT, FIRST, SECOND), (FIRST, SECOND)):
        served.stand(*members)
        served.host.shield.rejudge()
        for local, vm in {**lives, **half}.items():
            if local in lives:
                served.client.send(next_frame(TCP, to, local, data=b"still"))
                assert served.arrived()[0] is vm
            else:
                served.client.send(first_frame(TCP, to, local))
                assert served.arrived()[0] is vm
    gone, kept = next(iter(lives.values())), FIRST if next(iter(lives.values())) is SECOND else SECOND
    served.stand(kept)
    for local, vm in lives.items():
        reason = served.reason(next_frame(TCP, to, local, data=b"after"))
        assert reason is (Reason.ESTABLISHED if vm is kept else Reason.NO_CONNECTION)
    served.drain()
    for local, vm in lives.items():
        served.wires[vm.number].send(
            whole_tcp((end_of(vm, six), end_of(CLIENT, six)), 80, local, p.ACK, sequence=5001, acknowledgement=1001)
        )
        if vm is kept:
            assert read_packet(served.take(served.client)).source == back
        else:
            assert served.client.receive(seconds=0.05) == []
    assert served.reasons()[INGRESS, Reason.NO_MEMBER] == sum(vm is gone for vm in lives.values())
    assert served.reason(first_frame(TCP, to, 6999)) is Reason.NEW
    assert served.arrived()[0] is kept


def test_a_flow_moves_only_when_its_own_member_leaves(served: Served) -> None:
    """New flows of the same ends choose as before while others come: a table that was lost costs no connection."""
    to, _ = ends_to(six=False)

    def choices() -> dict[int, Vm]:
        found = {}
        for local in range(7000, 7032):
            served.client.send(first_frame(UDP, to, local))
            found[local] = served.arrived()[0]
        return found

    before = choices()
    served.host.shield.delete_tap(served.client.ifindex)
    served.rules(both_ways(0), both_ways(0))
    assert choices() == before, "by the keyed hash alone"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_what_a_virtual_address_does_not_serve_is_refused(served: Served, six: bool) -> None:
    to, _ = ends_to(six)
    body = p.udp(4000, 53, b"z" * 64, ends=(to[0][1], to[1][1]))
    assert served.reason(first_frame(TCP, to, port=79)) is Reason.SERVICE
    assert served.reason(first_frame(TCP, to, port=82)) is Reason.SERVICE
    assert served.reason(first_frame(UDP, to, port=80)) is Reason.SERVICE
    assert served.reason(first_frame(SCTP, to, port=80)) is Reason.SERVICE
    ping = p.icmpv6(to[0][1], to[1][1], 128, 0, b"\0\1\0\1") if six else p.echo(3)
    assert served.reason(p.ip_frame(*to, 58 if six else 1, ping)) is Reason.SERVICE
    assert served.reason(p.ip_frame(*to, 47, b"\0" * 32)) is Reason.SERVICE
    if six:
        head = struct.pack(">BBHI", 17, 0, 1, 9)
        fragment = p.ip_frame(*to, 44, head + body[:40])
    else:
        fragment = p.ether(to[0][0], to[1][0], 0x0800, p.ipv4(to[0][1], to[1][1], 17, body[:40], more=True))
    assert served.reason(fragment) is Reason.SERVICE
    group = (to[0], (p.BROADCAST, to[1][1]))
    assert served.reason(first_frame(UDP, group)) is Reason.MARTIAN
    served.nothing()
    assert served.host.telemetry.events(100)[0].service == (NUMBER6 if six else NUMBER4)


def test_a_service_without_members_or_with_the_client_alone_serves_nobody(served: Served) -> None:
    to, _ = ends_to(six=False)
    served.stand()
    assert served.reason(first_frame(TCP, to)) is Reason.NO_MEMBER
    served.stand(CLIENT)
    assert served.reason(first_frame(TCP, to)) is Reason.NO_MEMBER
    served.stand(CLIENT, SECOND)
    for local in range(4000, 4016):
        served.client.send(first_frame(TCP, to, local))
        assert served.arrived()[0] is SECOND, "never the client itself"


def test_the_verdict_is_the_chosen_members(served: Served) -> None:
    to, _ = ends_to(six=False)
    served.rules((allow(APP, EGRESS, TCP, 80, 32),), both_ways(0))
    assert served.reason(first_frame(TCP, to)) is Reason.NEW
    assert served.reason(first_frame(TCP, to, 4001, port=81)) is Reason.POLICY
    served.rules((allow(IDENTITY_WORLD, EGRESS),), both_ways(0))
    assert served.reason(first_frame(TCP, to, 4002)) is Reason.POLICY, "the virtual address itself opens nothing"
    served.rules(both_ways(0), (allow(APP, INGRESS),))
    served.drain()
    assert served.reason(first_frame(TCP, to, 4003)) is Reason.NEW
    served.nothing()


def test_a_member_that_rejects_is_heard_in_the_name_of_the_service(served: Served) -> None:
    rejecting = tuple(msgspec.structs.replace(each, verdict=Verdict.REJECT) for each in both_ways(0))
    for six in (False, True):
        to, virtual = ends_to(six)
        for client, members in ((rejecting, both_ways(0)), (both_ways(0), rejecting)):
            served.rules(client, members)
            served.drain()
            served.client.send(first_frame(TCP, to, 4300))
            answer = read_answer(served.take(served.client))
            assert (answer.source, answer.destination) == (virtual, end_of(CLIENT, six))
            assert answer.tcp == (80, 4300, 0, 1001, p.RST | p.ACK)
            served.client.send(frame := first_frame(UDP, to, 4300))
            answer = read_answer(served.take(served.client))
            assert (answer.source, answer.destination) == (virtual, end_of(CLIENT, six))
            assert answer.icmp == ((1, 1) if six else (3, 13))
            at = 40 if six else 20
            assert answer.quoted[at - (16 if six else 4) : at] == p.address(virtual[1]), (
                "it quotes what the client sent"
            )
            assert answer.quoted[at : at + 6] == frame[14 + at : 20 + at]
        assert served.reasons()[INGRESS, Reason.RELATED] == (2 if six else 1)


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_large_answers_come_in_fragments(served: Served, six: bool) -> None:
    vm = served.open(UDP, six=six)
    ends = (end_of(vm, six), end_of(CLIENT, six))
    data = bytes(range(256)) * 8
    body = p.udp(53, 4000, data, ends=(ends[0][1], ends[1][1]))
    for number, (at, part) in enumerate(((0, body[:1200]), (1200, body[1200:]))):
        if six:
            head = struct.pack(">BBHI", 17, 0, at | (not number), 99)
            frame = p.ip_frame(*ends, 44, head + part)
        else:
            frame = p.ether(
                ends[0][0],
                ends[1][0],
                0x0800,
                p.ipv4(ends[0][1], ends[1][1], 17, part, identification=99, fragment=at, more=not number),
            )
        served.wires[vm.number].send(frame)
    first, later = take_frames(served.client)
    header = 48 if six else 20
    _, virtual = ends_to(six)
    whole = first[14 + header :] + later[14 + header :]
    assert whole[8:] == data
    assert p.checksum(p.pseudo(virtual[1], ends[1][1], 17, len(whole)) + whole) == 0, "the sum over all of it"
    for frame in (first, later):
        assert frame[6:12] == p.mac(virtual[0])
        assert p.address(virtual[1]) in frame[:54]
        if not six:
            assert p.checksum(frame[14:34]) == 0


def test_a_datagram_without_a_sum_stays_without_one(served: Served) -> None:
    to, _ = ends_to(six=False)
    served.client.send(p.ip_frame(*to, UDP, p.udp(4000, 53, b"n" * 40)))
    vm, frame = served.arrived()
    assert frame[40:42] == b"\0\0"
    served.wires[vm.number].send(p.ip_frame(vm.v4, CLIENT.v4, UDP, p.udp(53, 4000, b"m" * 40)))
    assert served.take(served.client)[40:42] == b"\0\0"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_flood_through_a_virtual_address_takes_no_connection(served: Served, six: bool) -> None:
    to, _ = ends_to(six)
    vm = served.open(TCP, six=six)
    for local in range(10000, 10000 + 20000 // SLOWNESS):
        served.client.send(first_frame(TCP, to, local))
        if local % 100 == 0:
            for wire in served.wires.values():
                wire.receive(seconds=0.0)
    established, half_open = served.host.telemetry.connections(served.client.ifindex)
    assert established == 1
    assert half_open <= CONNECTIONS_HALF_OPEN
    served.drain()
    served.client.send(next_frame(TCP, to, data=b"alive"))
    assert served.arrived()[0] is vm


def test_events_say_through_which_service_a_connection_came(served: Served) -> None:
    vm = served.open(TCP)
    told = [event for event in served.host.telemetry.events(100) if event.ifindex == served.client.ifindex]
    (new,) = [event for event in told if event.reason == Reason.NEW]
    assert (new.service, new.peer_vm, new.destination_port) == (NUMBER4, vm.number, 80)
    assert served.reason(first_frame(TCP, (CLIENT.v4, vm.v4), 4999)) is Reason.NEW
    (direct,) = [event for event in served.host.telemetry.events(100) if event.ifindex == served.client.ifindex]
    assert direct.service == 0


def test_an_observed_client_is_led_too(served: Served) -> None:
    served.rules((), both_ways(0), mode=ShieldMode.OBSERVE)
    to, back = ends_to(six=False)
    assert served.reason(first_frame(TCP, to, port=79)) is Reason.SERVICE, "where it leads nowhere, nothing passes"
    served.client.send(first_frame(TCP, to))
    vm, _ = served.arrived()
    assert served.reasons()[EGRESS, Reason.OBSERVED] == 1
    served.wires[vm.number].send(reply_frame(TCP, (vm.v4, CLIENT.v4)))
    assert read_packet(served.take(served.client)).source == back


def test_where_the_network_has_no_virtual_address_nothing_is_looked_for(served: Served) -> None:
    to, _ = ends_to(six=False)
    served.rules(both_ways(0), both_ways(0), services=False)
    served.client.send(frame := first_frame(UDP, to))
    assert served.wires[FIRST.number].receive(seconds=0.1) == []
    assert served.reasons()[EGRESS, Reason.NEW] == 1, f"{len(frame)} bytes to an address like any other"
