"""Virtual addresses of services: on the wire, between real taps: who is chosen, what is written, what is answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from tests.component.ground import Host
from tests.component.serving import (
    CLIENT,
    SCTP,
    TCP,
    UDP,
    Served,
    end_of,
    ends_to,
    first_frame,
    next_frame,
    read_packet,
    reply_frame,
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
