"""Who asks for a virtual address by ARP or neighbour discovery is answered by his own shield, and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.program import Direction
from buckler.ports.claims import ClaimSource
from tests import packets as p
from tests.component.ground import Host
from tests.component.reading import take_frames
from tests.component.serving import CLIENT, FIRST, MAC4, MAC6, SECOND, VIP4, VIP6, Served

EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
ZERO = "00:00:00:00:00:00"
NODES = ("33:33:ff:00:02:00", "ff02::1:ff00:200")
ALL_NODES = ("33:33:00:00:00:01", "ff02::1")
SOLICITED, OVERRIDE = 0x40000000, 0x20000000


@pytest.fixture
def served(host: Host) -> Iterator[Served]:
    made = Served(host)
    yield made
    made.close()


@pytest.mark.parametrize("to", [p.BROADCAST, MAC4])
def test_an_arp_request_is_answered_with_the_virtual_mac(served: Served, to: str) -> None:
    served.client.send(p.ether(CLIENT.mac, to, 0x0806, p.arp(1, CLIENT.v4, (ZERO, VIP4))))
    answer = p.ether(MAC4, CLIENT.mac, 0x0806, p.arp(2, (MAC4, VIP4), CLIENT.v4))
    assert take_frames(served.client) == [answer]
    served.nothing()
    assert served.reasons()[EGRESS, Reason.RESOLVED] == 1
    assert served.reasons()[INGRESS, Reason.ANSWER] == 1


def test_a_padded_request_is_answered_whole(served: Served) -> None:
    served.client.send(p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(1, CLIENT.v4, (ZERO, VIP4))) + bytes(18))
    (answer,) = take_frames(served.client)
    assert answer[14:42] == p.arp(2, (MAC4, VIP4), CLIENT.v4)


def test_who_detects_duplicates_finds_the_address_taken(served: Served) -> None:
    probe = p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(1, (CLIENT.mac, "0.0.0.0"), (ZERO, VIP4)))
    served.client.send(probe)
    (answer,) = take_frames(served.client)
    assert answer == p.ether(MAC4, CLIENT.mac, 0x0806, p.arp(2, (MAC4, VIP4), (CLIENT.mac, "0.0.0.0")))
    served.client.send(p.nd((CLIENT.mac, "::"), NODES, 135, VIP6))
    (answer,) = take_frames(served.client)
    link = p.nd_option(2, MAC6)
    told = p.nd((MAC6, VIP6), (CLIENT.mac, ALL_NODES[1]), 136, VIP6, link, flags=OVERRIDE)
    assert answer == told
    served.nothing()
    claims = served.host.claims.claims(10)
    assert [(claim.source, claim.address) for claim in claims] == [
        (ClaimSource.DETECTED, layout.pack_address(VIP4)),
        (ClaimSource.DETECTED, layout.pack_address(VIP6)),
    ], "and the agent hears of it"


@pytest.mark.parametrize("to", [NODES, (MAC6, VIP6)])
def test_a_solicitation_is_answered_with_the_virtual_mac(served: Served, to: tuple[str, str]) -> None:
    served.client.send(p.nd(CLIENT.v6, to, 135, VIP6, p.nd_option(1, CLIENT.mac)))
    told = p.nd((MAC6, VIP6), CLIENT.v6, 136, VIP6, p.nd_option(2, MAC6), flags=SOLICITED | OVERRIDE)
    assert take_frames(served.client) == [told]
    served.nothing()
    assert served.reasons()[EGRESS, Reason.RESOLVED] == 1


def test_others_are_asked_for_as_ever(served: Served) -> None:
    served.client.send(p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(1, CLIENT.v4, (ZERO, FIRST.ipv4))))
    served.client.send(p.nd(CLIENT.v6, ("33:33:ff:00:00:03", "ff02::1:ff00:3"), 135, SECOND.ipv6))
    assert len(take_frames(served.wires[FIRST.number])) == 1
    assert len(take_frames(served.wires[SECOND.number])) == 1
    assert served.client.receive(seconds=0.1) == []


def test_forged_questions_are_not_answered(served: Served) -> None:
    for frame, reason in (
        (p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(1, FIRST.v4, (ZERO, VIP4))), Reason.SPOOFED_ARP),
        (
            p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(1, (CLIENT.mac, FIRST.ipv4), (ZERO, VIP4))),
            Reason.SPOOFED_ARP,
        ),
        (p.ether(CLIENT.mac, p.BROADCAST, 0x0806, p.arp(2, (CLIENT.mac, VIP4), (ZERO, VIP4))), Reason.SPOOFED_ARP),
        (p.nd((CLIENT.mac, SECOND.ipv6), NODES, 135, VIP6), Reason.SPOOFED_ADDRESS),
        (p.nd(CLIENT.v6, NODES, 135, VIP6, hop_limit=64), Reason.SPOOFED_ND),
        (p.nd(CLIENT.v6, ALL_NODES, 136, VIP6, p.nd_option(2, CLIENT.mac)), Reason.SPOOFED_ND),
    ):
        assert served.reason(frame) is reason
    served.nothing()
