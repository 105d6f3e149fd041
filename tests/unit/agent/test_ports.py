"""Which networks a bridge's tunnel and outside ports carry: the segments on the bridge decide, ambiguity closes."""

from __future__ import annotations

import msgspec

from buckler.agent.belief import Belief
from buckler.agent.desired import Roles
from buckler.agent.resolve import resolve
from buckler.model.ids import HostId, Zone
from buckler.model.shield import BridgePort, PortRole
from buckler.ports.links import Link
from tests.poolkit import Pool

ROLES = Roles(outside=frozenset({"cl0"}))
PORT = {7: Link(7, "cl0", "veth", "02:00:00:00:00:07", "br0", up=True)}


def resolve_ports(*vlans: int):
    segment = msgspec.structs.replace(Pool(vms=1).segment(), bridge="br0")
    segments = tuple(
        msgspec.structs.replace(segment, network=f"n{number}", zone=Zone(number), vlan=vlan)
        for number, vlan in enumerate(vlans, 1)
    )
    return resolve(Belief("pool", HostId("h"), {}, segments=segments), ROLES, (), PORT, ())


def test_a_port_carries_every_network_of_its_bridge_under_its_own_vlan():
    expected = BridgePort(7, PortRole.OUTSIDE, Zone(2), ((10, Zone(1)), (20, Zone(3))))
    assert resolve_ports(10, 0, 20).bridge_ports == {7: expected}


def test_untagged_frames_of_a_bridge_with_tagged_networks_only_belong_to_none():
    assert resolve_ports(10).bridge_ports == {7: BridgePort(7, PortRole.OUTSIDE, Zone(0), ((10, Zone(1)),))}


def test_networks_that_share_bridge_and_vlan_close_the_port():
    desired = resolve_ports(10, 10)
    assert desired.bridge_ports == {}
    assert desired.guard.ports == frozenset()
    assert any("n1, n2 share br0 and VLAN 10" in problem for problem in desired.problems)


def test_a_bridge_without_a_network_closes_the_port():
    assert resolve_ports().bridge_ports == {}
