"""Who may begin and who may answer: nothing rides against the direction of a connection that policy allowed.

The policy of VM 1 lets it open towards VM 2 and lets nobody open towards it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.pool import ShieldMode
from tests import packets as p
from tests.component.ground import APP, Host, allow, both_ways, open_veth
from tests.component.test_connections import EGRESS, INGRESS, ONE, TWO, Tapped

INIT, INIT_ACK, DATA = 1, 2, 0
REQUEST, REPLY = False, True


@pytest.fixture
def tapped(tcx_host: Host) -> Iterator[Tapped]:
    wire = open_veth("tap1")
    tcx_host.know(TWO)
    tcx_host.admit(wire.ifindex, ONE, rules(tcx_host))
    yield Tapped(tcx_host, wire.ifindex)
    wire.close()


def rules(host: Host) -> str:  # type: ignore[return]
    return host.put_program(*(allow(APP, EGRESS, protocol, prefix=16) for protocol in (1, 6, 17, 58, 132)))  # type: ignore[return-value]


def open_both_ways(tapped: Tapped) -> None:
    tapped.host.admit(tapped.ifindex, ONE, tapped.host.put_program(*both_ways(APP)))


def echo(tapped: Tapped, direction: int, number: int, reply: bool, *, six: bool = False) -> Reason:
    ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
    source, destination = ends if direction is EGRESS else ends[::-1]
    if not six:
        return tapped.judge(direction, p.ip_frame(source, destination, 1, p.echo(number, reply=reply)))  # type: ignore[arg-type]
    kind, rest = 129 if reply else 128, struct.pack(">HH", number, 1)
    message = p.icmpv6(source[1], destination[1], kind, 0, rest)
    return tapped.judge(direction, p.ip_frame(source, destination, 58, message))  # type: ignore[arg-type]


def sctp(tapped: Tapped, direction: int, chunk: int) -> Reason:
    packet = struct.pack(">HHII", 5000, 5000, 0, 0) + struct.pack(">BBH", chunk, 0, 20) + bytes(16)
    source, destination = (ONE.v4, TWO.v4) if direction is EGRESS else (TWO.v4, ONE.v4)
    return tapped.judge(direction, p.ip_frame(source, destination, 132, packet))  # type: ignore[arg-type]


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("number", [0, 1, 65535])
def test_an_echo_request_against_a_running_one_is_judged_by_itself(tapped: Tapped, number: int, six: bool) -> None:
    """The hole that the lab found: equal identifiers both ways."""
    assert echo(tapped, EGRESS, number, REQUEST, six=six) is Reason.NEW
    assert echo(tapped, INGRESS, number, REQUEST, six=six) is Reason.POLICY
    assert echo(tapped, EGRESS, number, REPLY, six=six) is Reason.NO_CONNECTION, "nobody may have asked"
    assert echo(tapped, INGRESS, number, REPLY, six=six) is Reason.ESTABLISHED
    assert echo(tapped, EGRESS, number, REQUEST, six=six) is Reason.ESTABLISHED
    assert echo(tapped, INGRESS, number, REQUEST, six=six) is Reason.POLICY, "nor once it is established"


def test_two_that_may_ping_each_other_do_so_with_one_identifier(tapped: Tapped) -> None:
    """Windows gives every ping the identifier 1."""
    open_both_ways(tapped)
    for request, reply in ((EGRESS, INGRESS), (INGRESS, EGRESS)):
        assert echo(tapped, request, 1, REQUEST) is Reason.NEW
        assert echo(tapped, reply, 1, REPLY) is Reason.ESTABLISHED
        assert echo(tapped, request, 1, REQUEST) is Reason.ESTABLISHED
    assert tapped.counts() == (2, 0)


def test_an_error_about_an_error_is_not_about_an_echo(tapped: Tapped) -> None:
    assert echo(tapped, EGRESS, 0, REQUEST) is Reason.NEW
    inner = p.ipv4(ONE.ipv4, TWO.ipv4, 1, p.icmp(3, 3))[:28]
    error = p.ip_frame(TWO.v4, ONE.v4, 1, p.icmp(3, 1, data=inner))
    assert tapped.judge(INGRESS, error) is Reason.ICMP_ERROR
    about_echo = p.ipv4(ONE.ipv4, TWO.ipv4, 1, p.echo(0))[:28]
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.icmp(3, 1, data=about_echo))) is Reason.RELATED


def waiting(tapped: Tapped) -> None:
    tapped.tcp(EGRESS, p.SYN, 1000)


def replied(tapped: Tapped) -> None:
    waiting(tapped)
    tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001)


def established(tapped: Tapped) -> None:
    replied(tapped)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED


def half_closed(tapped: Tapped) -> None:
    established(tapped)
    tapped.tcp(EGRESS, p.FIN | p.ACK, 1001, 5001)
    tapped.tcp(INGRESS, p.ACK, 5001, 1002)


def closed(tapped: Tapped) -> None:
    half_closed(tapped)
    tapped.tcp(INGRESS, p.FIN | p.ACK, 5001, 1002)
    tapped.tcp(EGRESS, p.ACK, 1002, 5002)


def reset(tapped: Tapped) -> None:
    established(tapped)
    tapped.tcp(EGRESS, p.RST, 1001)


STATES = (waiting, replied, established, half_closed, closed, reset)


@pytest.mark.parametrize("state", STATES)
def test_a_denied_connect_cannot_use_the_ports_of_an_allowed_connection(tapped: Tapped, state: object) -> None:
    state(tapped)  # type: ignore[operator]
    for sequence in (0, 5000, 5001, 5002, 99999):
        assert tapped.tcp(INGRESS, p.SYN, sequence) in (Reason.POLICY, Reason.NO_CONNECTION)
    if state is waiting:
        assert tapped.tcp(EGRESS, p.SYN | p.ACK, 1000, 5001) is Reason.NO_CONNECTION, "a SYN-ACK of who opens"


@pytest.mark.parametrize("state", [waiting, replied])
def test_a_refused_connect_does_no_harm_to_the_allowed_one(tapped: Tapped, state: object) -> None:
    state(tapped)  # type: ignore[operator]
    tapped.tcp(INGRESS, p.SYN, 7777)
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)


def test_both_may_begin_at_once_where_policy_lets_both(tapped: Tapped) -> None:
    open_both_ways(tapped)
    assert tapped.tcp(EGRESS, p.SYN, 1000) is Reason.NEW
    assert tapped.tcp(INGRESS, p.SYN, 5000) is Reason.NEW
    assert tapped.tcp(EGRESS, p.SYN | p.ACK, 1000, 5001) is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001) is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)


def test_a_connect_never_takes_over_an_established_connection(tapped: Tapped) -> None:
    open_both_ways(tapped)
    established(tapped)
    assert tapped.tcp(INGRESS, p.SYN, 9000) is Reason.NO_CONNECTION
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001, data=b"on") is Reason.ESTABLISHED


def test_nothing_but_an_answer_follows_a_syn(tapped: Tapped) -> None:
    waiting(tapped)
    assert tapped.tcp(INGRESS, p.ACK, 5000, 1001, data=b"early") is Reason.NO_CONNECTION
    assert tapped.tcp(INGRESS, p.FIN | p.ACK, 5000, 1001) is Reason.NO_CONNECTION
    assert tapped.tcp(EGRESS, p.ACK, 1001, 1, data=b"early") is Reason.NO_CONNECTION
    assert tapped.tcp(INGRESS, p.ACK, 77, 99) is Reason.ESTABLISHED, (
        "RFC 9293, 3.5.1: the other end knows an older connection"
    )
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.NO_CONNECTION, "that was no handshake"
    assert tapped.counts() == (0, 1)
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, data=b"fast open") is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.ACK, 5010, 1001, data=b"more") is Reason.ESTABLISHED


def test_what_is_closed_is_not_kept_alive(tapped: Tapped) -> None:
    closed(tapped)
    table = tapped.host.shield._inner("established", 0)
    assert table is not None
    (before,) = table.items().values()
    for _ in range(3):
        tapped.tcp(INGRESS, p.ACK, 5002, 1002, data=b"late")
    (after,) = table.items().values()
    table.close()
    assert before[:8] == after[:8]


def test_an_association_is_opened_by_init_in_the_allowed_direction_only(tapped: Tapped) -> None:
    assert sctp(tapped, INGRESS, INIT) is Reason.POLICY
    assert sctp(tapped, EGRESS, DATA) is Reason.NO_CONNECTION
    assert sctp(tapped, EGRESS, INIT) is Reason.NEW
    assert sctp(tapped, INGRESS, INIT) is Reason.POLICY
    assert sctp(tapped, INGRESS, INIT_ACK) is Reason.ESTABLISHED
    assert sctp(tapped, EGRESS, DATA) is Reason.ESTABLISHED
    assert sctp(tapped, INGRESS, INIT) is Reason.POLICY
    assert sctp(tapped, INGRESS, DATA) is Reason.ESTABLISHED
    open_both_ways(tapped)
    assert sctp(tapped, INGRESS, INIT) is Reason.NEW, "two that may both open may open at once"
    assert sctp(tapped, EGRESS, DATA) is Reason.ESTABLISHED


def test_a_turned_association_falls_with_the_rule_of_its_new_direction(tapped: Tapped) -> None:
    open_both_ways(tapped)
    sctp(tapped, EGRESS, INIT)
    sctp(tapped, INGRESS, INIT)
    tapped.host.admit(tapped.ifindex, ONE, rules(tapped.host))  # type: ignore[arg-type]
    assert sctp(tapped, INGRESS, DATA) is Reason.POLICY


def test_observe_mode_lets_even_this_pass_and_tells_it(tapped: Tapped) -> None:
    tapped.host.admit(tapped.ifindex, ONE, rules(tapped.host), mode=ShieldMode.OBSERVE)  # type: ignore[arg-type]
    waiting(tapped)
    assert tapped.tcp(INGRESS, p.SYN, 5000) is Reason.OBSERVED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)
    assert tapped.tcp(INGRESS, p.SYN, 5000) is Reason.OBSERVED


def test_udp_ports_that_are_equal_open_nothing_to_others(tapped: Tapped) -> None:
    frame = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(53, 53))
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(53, 53))) is Reason.POLICY
    assert tapped.judge(EGRESS, frame) is Reason.NEW
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(53, 54))) is Reason.POLICY
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v6, ONE.v6, 17, p.udp(53, 53))) is Reason.POLICY
    assert tapped.judge(INGRESS, p.ip_frame(TWO.ll, ONE.v6, 17, p.udp(53, 53))) is Reason.POLICY
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(53, 53))) is Reason.ESTABLISHED, "its answer"
