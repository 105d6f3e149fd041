"""Connections that came from another host: judged on their next packet, and no reset believed before the VM has spoken."""

from __future__ import annotations

import struct

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.connection import Held, Rows, State
from buckler.model.program import Direction
from tests import packets as p
from tests.component.ground import APP, Host, allow
from tests.component.test_connections import EGRESS, INGRESS, ONE, TWO, Tapped, shared, tapped
from tests.contract.test_connections import row

__all__ = ["shared", "tapped"]
LOCALS = tuple(layout.pack_address(address) for address in (ONE.ipv4, ONE.ipv6))


def hand_over(tapped: Tapped, *lines: bytes) -> None:
    written = EbpfConnections(tapped.host.kernel).write(tapped.ifindex, Rows(LOCALS, b"".join(lines)))
    assert written.put == len(lines)


def web(**changes: object) -> bytes:
    return row(**{"ports": (80, 4000), "remote": TWO.ipv4, "left": 20_000_000, **changes})


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("first", list(Direction))
def test_an_established_connection_goes_on_from_either_end(tapped: Tapped, first: Direction, six: bool) -> None:
    assert tapped.tcp(first, p.ACK, 7001, 9001, six=six, data=b"x") is Reason.NO_CONNECTION, "not without the handover"
    hand_over(tapped, web(local=1, remote=TWO.ipv6) if six else web())
    for direction in (first, EGRESS, INGRESS, EGRESS):
        sequence, acknowledgement = (7001, 9001) if direction is EGRESS else (9001, 7001)
        assert tapped.tcp(direction, p.ACK, sequence, acknowledgement, six=six, data=b"x") is Reason.ESTABLISHED


def test_an_idle_one_too_and_a_datagram_and_an_echo(tapped: Tapped) -> None:
    hand_over(
        tapped,
        web(age=10_000_000),
        row(protocol=17, tcp=(0, 0), state=State.ESTABLISHED, ports=(53, 4001), remote=TWO.ipv4),
        row(protocol=1, tcp=(0, 0), state=State.REPLIED, held=Held.HALF_OPEN, ports=(7, 7), remote=TWO.ipv4),
    )
    assert tapped.tcp(INGRESS, p.ACK, 9001, 7001) is Reason.ESTABLISHED
    answer = p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(53, 4001, b"x"))
    assert tapped.judge(INGRESS, answer) is Reason.ESTABLISHED
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(7, reply=True))) is Reason.ESTABLISHED


def test_what_policy_no_longer_allows_is_cut_on_its_next_packet(tapped: Tapped) -> None:
    hand_over(tapped, web(ports=(81, 4000)), web(direction=1, ports=(5000, 23)))
    assert tapped.tcp(EGRESS, p.ACK, 7001, 9001, port=81, data=b"x") is Reason.POLICY
    assert tapped.tcp(EGRESS, p.ACK, 7001, 9001, port=81, data=b"x") is Reason.NO_CONNECTION
    assert tapped.tcp(INGRESS, p.ACK, 7001, 9001, port=5000, local=23, data=b"x") is Reason.POLICY


def test_a_record_cannot_name_the_port_by_which_it_is_judged(tapped: Tapped) -> None:
    """The remote end's port 80 is allowed from here, the VM's port 80 is not allowed from there."""
    hand_over(tapped, web(direction=1, ports=(4000, 80)))
    assert tapped.tcp(INGRESS, p.ACK, 1, 1, port=4000, local=80, data=b"x") is Reason.POLICY


def test_before_the_vm_has_spoken_no_reset_is_believed(tapped: Tapped) -> None:
    hand_over(tapped, web())
    for sequence in (0, 9001, 0xFFFFFFFF):
        assert tapped.tcp(INGRESS, p.RST, sequence) is Reason.TCP_RESET
        assert tapped.tcp(INGRESS, p.RST | p.ACK, sequence, 7001) is Reason.TCP_RESET
    assert tapped.tcp(EGRESS, p.ACK, 7001, 9001, data=b"x") is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.RST, 9500) is Reason.TCP_RESET
    assert tapped.tcp(INGRESS, p.RST, 9001) is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.ACK, 9001, 7002) is Reason.ESTABLISHED


def test_a_window_made_up_by_somebody_outside_before_that_serves_no_reset(tapped: Tapped) -> None:
    hand_over(tapped, web())
    for sequence in (100, 0x40000000, 0x80000000, 0xC0000000):
        assert tapped.tcp(INGRESS, p.ACK, sequence, sequence, data=b"forged") is Reason.ESTABLISHED
        assert tapped.tcp(INGRESS, p.RST, sequence + 6) is Reason.TCP_RESET
    assert tapped.tcp(EGRESS, p.ACK, 7001, 9001, data=b"x") is Reason.ESTABLISHED
    for sequence in (100 + 6, 0x40000006, 0x80000006, 0xC0000006):
        assert tapped.tcp(INGRESS, p.RST, sequence) is Reason.TCP_RESET
    assert tapped.tcp(INGRESS, p.RST, 9001) is Reason.ESTABLISHED, "the true one is still believed"


def test_windows_keep_their_scale_so_that_a_fast_transfer_stays_known(tapped: Tapped) -> None:
    """Without it, what the peer may send would seem 128 times smaller and its end would not be noticed."""
    hand_over(tapped, web(tcp=(7, 7)))
    assert tapped.tcp(EGRESS, p.ACK, 7001, 9001) is Reason.ESTABLISHED
    far = 9001 + (60_000 << 6)
    assert tapped.tcp(INGRESS, p.ACK, far, 7001, data=b"x") is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 7001, far + 1) is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.RST, far + 1) is Reason.ESTABLISHED


def test_a_half_open_one_goes_on_or_starts_over(tapped: Tapped) -> None:
    hand_over(tapped, web(state=State.NEW, held=Held.HALF_OPEN, left=60_000))
    assert tapped.tcp(INGRESS, p.RST | p.ACK, 0, 1001) is Reason.TCP_RESET, "whose refusal it is, is not known here"
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)
    hand_over(tapped, web(state=State.NEW, held=Held.HALF_OPEN, left=60_000, ports=(80, 4002)))
    assert tapped.tcp(EGRESS, p.SYN, 1000, local=4002) is Reason.NEW
    assert tapped.tcp(INGRESS, p.RST | p.ACK, 0, 1001, local=4002) is Reason.ESTABLISHED


def test_a_closing_one_ends_in_its_time(tapped: Tapped) -> None:
    hand_over(tapped, web(state=State.CLOSING, left=100_000, tcp=(0x17, 7)))
    assert tapped.tcp(INGRESS, p.ACK, 9001, 7001) is Reason.ESTABLISHED
    held = EbpfConnections(tapped.host.kernel).read(tapped.ifindex)
    assert struct.unpack_from("<I", held.rows, 12)[0] <= 121_000


def test_what_is_read_from_a_living_shield_is_what_another_takes(shared: Host, tapped: Tapped) -> None:
    tapped.shake_hands()
    tapped.shake_hands(4001, six=True)
    assert tapped.tcp(EGRESS, p.SYN, 1, local=4002) is Reason.NEW
    read = EbpfConnections(shared.kernel).read(tapped.ifindex)
    assert sorted((line[0], line[1], line[2], line[3]) for line in (read.rows[at : at + 40] for at in (0, 40, 80))) == [
        (6, 0, State.NEW, Held.HALF_OPEN), (6, 0, State.ESTABLISHED, Held.ESTABLISHED), (6, 0, State.ESTABLISHED, Held.ESTABLISHED),
    ]  # fmt: skip
    shared.shield.delete_tap(tapped.ifindex)
    shared.admit(tapped.ifindex, ONE, shared.put_program(allow(APP, EGRESS, 6, 80, 32, rule=7)))
    assert EbpfConnections(shared.kernel).write(tapped.ifindex, read).put == 3
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001, data=b"x") is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001, local=4001, data=b"x", six=True) is Reason.ESTABLISHED
