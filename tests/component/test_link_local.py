"""On real programs: an interface that has no link-local address neither sends from one nor takes what is sent to one."""

from __future__ import annotations

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from tests import packets as p
from tests.component.ground import Host, both_ways, open_veth, run
from tests.component.test_connections import ONE, TWO, Tapped, shared

__all__ = ["shared"]
OUT = p.ip_frame(ONE.ll, TWO.ll, 17, p.udp(4000, 80))
IN = p.ip_frame(TWO.ll, ONE.ll, 17, p.udp(4001, 80))
GLOBAL = p.ip_frame(ONE.v6, TWO.v6, 17, p.udp(4002, 80))


@pytest.mark.parametrize(
    ("has", "said"),
    [
        (True, [Reason.NEW, Reason.NEW, Reason.NEW]),
        (False, [Reason.SPOOFED_ADDRESS, Reason.NOT_FOR_VM, Reason.NEW]),
    ],
)
def test_who_has_no_link_local_address_speaks_by_none(shared: Host, has: bool, said: list[Reason]) -> None:
    wire = open_veth("tap1")
    shared.know(TWO)
    program = shared.put_program(*both_ways(TWO.identity, 17, prefix=16))
    addresses = (ONE.ipv4, ONE.ipv6, *((ONE.link_local,) if has else ()))
    shared.admit(wire.ifindex, ONE, program, addresses=tuple(sorted(addresses)))
    try:
        tapped = Tapped(shared, wire.ifindex)
        asked = ((Direction.EGRESS, OUT), (Direction.INGRESS, IN), (Direction.EGRESS, GLOBAL))
        assert [tapped.judge(direction, frame) for direction, frame in asked] == said
    finally:
        shared.shield.delete_tap(wire.ifindex)
        wire.close()
        run("ip link del tap1")
