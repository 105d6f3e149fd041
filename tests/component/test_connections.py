"""Connections behind a shield: their states, their quota, forged ends, and revocation."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.carrying import make_room, resize
from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.layout import CONNECTIONS_HALF_OPEN
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.ebpf.table import Table
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressFlag, AddressKey
from tests import packets as p
from tests.component.ground import (
    APP,
    SLOWNESS,
    WEB,
    ZONE,
    Host,
    Vm,
    add_bridge,
    allow,
    both_ways,
    open_veth,
    own_bpffs,
    own_network,
    run,
)

ONE, TWO, THIRD = Vm(1, WEB), Vm(2, APP), Vm(3, WEB)
EGRESS, INGRESS = Direction.EGRESS, Direction.INGRESS
HOOKS = {EGRESS: "tap_from_vm", INGRESS: "tap_to_vm"}


class Tapped:
    """The shield of VM 1, asked packet by packet."""

    def __init__(self, host: Host, ifindex: int) -> None:
        self.host, self.ifindex = host, ifindex

    def judge(self, direction: Direction, frame: bytes) -> Reason:
        before = self.host.reasons(self.ifindex)
        outcome = run_hook(self.host.kernel, HOOKS[direction], frame, self.ifindex)
        (changed,) = [key for key, count in self.host.reasons(self.ifindex).items() if count != before.get(key)]
        assert changed[0] is direction
        assert outcome.passed == (changed[1] < Reason.POLICY)
        return changed[1]

    def tcp(self, direction: Direction, flags: int, sequence: int, acknowledgement: int = 0, *, port: int = 80,
            local: int = 4000, data: bytes = b"", six: bool = False) -> Reason:  # fmt: skip
        ends = (ONE.v6, TWO.v6) if six else (ONE.v4, TWO.v4)
        ports = (local, port) if direction is EGRESS else (port, local)
        source, destination = ends if direction is EGRESS else ends[::-1]
        segment = p.tcp(*ports, flags, sequence=sequence, acknowledgement=acknowledgement, data=data)
        return self.judge(direction, p.ip_frame(source, destination, 6, segment))

    def shake_hands(self, local: int = 4000, *, six: bool = False) -> None:
        assert self.tcp(EGRESS, p.SYN, 1000, local=local, six=six) is Reason.NEW
        assert self.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, local=local, six=six) is Reason.ESTABLISHED
        assert self.tcp(EGRESS, p.ACK, 1001, 5001, local=local, six=six) is Reason.ESTABLISHED

    def counts(self) -> tuple[int, int]:
        return self.host.telemetry.connections(self.ifindex)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One kernel object for all these tests: loading it is most of what each would take."""
    with own_network(), own_bpffs(tmp_path_factory.mktemp("connections") / "bpffs") as pins:
        add_bridge()
        made = Host(pins)
        yield made
        made.close()


@pytest.fixture
def tapped(shared: Host) -> Iterator[Tapped]:
    """VM 1 on a tap of its own, nobody else's traces in the maps."""
    wire = open_veth("tap1")
    shared.telemetry.events(1 << 20)
    shared.know(TWO)
    shared.know(THIRD)
    shared.admit(wire.ifindex, ONE, rules(shared))
    yield Tapped(shared, wire.ifindex)
    shared.shield.delete_tap(wire.ifindex)
    shared.book.delete_addresses(frozenset(shared.book.addresses()))
    shared.book.delete_macs(frozenset(shared.book.macs()))
    pairs = shared.kernel["pairs"]
    for key in list(pairs.each_key()):
        if layout.PAIR_KEY.unpack(key)[0] != layout.NOBODY:
            pairs.delete(key)
    wire.close()
    run("ip link del tap1")


def rules(host: Host) -> str:  # type: ignore[return]
    return host.put_program(  # type: ignore[return-value]
        allow(APP, EGRESS, 6, 80, 32, rule=7), allow(APP, EGRESS, 17, 53, 32, rule=8), allow(APP, EGRESS, 1, 0x0800, 24, rule=9),
        allow(APP, INGRESS, 6, 22, 32, rule=10), allow(APP, EGRESS, 58, 0x8000, 24, rule=11),
    )  # fmt: skip


@pytest.mark.parametrize("six", [False, True])
def test_a_handshake_takes_a_place_only_when_it_is_complete(tapped: Tapped, six: bool) -> None:
    assert tapped.tcp(EGRESS, p.SYN, 1000, six=six) is Reason.NEW
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, six=six) is Reason.ESTABLISHED
    assert tapped.counts() == (0, 1)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, six=six) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)


def test_only_the_direction_that_policy_names_may_open(tapped: Tapped) -> None:
    assert tapped.tcp(INGRESS, p.SYN, 1, port=4000, local=80) is Reason.POLICY
    assert tapped.tcp(EGRESS, p.SYN, 1, port=81) is Reason.POLICY
    assert tapped.tcp(EGRESS, p.ACK, 1, 1) is Reason.NO_CONNECTION
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 1, 1) is Reason.NO_CONNECTION


def test_a_forged_reset_neither_passes_nor_closes(tapped: Tapped) -> None:
    tapped.shake_hands()
    for sequence in (0, 4999, 5002, 5001 + 70000, 0x80000000):
        assert tapped.tcp(INGRESS, p.RST, sequence) is Reason.TCP_RESET
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, data=b"on") is Reason.ESTABLISHED
    assert tapped.tcp(INGRESS, p.RST, 5001) is Reason.ESTABLISHED, "the true one passes"
    assert tapped.tcp(EGRESS, p.SYN, 9000) is Reason.NEW, "and closes"


def test_a_forged_segment_far_away_does_not_open_the_window_for_a_reset(tapped: Tapped) -> None:
    tapped.shake_hands()
    tapped.tcp(INGRESS, p.ACK, 5001 + 10_000_000, 1001, data=b"forged")
    assert tapped.tcp(INGRESS, p.RST, 5001 + 10_000_000) is Reason.TCP_RESET


def test_a_refused_syn_may_be_told(tapped: Tapped) -> None:
    tapped.tcp(EGRESS, p.SYN, 1000)
    assert tapped.tcp(INGRESS, p.RST | p.ACK, 0, 999) is Reason.TCP_RESET
    assert tapped.tcp(INGRESS, p.RST | p.ACK, 0, 1001) is Reason.ESTABLISHED


def test_an_originator_may_start_over(tapped: Tapped) -> None:
    tapped.tcp(EGRESS, p.SYN, 1000)
    assert tapped.tcp(EGRESS, p.SYN, 1000) is Reason.ESTABLISHED, "sent again"
    assert tapped.tcp(EGRESS, p.SYN, 500) is Reason.NEW
    tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 501)
    tapped.tcp(EGRESS, p.ACK, 501, 5001)
    assert tapped.counts() == (1, 0)
    assert tapped.tcp(INGRESS, p.RST, 5001) is Reason.ESTABLISHED


def test_both_ends_finishing_ends_the_connection(tapped: Tapped) -> None:
    tapped.shake_hands()
    tapped.tcp(EGRESS, p.FIN | p.ACK, 1001, 5001)
    tapped.tcp(INGRESS, p.FIN | p.ACK, 5001, 1001)
    tapped.tcp(EGRESS, p.ACK, 1002, 5002)
    tapped.tcp(INGRESS, p.ACK, 5002, 1002)
    assert tapped.tcp(EGRESS, p.SYN, 70000) is Reason.NEW


def test_a_flood_of_syns_evicts_no_established_connection(tapped: Tapped) -> None:
    for local in range(100):
        tapped.shake_hands(20000 + local)
    for number in range(max(20000 // SLOWNESS, CONNECTIONS_HALF_OPEN + 1000)):
        frame = p.ip_frame(ONE.v4, TWO.v4, 6, p.tcp(1024 + number, 80, p.SYN))
        run_hook(tapped.host.kernel, "tap_from_vm", frame, tapped.ifindex)
    assert tapped.counts()[0] == 100
    for local in range(100):
        assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=20000 + local) is Reason.ESTABLISHED


def test_a_full_quota_refuses_and_counts(tapped: Tapped) -> None:
    tapped.host.admit(tapped.ifindex, ONE, rules(tapped.host), connections=5)  # type: ignore[arg-type]
    for local in range(5):
        tapped.shake_hands(4000 + local)
    tapped.tcp(EGRESS, p.SYN, 1000, local=5000)
    tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, local=5000)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=5000) is Reason.CONNECTIONS_FULL
    assert tapped.tcp(EGRESS, p.SYN, 1000, local=5001) is Reason.CONNECTIONS_FULL, "from now on at the first packet"
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=4000) is Reason.ESTABLISHED
    assert tapped.counts() == (5, 0)


def test_a_lower_quota_cuts_no_connection_and_takes_hold_as_they_end(tapped: Tapped) -> None:
    program = rules(tapped.host)  # type: ignore[arg-type]
    for local in range(8):
        tapped.shake_hands(4000 + local)
    tapped.host.admit(tapped.ifindex, ONE, program, connections=5)
    assert tapped.host.shield.taps()[tapped.ifindex].connections == 5
    assert tapped.counts() == (8, 0)
    for local in range(8):
        assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=4000 + local) is Reason.ESTABLISHED
    tapped.tcp(EGRESS, p.SYN, 1000, local=5000)
    tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, local=5000)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=5000) is Reason.CONNECTIONS_FULL
    for local in range(4):
        assert tapped.tcp(INGRESS, p.RST, 5001, local=4000 + local) is Reason.ESTABLISHED
        _expire(tapped, 4000 + local)
    tapped.host.shield.prune()
    assert (tapped.counts(), _room(tapped)) == ((4, 0), 5)
    tapped.host.admit(tapped.ifindex, ONE, program, connections=65536)
    assert (tapped.counts(), _room(tapped)) == ((4, 0), 65536)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=4007) is Reason.ESTABLISHED


def _connections(tapped: Tapped) -> Table:
    slot = layout.U32.unpack(tapped.host.kernel["tap_index"].get(layout.U32.pack(tapped.ifindex)) or b"")[0] >> 1
    number = tapped.host.kernel["established"].get(layout.U32.pack(slot)) or b""
    return Table(libbpf.check(libbpf.map_fd_by_id(layout.U32.unpack(number)[0]), "open"))


def _room(tapped: Tapped) -> int:
    with closing(_connections(tapped)) as table:
        return table.max_entries


def _expire(tapped: Tapped, local: int) -> None:
    with closing(_connections(tapped)) as table:
        for key, value in table.items().items():
            if layout.CONNECTION_KEY.unpack(key)[3] == local:
                table.put(key, layout.U64.pack(1) + value[layout.U64.size :])


def _row(number: int, word: bytes) -> tuple[bytes, bytes]:
    key = layout.CONNECTION_KEY.pack(bytes(16), bytes(16), number, 0, 6, 0)
    return key, word.ljust(layout.CONNECTION.size, b"\0")


@pytest.mark.parametrize("quota", [3, 10, 100])
def test_what_packets_change_while_a_table_is_swapped_comes_along(quota: int) -> None:
    """``swap`` stands for the moment at which the kernel looks at the new table: before it packets change the old one."""
    tables: list[Table] = []

    def swap(new: Table) -> None:
        if not tables:  # between the copy and the swap
            old.delete(_row(0, b"")[0])
            old.put(*_row(1, b"moved on"))
            for fresh in range(10, 14):
                old.put(*_row(fresh, b"promoted"))
        tables.append(Table(os.dup(new.fd)))
        if len(tables) == 1:  # and right after it
            new.put(*_row(2, b"newer"))

    old = make_room(50)
    old.put_all(dict(_row(number, b"begun") for number in range(6)))
    try:
        resize(old, quota, swap)
        wanted = dict([_row(1, b"moved on"), _row(2, b"newer"), *(_row(each, b"begun") for each in range(3, 6)),
                       *(_row(each, b"promoted") for each in range(10, 14))])  # fmt: skip
        assert tables[-1].items() == wanted
        assert tables[-1].max_entries == max(quota, len(wanted))
    finally:
        for table in (old, *tables):
            table.close()


def test_revocation_bites_on_the_next_packet(tapped: Tapped) -> None:
    tapped.shake_hands()
    tapped.host.admit(tapped.ifindex, ONE, tapped.host.put_program(*both_ways(WEB)))
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.POLICY
    assert tapped.counts() == (0, 0)


def test_an_unchanged_policy_lets_connections_live(tapped: Tapped) -> None:
    tapped.shake_hands()
    program = tapped.host.put_program(allow(APP, EGRESS, 6, 80, 32, rule=77))
    tapped.host.admit(tapped.ifindex, ONE, program)
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.ESTABLISHED
    assert any(pair.rule == 77 and pair.allowed for pair in tapped.host.telemetry.pairs())


def test_a_relabelled_peer_is_judged_anew(tapped: Tapped) -> None:
    tapped.shake_hands()
    tapped.host.book.put_addresses({AddressKey(ZONE, f"{TWO.ipv4}/32"): Address(WEB, TWO.number)})
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.ESTABLISHED, "not before rejudge"
    tapped.host.shield.rejudge()
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.POLICY


def test_icmp_errors_speak_only_of_living_connections_from_where_they_can_come(tapped: Tapped) -> None:
    tapped.judge(EGRESS, p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(4000, 53)))
    inner = p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(4000, 53))[:28]

    def error(source: tuple[str, str], quoted: bytes) -> Reason:
        return tapped.judge(INGRESS, p.ip_frame(source, ONE.v4, 1, p.icmp(3, 3, data=quoted)))

    assert error(TWO.v4, inner) is Reason.RELATED
    assert error(THIRD.v4, inner) is Reason.ICMP_ERROR, "another VM of the pool"
    assert error((TWO.mac, "192.0.2.1"), inner) is Reason.RELATED, "a router of the world"
    assert error(TWO.v4, p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(4001, 53))[:28]) is Reason.ICMP_ERROR
    assert error(TWO.v4, p.ipv4(THIRD.ipv4, TWO.ipv4, 17, p.udp(4000, 53))[:28]) is Reason.ICMP_ERROR


def test_an_icmp_error_about_tcp_quotes_what_is_under_way(tapped: Tapped) -> None:
    tapped.shake_hands()

    def error(sequence: int) -> Reason:
        inner = p.ipv4(ONE.ipv4, TWO.ipv4, 6, p.tcp(4000, 80, p.ACK, sequence=sequence))[:28]
        return tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.icmp(3, 4, struct.pack(">HH", 0, 1400), inner)))

    assert error(1001) is Reason.RELATED
    assert error(0x70000000) is Reason.ICMP_ERROR


def test_echo_and_its_reply(tapped: Tapped) -> None:
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(3, reply=True))) is Reason.NO_CONNECTION
    assert tapped.judge(EGRESS, p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(3))) is Reason.NEW
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(3, reply=True))) is Reason.ESTABLISHED
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(4, reply=True))) is Reason.NO_CONNECTION


def test_an_allowed_ping_opens_no_ping_the_other_way(tapped: Tapped) -> None:
    """The same two ends and the same id: who asks is part of the connection."""
    assert tapped.judge(EGRESS, p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(3))) is Reason.NEW
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(3))) is Reason.POLICY
    assert tapped.judge(EGRESS, p.ip_frame(ONE.v4, TWO.v4, 1, p.echo(3, reply=True))) is Reason.NO_CONNECTION
    assert tapped.judge(INGRESS, p.ip_frame(TWO.v4, ONE.v4, 1, p.echo(3, reply=True))) is Reason.ESTABLISHED
    for kind, reason in ((128, Reason.NEW), (129, Reason.NO_CONNECTION)):
        ask = p.icmpv6(ONE.v6[1], TWO.v6[1], kind, 0, b"\0\x03\0\x01")
        assert tapped.judge(EGRESS, p.ip_frame(ONE.v6, TWO.v6, 58, ask)) is reason
    for kind, reason in ((128, Reason.POLICY), (129, Reason.ESTABLISHED)):
        ask = p.icmpv6(TWO.v6[1], ONE.v6[1], kind, 0, b"\0\x03\0\x01")
        assert tapped.judge(INGRESS, p.ip_frame(TWO.v6, ONE.v6, 58, ask)) is reason


def test_observe_lets_policy_denials_pass_and_still_drops_spoofs(tapped: Tapped) -> None:
    tapped.host.admit(tapped.ifindex, ONE, rules(tapped.host), mode=ShieldMode.OBSERVE)  # type: ignore[arg-type]
    assert tapped.tcp(EGRESS, p.SYN, 1, port=81) is Reason.OBSERVED
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5, 2, port=81) is Reason.ESTABLISHED
    assert tapped.judge(EGRESS, p.ip_frame(THIRD.v4, TWO.v4, 17, p.udp(1, 2))) is Reason.SPOOFED_MAC
    tapped.host.admit(tapped.ifindex, ONE, rules(tapped.host))  # type: ignore[arg-type]
    assert tapped.tcp(EGRESS, p.ACK, 2, 6, port=81) is Reason.POLICY, "enforced: what was only observed is cut"


def test_dhcp_and_routers_only_from_declared_addresses(tapped: Tapped) -> None:
    discover = p.ip_frame(
        (ONE.mac, "0.0.0.0"), (p.BROADCAST, "255.255.255.255"), 17, p.udp(68, 67, p.dhcp_request(ONE.mac))
    )
    offer = p.ip_frame((TWO.mac, "10.9.0.254"), ONE.v4, 17, p.udp(67, 68))
    advertisement = p.nd((TWO.mac, "fe80::1"), ("33:33:00:00:00:01", "ff02::1"), 134)
    assert tapped.judge(EGRESS, discover) is Reason.DHCP
    assert tapped.judge(INGRESS, offer) is Reason.ROGUE_DHCP
    assert tapped.judge(INGRESS, advertisement) is Reason.ROGUE_ROUTER
    tapped.host.book.put_addresses({
        AddressKey(ZONE, "10.9.0.254/32"): Address(APP, TWO.number, AddressFlag.DHCP_SERVER),
        AddressKey(ZONE, "fe80::1/128"): Address(APP, TWO.number, AddressFlag.ROUTER),
    })  # fmt: skip
    assert tapped.judge(INGRESS, offer) is Reason.DHCP
    assert tapped.judge(INGRESS, advertisement) is Reason.ND


def test_pairs_and_events_name_both_ends(tapped: Tapped) -> None:
    tapped.tcp(EGRESS, p.SYN, 1)
    tapped.tcp(EGRESS, p.SYN, 1, port=81)
    new, refused = tapped.host.telemetry.events(10)
    assert (new.vm, new.peer_vm, new.peer_identity, new.rule, new.allowed) == (1, 2, APP, 7, True)
    assert (refused.vm, refused.peer_vm, refused.rule, refused.allowed) == (1, 2, 0, False)
    assert (refused.reason, refused.destination_port) == (Reason.POLICY, 81)
    assert {(pair.rule, pair.allowed, pair.packets) for pair in tapped.host.telemetry.pairs()} == {
        (7, True, 1),
        (0, False, 1),
    }
    assert tapped.host.telemetry.events(10) == []


def test_pruning_frees_what_has_expired(tapped: Tapped) -> None:
    tapped.shake_hands()
    assert tapped.host.shield.prune() == 0
    table = tapped.host.shield._inner("established", 0)
    assert table is not None
    for key, value in table.items().items():
        table.put(key, struct.pack("<Q", 1) + value[8:])
    table.close()
    assert tapped.host.shield.prune() == 1
    assert tapped.counts() == (0, 0)
