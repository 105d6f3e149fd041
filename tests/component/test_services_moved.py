"""A client moves with its connections to virtual addresses: the rows name the service, and the new shield goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from buckler.agent.handover.connections import ConnectionsSection
from buckler.agent.handover.section import Content
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.connection import SERVICE
from buckler.model.ids import VmId
from buckler.model.program import Direction
from buckler.model.shield import GuardState, ServiceKey
from tests import packets as p
from tests.component.ground import ZONE, Host, Vm, both_ways, open_tap, own_bpffs
from tests.component.serving import (
    CLIENT,
    FIRST,
    NUMBER4,
    NUMBER6,
    SCTP,
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
_VM = VmId("01900000-0000-7000-8000-000000000001")


class Moving(Served):
    """The other host is another kernel object with a tap of its own for the client; members stay where they are."""

    def __init__(self, host: Host, other: Host) -> None:
        super().__init__(host)
        self.other = other
        self.stand(FIRST, SECOND, host=other)
        for vm in (FIRST, SECOND):
            other.know(vm)

    def stand(self, *members: Vm, host: Host | None = None) -> None:
        (host or self.host).services.put_services({
            ServiceKey(ZONE, VIP4): service(NUMBER4, *members),
            ServiceKey(ZONE, VIP6): service(NUMBER6, *members, six=True),
        })  # fmt: skip

    def move(self) -> None:
        old = self.host.shield.taps()[self.client.ifindex]
        body = ConnectionsSection(EbpfConnections(self.host.kernel), lambda _: (old,), lambda: ()).give(_VM)
        self.host.shield.delete_tap(old.ifindex)
        self.client.close()
        self.wires[CLIENT.number] = self.client = open_tap("tap9")
        new = self.other.admit(self.client.ifindex, CLIENT, self.other.put_program(*both_ways(0)), services=True)
        ports = frozenset((wire.ifindex, "br0") for wire in self.wires.values())
        self.host.guard.apply(GuardState(bridges=frozenset({"br0"}), ports=ports, fabric=""))
        section = ConnectionsSection(EbpfConnections(self.other.kernel), lambda _: (new,), lambda: ())
        section.take(_VM, Content(1, body))
        moved = section.moved(_VM)
        assert moved.refused == {}, moved

    def reasons(self, vm: Vm = CLIENT) -> dict[tuple[Direction, Reason], int]:
        host = self.other if vm is CLIENT and self.client.name == "tap9" else self.host
        return host.reasons(self.wires[vm.number].ifindex)


@pytest.fixture
def moving(tcx_host: Host, tmp_path: Path) -> Iterator[Moving]:
    with own_bpffs(tmp_path / "other") as pins, closing(Host(pins)) as other:
        made = Moving(tcx_host, other)
        yield made
        made.close()


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_connections_through_services_move_with_their_client(moving: Moving, six: bool) -> None:
    to, back = ends_to(six)
    lives = {
        (protocol, local): moving.open(protocol, six=six, local=local)
        for protocol in (TCP, UDP, SCTP)
        for local in range(4000, 4004)
    }
    moving.client.send(first_frame(TCP, to, 4700))
    waits, _ = moving.arrived()
    direct = 4800
    assert moving.reason(first_frame(TCP, (end_of(CLIENT, six), end_of(FIRST, six)), direct)) is Reason.NEW
    moving.drain()
    moving.move()
    for (protocol, local), vm in lives.items():
        moving.client.send(next_frame(protocol, to, local, data=b"here"))
        there, frame = moving.arrived()
        assert there is vm, "with whom it spoke before"
        assert read_packet(frame).destination == end_of(vm, six)
    assert moving.reasons() == {(EGRESS, Reason.ESTABLISHED): 12}
    for (protocol, local), vm in lives.items():
        ends = (end_of(vm, six), end_of(CLIENT, six))
        answer = reply_frame(protocol, ends, local)
        if protocol == TCP:
            answer = whole_tcp(ends, 80, local, p.ACK, sequence=5001, acknowledgement=1005)
        moving.wires[vm.number].send(answer)
        assert read_packet(moving.take(moving.client)).source == back
    moving.wires[waits.number].send(reply_frame(TCP, (end_of(waits, six), end_of(CLIENT, six)), 4700))
    assert read_packet(moving.take(moving.client)).source == back, "a half-open one too"
    moving.wires[FIRST.number].send(reply_frame(TCP, (end_of(FIRST, six), end_of(CLIENT, six)), direct))
    assert read_packet(moving.take(moving.client)).source == end_of(FIRST, six), "a direct one stays direct"


def test_a_member_that_is_none_where_the_client_arrives_answers_no_more(moving: Moving) -> None:
    vm = moving.open(TCP)
    moving.stand(SECOND if vm is FIRST else FIRST, host=moving.other)
    moving.move()
    assert moving.reason(next_frame(TCP, ends_to(six=False)[0], data=b"?")) is Reason.NO_CONNECTION
    moving.wires[vm.number].send(whole_tcp((vm.v4, CLIENT.v4), 80, 4000, p.ACK, sequence=5001, acknowledgement=1001))
    assert moving.client.receive(seconds=0.1) == []


def test_a_service_that_is_unknown_where_the_client_arrives_leads_nowhere(moving: Moving) -> None:
    vm = moving.open(UDP)
    moving.other.services.delete_services(frozenset(moving.other.services.services()))
    moving.move()
    moving.wires[vm.number].send(reply_frame(UDP, (vm.v4, CLIENT.v4)))
    assert moving.client.receive(seconds=0.1) == [], "never with the member's own address"
    assert (INGRESS, Reason.NO_MEMBER) in moving.reasons()


def test_an_older_agent_refuses_what_it_would_misread_and_takes_the_rest(moving: Moving) -> None:
    """Its form asks for 0 where the service stands now, as every version before this one did."""
    vm = moving.open(TCP)
    moving.reason(first_frame(TCP, (CLIENT.v4, vm.v4), 4900))
    rows = EbpfConnections(moving.host.kernel).read(moving.client.ifindex)
    column = rows.rows[SERVICE::40]
    assert sorted(column) == [0, 2], "one address, then the mark of the service"
    assert rows.locals[0].endswith(p.address(CLIENT.ipv4))
    assert rows.locals[1] == bytes(12) + NUMBER4.to_bytes(4, "big")
