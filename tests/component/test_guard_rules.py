"""Each rule of the guard stops what it is there for, and nothing else does: without it the attack gets through."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import msgspec
import pytest

from buckler.drivers.nftables import ruleset
from buckler.drivers.nftables.guard import NftablesGuard
from buckler.model.shield import BridgePort, GuardState, PortRole
from tests import packets as p
from tests.component.catalogue import NOBODY_MAC, ONE, STATION, TWO
from tests.component.ground import ZONE, Host, Wire, open_tap, open_veth, run

ATTACK = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(5, 6, b"from nobody admitted"))
GROUP = p.ip_frame(ONE.v4, (p.BROADCAST, "255.255.255.255"), 17, p.udp(5, 6, b"to whom it may concern"))
ASK = p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, (NOBODY_MAC, "10.9.0.100")))
FABRIC = "02:00:00:00:00:01"
EAPOL = p.ether(ONE.mac, "01:80:c2:00:00:03", 0x888E, bytes(46))
"""Link-local control frames meet no prerouting; LLDP meets no hook at all (see test_bypass.py)."""


class Place:
    """A bridge with one admitted port and one that nobody admitted. No shield: frames are marked where an attack says so."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.admitted, self.rogue = open_tap("tap2"), open_tap("rogue0")
        self.guard = NftablesGuard()
        self.fabric = open_veth("fab0", bridge=None)
        run(f"ip link set fab0 address {FABRIC}")
        run("ip addr add 192.168.50.1/24 dev fab0; ip addr add 10.9.0.100/24 dev br0")
        run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.fab0.rp_filter=0")
        ports = frozenset({(self.admitted.ifindex, "br0")})
        self.state = GuardState(frozenset({"br0"}), ports, fabric="fab0", members=frozenset({"192.168.50.2"}))

    def mark(self, wire: Wire) -> None:
        """Let a port's program mark what comes in."""
        self.host.ports.put_bridge_port(BridgePort(wire.ifindex, PortRole.OUTSIDE, ZONE))

    def close(self) -> None:
        for wire in (self.admitted, self.rogue, self.fabric):
            wire.close()


def listen(interface: str, ethertype: int) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    found.bind((interface, ethertype))
    found.settimeout(0.4)
    return found


def hears(heard: socket.socket) -> bool:
    try:
        heard.recv(2000)
    except TimeoutError:
        return False
    finally:
        heard.close()
    return True


def enter_unjudged(place: Place) -> bool:
    place.rogue.send(ATTACK)
    return ATTACK in place.admitted.receive(seconds=0.4)


def leave_unadmitted(place: Place) -> bool:
    place.mark(place.admitted)
    place.admitted.send(GROUP)
    return GROUP in place.rogue.receive(seconds=0.4)


def reach_the_host_link_locally(place: Place) -> bool:
    place.guard.apply(msgspec.structs.replace(place.state, gateways=frozenset({"br0"})))
    heard = listen("tap2", 0x888E)
    place.admitted.send(EAPOL)
    return hears(heard)


def reach_the_host(place: Place) -> bool:
    place.mark(place.admitted)
    heard = listen("br0", 0x0806)
    place.admitted.send(ASK)
    return hears(heard)


def hear_the_host(place: Place) -> bool:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as host:
        host.bind(("br0", 0))
        host.send(GROUP)
    return GROUP in place.admitted.receive(seconds=0.4)


def tunnel_into(place: Place, source: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vxlan:
        vxlan.bind(("", 4789))
        vxlan.settimeout(0.4)
        place.fabric.send(p.ip_frame((STATION[0], source), (FABRIC, "192.168.50.1"), 17, p.udp(9, 4789)))
        try:
            vxlan.recv(2000)
        except TimeoutError:
            return False
        return True


RULES: list[tuple[str, str, Callable[[Place], bool]]] = [
    ("prerouting", "counter name unjudged", enter_unjudged),
    ("forward", "counter name unadmitted", leave_unadmitted),
    ("input", "counter name unjudged", reach_the_host_link_locally),
    ("input", "counter name towards_host", reach_the_host),
    ("output", "counter name from_host", hear_the_host),
]


@pytest.fixture
def place(tcx_host: Host) -> Iterator[Place]:
    made = Place(tcx_host)
    yield made
    made.close()


@pytest.mark.parametrize(("chain", "what", "attack"), RULES, ids=lambda value: getattr(value, "__name__", None))
@pytest.mark.parametrize("dropped", [False, True], ids=["kept", "dropped"])
def test_a_rule_stops_its_attack(
    place: Place, monkeypatch: pytest.MonkeyPatch, chain: str, what: str, attack: Callable[[Place], bool], dropped: bool
) -> None:
    form = ruleset._BY_BRIDGE if place.guard._knows_bridges() else ruleset._BY_PORT
    if dropped:
        kept = tuple(rule for rule in form[chain] if what not in rule)
        assert len(kept) == len(form[chain]) - 1
        monkeypatch.setitem(form, chain, kept)
    place.guard.apply(place.state)
    assert attack(place) is dropped
    assert (place.guard.counts()[what.split()[-1]] > 0) is not dropped


TUNNELS = [
    ("    counter name tunnel drop\n  }", "  }", "192.168.50.66"),
    ("    meta iifname != @fabric counter name tunnel drop\n", "", "192.168.50.2"),
]


@pytest.mark.parametrize(("rule", "left", "source"), TUNNELS, ids=["members", "fabric"])
@pytest.mark.parametrize("dropped", [False, True], ids=["kept", "dropped"])
def test_tunnel_rules_let_in_members_over_the_fabric_only(
    place: Place, monkeypatch: pytest.MonkeyPatch, rule: str, left: str, source: str, dropped: bool
) -> None:
    if dropped:
        assert ruleset._INET.count(rule) == 1
        monkeypatch.setattr(ruleset, "_INET", ruleset._INET.replace(rule, left))
    if source == "192.168.50.2":
        run("ip link set fab0 down; ip link set fab0 name stray0; ip link set stray0 up")
    place.guard.apply(place.state)
    assert tunnel_into(place, source) is dropped
    assert (place.guard.counts()["tunnel"] > 0) is not dropped
