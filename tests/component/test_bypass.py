"""The bypass catalogue: what a hostile VM or station tries, on real taps with guard and shields in force.

Each attack is tried twice. With everything in force nothing of it may arrive; with the named control taken away it must
arrive, else the test could not fail. VM 1 attacks VM 2; the two may speak UDP and ICMP by policy, so nothing here is
stopped merely because all is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from buckler.drivers.ebpf.attach import TAP_HOOKS
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.netlink.links import NetlinkLinks
from buckler.model.ids import IDENTITY_INFRA
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressKey, BridgePort, GuardState, PortRole
from buckler.ports.telemetry import FIRST_REFUSAL
from tests import packets as p
from tests.component.catalogue import (
    ATTACKS_FROM_OUTSIDE,
    ATTACKS_OF_VM,
    ATTACKS_TOWARDS_VM,
    BIG,
    INFRA4,
    INFRA6,
    MARKER,
    ONE,
    STATION,
    STATION_MARKER,
    THIRD,
    TWO,
    fragment6,
    fragments4,
    udp4,
)
from tests.component.ground import (
    APP,
    SLOWNESS,
    WEB,
    ZONE,
    Host,
    Wire,
    add_bridge,
    both_ways,
    open_tap,
    open_veth,
    own_bpffs,
    own_network,
)


@dataclass(frozen=True)
class Ground:
    host: Host
    one: Wire
    two: Wire
    outside: Wire
    tunnel: Wire


def build_ground(host: Host) -> Ground:
    wires = open_tap("tap1"), open_tap("tap2"), open_veth("out0"), open_veth("tun0")
    one, two, outside, tunnel = wires
    program = host.put_program(
        *(entry for peer in (0, 3) for protocol in (17, 1, 58, 47) for entry in both_ways(peer, protocol, prefix=16))
    )
    host.admit(one.ifindex, ONE, program)
    host.admit(two.ifindex, TWO, program)
    host.know(THIRD)
    infra = Address(IDENTITY_INFRA)
    host.book.put_addresses({AddressKey(0, f"{INFRA4}/32"): infra, AddressKey(0, f"{INFRA6}/128"): infra})  # type: ignore[arg-type]
    host.ports.put_bridge_port(BridgePort(outside.ifindex, PortRole.OUTSIDE, ZONE))
    host.ports.put_bridge_port(BridgePort(tunnel.ifindex, PortRole.TUNNEL, ZONE))
    host.guard.apply(GuardState(frozenset({"br0"}), frozenset((wire.ifindex, "br0") for wire in wires)))
    return Ground(host, one, two, outside, tunnel)


def take_down(ground: Ground) -> None:
    for wire in (ground.one, ground.two, ground.outside, ground.tunnel):
        wire.close()


@pytest.fixture
def ground(tcx_host: Host) -> Iterator[Ground]:
    made = build_ground(tcx_host)
    yield made
    take_down(made)


@pytest.fixture(scope="module", params=["closed", "open"])
def catalogue(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ground, bool]]:
    """One ground for the whole catalogue: first with everything in force, then with all controls taken away."""
    with own_network(), own_bpffs(tmp_path_factory.mktemp("catalogue") / "bpffs") as pins:
        add_bridge()
        made = build_ground(Host(pins))
        if request.param == "open":
            open_everything(made)
        yield made, request.param == "closed"
        take_down(made)
        made.host.close()


def try_attack(
    catalogue: tuple[Ground, bool],
    attacker: Wire,
    marker: bytes,
    frames: list[bytes],
    judge: tuple[Wire, Direction, Reason],
) -> None:
    ground, closed = catalogue
    wire, direction, reason = judge
    before = ground.host.reasons(wire.ifindex).get((direction, reason), 0)
    attacker.send(*frames, marker)
    arrived = ground.two.receive(until=marker)
    if closed:
        assert arrived == []
        assert ground.host.reasons(wire.ifindex)[direction, reason] > before
    else:
        assert arrived == frames, "without the controls it must arrive, else this test cannot fail"


def open_everything(ground: Ground) -> None:
    """Take all controls away: what a bridge does by itself."""
    ground.host.guard.remove()
    for wire in (ground.one, ground.two):
        for hook in TAP_HOOKS:
            ground.host.kernel.attachments.detach(wire.ifindex, hook)
    for wire in (ground.outside, ground.tunnel):
        for hook in ("port_from_outside", "port_from_tunnel"):
            ground.host.kernel.attachments.detach(wire.ifindex, hook)


@pytest.mark.parametrize("name", ATTACKS_OF_VM)
def test_a_vm_gets_nothing_through(catalogue: tuple[Ground, bool], name: str) -> None:
    frames, reason = ATTACKS_OF_VM[name]
    one = catalogue[0].one
    try_attack(catalogue, one, MARKER, frames, (one, Direction.EGRESS, reason))


def test_an_overlapping_fragment_spoils_its_datagram(ground: Ground) -> None:
    cuts = fragments4([(0, BIG[:64], True), (56, BIG[56:120], True), (120, BIG[120:], False)])
    ground.one.send(*cuts, MARKER)
    assert ground.two.receive(until=MARKER) == cuts[:1]
    open_everything(ground)
    ground.one.send(*cuts, MARKER)
    assert ground.two.receive(until=MARKER) == cuts


def test_fragments_in_order_pass(ground: Ground) -> None:
    cuts = fragments4([(0, BIG[:64], True), (64, BIG[64:], False)])
    six = [fragment6(0, True, BIG[:64]), fragment6(64, False, BIG[64:])]
    ground.one.send(*cuts, *six, MARKER)
    assert ground.two.receive(until=MARKER) == cuts + six


@pytest.mark.parametrize("name", ATTACKS_FROM_OUTSIDE)
def test_a_station_outside_is_no_vm(catalogue: tuple[Ground, bool], name: str) -> None:
    frames, reason = ATTACKS_FROM_OUTSIDE[name]
    outside = catalogue[0].outside
    try_attack(catalogue, outside, STATION_MARKER, frames, (outside, Direction.INGRESS, reason))


@pytest.mark.parametrize("name", ATTACKS_TOWARDS_VM)
def test_nothing_forbidden_reaches_a_vm(catalogue: tuple[Ground, bool], name: str) -> None:
    frames, reason = ATTACKS_TOWARDS_VM[name]
    two = catalogue[0].two
    try_attack(catalogue, catalogue[0].outside, STATION_MARKER, frames, (two, Direction.INGRESS, reason))


def test_a_tunnel_never_speaks_for_a_vm_that_lives_here(ground: Ground) -> None:
    forged = [udp4(ONE.v4, TWO.v4), udp4((STATION[0], ONE.ipv4), TWO.v4), udp4((ONE.mac, THIRD.ipv4), TWO.v4)]
    ground.one.send(MARKER)
    ground.two.receive(until=MARKER)
    distant = udp4(THIRD.v4, TWO.v4)
    ground.tunnel.send(*forged, distant)
    assert ground.two.receive(until=distant) == []
    assert ground.host.reasons(ground.tunnel.ifindex)[Direction.INGRESS, Reason.FOREIGN_TUNNEL] == 3
    open_everything(ground)
    ground.tunnel.send(*forged, distant)
    assert ground.two.receive(until=distant) == forged


def test_a_vm_that_has_not_spoken_here_may_still_be_elsewhere(ground: Ground) -> None:
    frame = udp4(ONE.v4, TWO.v4)
    ground.tunnel.send(frame)
    assert ground.two.receive(until=frame) == []


def test_a_dropped_frame_teaches_the_bridge_nothing(ground: Ground) -> None:
    """Neighbour-table theft: a frame with VM 2's MAC from VM 1 must not move VM 2's traffic."""
    theft = udp4((TWO.mac, ONE.ipv4), ("52:54:00:00:00:42", STATION[1]))
    ground.one.send(theft, MARKER)
    ground.two.receive(until=MARKER)
    to_two = udp4(STATION, TWO.v4)
    ground.outside.send(to_two)
    assert ground.two.receive(until=to_two) == []
    open_everything(ground)
    ground.one.send(theft)
    ground.outside.receive(until=theft)
    ground.outside.send(to_two)
    assert to_two in ground.one.receive(seconds=0.5), "without shield and guard the theft works"


def test_an_unadmitted_tap_neither_sends_nor_receives(ground: Ground) -> None:
    rogue = open_tap("rogue0")
    attack = udp4(ONE.v4, TWO.v4)
    rogue.send(attack, udp4((TWO.mac, TWO.ipv4), (p.BROADCAST, "255.255.255.255")))
    ground.one.send(udp4(ONE.v4, (p.BROADCAST, "10.9.0.255")), MARKER)
    assert attack not in ground.two.receive(until=MARKER)
    assert rogue.receive(seconds=0.2) == []
    assert ground.host.guard.counts()["unjudged"] >= 1
    open_everything(ground)
    rogue.send(attack)
    assert ground.two.receive(until=attack) == []
    rogue.close()


def test_link_layer_discovery_steals_no_traffic_where_learning_is_off(ground: Ground) -> None:
    """LLDP is learned from before any netfilter hook: a tap must not learn until it is admitted. Nothing leaks meanwhile."""
    rogue = open_tap("rogue0")
    theft = p.ether(TWO.mac, "01:80:c2:00:00:0e", 0x88CC, bytes(46))
    to_two = udp4(STATION, TWO.v4)
    rogue.send(theft)
    ground.outside.send(to_two)
    assert ground.two.receive(seconds=0.2) == []
    assert rogue.receive(seconds=0.2) == [], "the bridge sends it here, the guard stops it"
    NetlinkLinks().set_learning(rogue.ifindex, learning=False)
    ground.two.send(p.ether(TWO.mac, p.BROADCAST, 0x8035, p.arp(3, (TWO.mac, "0.0.0.0"), (TWO.mac, "0.0.0.0"))))
    rogue.send(theft)
    ground.outside.send(to_two)
    assert ground.two.receive(until=to_two) == []
    rogue.close()


def test_a_reused_name_opens_nothing(ground: Ground) -> None:
    ground.one.close()
    again = open_tap("tap1")
    attack = udp4(ONE.v4, TWO.v4)
    again.send(attack)
    station = udp4(STATION, (p.BROADCAST, "255.255.255.255"))
    ground.outside.send(station, STATION_MARKER)
    assert ground.two.receive(until=STATION_MARKER).count(attack) == 0
    assert again.receive(seconds=0.2) == []
    assert ground.one.ifindex not in ground.host.shield.taps()
    open_everything(ground)
    again.send(attack)
    assert ground.two.receive(until=attack) == []
    again.close()


def test_groups_need_their_own_rule_at_both_ends(ground: Ground) -> None:
    closed = ground.host.put_program(*both_ways(WEB, 17, prefix=16), *both_ways(APP, 17, prefix=16))
    groups = [udp4(ONE.v4, (p.BROADCAST, "255.255.255.255")), udp4(ONE.v4, ("01:00:5e:00:00:fb", "224.0.0.251"))]
    ground.one.send(*groups, MARKER)
    assert ground.two.receive(until=MARKER) == groups
    ground.host.admit(ground.two.ifindex, TWO, closed)
    ground.one.send(*groups, MARKER)
    assert ground.two.receive(until=MARKER) == []
    ground.host.admit(ground.one.ifindex, ONE, closed)
    before = ground.host.reasons(ground.two.ifindex)[Direction.INGRESS, Reason.POLICY]
    ground.one.send(*groups, MARKER)
    assert ground.two.receive(until=MARKER) == []
    assert ground.host.reasons(ground.two.ifindex)[Direction.INGRESS, Reason.POLICY] == before


def test_every_port_of_a_host_is_closed_to_guests(ground: Ground) -> None:
    """All 65,535 ports, UDP and TCP, both families; a policy that allows everything opens none. Emulated: a sample."""
    everything = ground.host.put_program(*both_ways(0, prefix=8))
    ground.host.admit(ground.one.ifindex, ONE, everything)
    ground.host.admit(ground.two.ifindex, TWO, everything)
    ports = range(1, 65536, SLOWNESS)
    for port in ports:
        for origin, host in ((ONE.v4, INFRA4), (ONE.v6, INFRA6)):
            ground.one.send(p.ip_frame(origin, (TWO.mac, host), 17, p.udp(5, port, b"")))
            ground.one.send(p.ip_frame(origin, (TWO.mac, host), 6, p.tcp(5, port, p.SYN)))
    ground.one.send(MARKER)
    assert ground.two.receive(until=MARKER, seconds=30) == []
    assert ground.host.reasons(ground.one.ifindex)[Direction.EGRESS, Reason.INFRA] == 4 * len(ports)
    ground.host.book.delete_addresses(frozenset({AddressKey(0, f"{INFRA4}/32")}))  # type: ignore[arg-type]
    ground.one.send(probe := p.ip_frame(ONE.v4, (TWO.mac, INFRA4), 17, p.udp(5, 16509, b"")), MARKER)
    ground.two.receive(until=MARKER)
    assert probe not in ground.two.receive(seconds=0.05)
    assert ground.host.reasons(ground.one.ifindex)[Direction.EGRESS, Reason.INFRA] == 4 * len(ports)


def test_counters_add_up_to_what_the_interface_saw(ground: Ground) -> None:
    frames = [frame for attack, _ in ATTACKS_OF_VM.values() for frame in attack]
    ground.one.send(*frames, MARKER)
    ground.two.receive(until=MARKER)
    counts = ground.host.telemetry.reasons(ground.one.ifindex)
    sent = {reason: count for (direction, reason), count in counts.items() if direction == Direction.EGRESS}
    assert sum(count.packets for count in sent.values()) == len(frames) + 1
    assert sum(count.bytes for count in sent.values()) == sum(map(len, frames)) + len(MARKER)
    refused = sum(count.packets for reason, count in sent.items() if reason >= FIRST_REFUSAL)
    assert refused == len(frames)
