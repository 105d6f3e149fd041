"""DNS of a real resolver through a real shield: what is told of it, to whom, and what it opens."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.message
import pytest

from buckler.agent.lookups import Lookups
from buckler.agent.names import Meant, Names
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.agentapi import NameClaim
from buckler.model.bundle import Endpoint
from buckler.model.ids import IDENTITY_WORLD, Digest, IdentityNumber, VmId
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Entry
from buckler.model.shield import Address, AddressFlag, AddressKey, BridgePort, GuardState, PortRole
from buckler.ports.claims import ClaimSource
from tests import packets as p
from tests.component.ground import APP, WEB, ZONE, Host, Vm, Wire, allow, open_tap, open_veth, run

ONE, TWO = Vm(1, WEB), Vm(2, APP)
RESOLVER, STRANGER, FAR = "10.9.0.53", "10.9.0.54", "02:00:00:00:00:53"
LEARNED = IdentityNumber(0x30000001)
RECORDS = (
    "--host-record=www.example.org,203.0.113.7,2001:db8::7,60",
    "--cname=alias.example.org,www.example.org,30",
    "--host-record=inside.example.org,10.9.0.2",
    "--host-record=www.example.com,203.0.113.9",
)


@dataclass(frozen=True)
class Ground:
    host: Host
    one: Wire
    two: Wire
    far: str
    """The MAC of what answers at both addresses."""

    def ask(
        self, name: str, kind: str = "A", *, port: int = 4000, identifier: int = 7, to: str = RESOLVER
    ) -> list[bytes]:
        query = dns.message.make_query(name, kind, id=identifier).to_wire()
        self.one.send(p.ip_frame(ONE.v4, (self.far, to), 17, p.udp(port, 53, query)))
        return self.hear()

    def hear(self) -> list[bytes]:
        """The payloads that reach the VM within a while."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            frames = [each for each in self.one.receive(seconds=0.2) if each[12:14] == b"\x08\x00" and each[23] == 17]
            if frames:
                return [each[42:] for each in frames]
        return []

    def match(self, lookups: Lookups) -> list[NameClaim]:
        tap = self.host.shield.taps()[self.one.ifindex]
        endpoint = Endpoint(VmId("vm-1"), ONE.number, "one", "t", "u", ONE.mac, (), WEB, Digest("d"))
        meant = {ZONE: Meant(("*.example.org",), frozenset({RESOLVER}))}
        names = Names(by_uuid={}, by_number={ONE.number: endpoint}, rules={})
        return lookups.match(self.host.claims.claims(1000), {self.one.ifindex: tap}, names, meant, 0.0)


@pytest.fixture
def ground(host: Host, tmp_path: Path) -> Iterator[Ground]:
    one, two = open_tap("tap1"), open_tap("tap2")
    run(f"ip link add res0 type veth peer name res0-far address {FAR}; ip link set res0 master br0")
    for end in ("res0", "res0-far"):
        run(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1; ip link set {end} up")
    run(f"ip addr add {RESOLVER}/24 dev res0-far; ip addr add {STRANGER}/24 dev res0-far")
    run(f"ip neigh add {ONE.ipv4} lladdr {ONE.mac} dev res0-far")
    program = host.put_program(allow(IDENTITY_WORLD, Direction.EGRESS, 17, 53, 32))
    host.admit(one.ifindex, ONE, program)
    host.admit(two.ifindex, TWO, host.put_program())
    host.book.put_addresses({AddressKey(ZONE, f"{RESOLVER}/32"): Address(IDENTITY_WORLD, flags=AddressFlag.RESOLVER)})
    resolver = open_resolver(tmp_path)
    res0 = socket.if_nametoindex("res0")
    host.ports.put_bridge_port(BridgePort(res0, PortRole.OUTSIDE, ZONE))
    ports = frozenset((each, "br0") for each in (one.ifindex, two.ifindex, res0))
    host.guard.apply(GuardState(frozenset({"br0"}), ports))
    yield Ground(host, one, two, FAR)
    resolver.terminate()
    resolver.wait()
    for wire in (one, two):
        wire.close()


def open_resolver(folder: Path) -> subprocess.Popen[bytes]:
    where = ("--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces", "--user=root",
             f"--listen-address={RESOLVER},{STRANGER}", "--pid-file")  # fmt: skip
    with (folder / "resolver.log").open("wb") as log:
        resolver = subprocess.Popen(["dnsmasq", *where, *RECORDS], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while b"started" not in (folder / "resolver.log").read_bytes():
        assert resolver.poll() is None, (folder / "resolver.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return resolver


def test_a_question_and_its_answer_are_told_as_they_passed(ground: Ground) -> None:
    (answer,) = ground.ask("www.example.org")
    query, told = ground.host.claims.claims(10)
    assert (query.source, told.source) == (ClaimSource.DNS_QUERY, ClaimSource.DNS_ANSWER)
    for each in (query, told):
        assert (each.vm, each.ifindex, each.port) == (ONE.number, ground.one.ifindex, 4000)
        assert (each.address[12:], each.server[12:]) == (p.address(ONE.ipv4), p.address(RESOLVER))
    assert query.message == dns.message.make_query("www.example.org", "A", id=7).to_wire()
    assert told.message == answer
    assert query.at <= told.at


@pytest.mark.parametrize(("name", "kind", "wanted"), [
    ("www.example.org", "A", {"203.0.113.7"}), ("www.example.org", "AAAA", {"2001:db8::7"}), ("alias.example.org", "A", {"203.0.113.7"}),
    ("none.example.org", "A", set()), ("www.example.com", "A", set()), ("inside.example.org", "A", {"10.9.0.2"}),
    ("WwW.eXaMpLe.OrG", "A", {"203.0.113.7"}),
])  # fmt: skip
def test_what_is_read_of_a_real_resolvers_answers(ground: Ground, name: str, kind: str, wanted: set[str]) -> None:
    assert ground.ask(name, kind)
    claims = ground.match(Lookups())
    assert {each.address for each in claims} == wanted, "whether it may open anything, the controller says"
    assert all(each.name == name.lower() and each.resolver == RESOLVER for each in claims)


def test_a_resolver_that_nobody_declared_teaches_nothing(ground: Ground) -> None:
    assert ground.ask("www.example.org", to=STRANGER)
    assert ground.host.claims.claims(10) == []


def test_what_is_refused_is_not_told(ground: Ground) -> None:
    ground.host.admit(ground.one.ifindex, ONE, ground.host.put_program())
    assert ground.ask("www.example.org") == []
    assert ground.host.claims.claims(10) == []
    assert ground.host.reasons(ground.one.ifindex)[Direction.EGRESS, Reason.POLICY] == 1


@pytest.mark.parametrize("entries", [(), (allow(IDENTITY_WORLD, Direction.EGRESS, 17, 53, 32),)])
def test_of_a_vm_that_is_only_observed_what_its_policy_allows_teaches_and_nothing_else(
    ground: Ground, entries: tuple[Entry, ...]
) -> None:
    """Names are a network's: what one VM may not do must open nothing to the others."""
    ground.host.admit(ground.one.ifindex, ONE, ground.host.put_program(*entries), mode=ShieldMode.OBSERVE)
    for identifier in range(7, 11):  # the second on is part of a connection that has been answered
        assert ground.ask("www.example.org", identifier=identifier)
    told = ground.host.claims.claims(100)
    assert len(told) == (8 if entries else 0)
    assert bool(ground.host.reasons(ground.one.ifindex).get((Direction.EGRESS, Reason.OBSERVED))) is not bool(entries)


def test_no_neighbour_can_answer_for_the_resolver(ground: Ground) -> None:
    """Neither from its tap, nor by its own question: the shield lets no foreign source pass."""
    made = dns.message.make_response(dns.message.make_query("www.example.org", "A", id=7))
    forged = p.ip_frame((TWO.mac, RESOLVER), ONE.v4, 17, p.udp(53, 4000, made.to_wire()))
    ground.two.send(forged)
    ground.one.send(p.ip_frame((ONE.mac, RESOLVER), ONE.v4, 17, p.udp(53, 4000, made.to_wire())))
    assert ground.one.receive(seconds=0.3) == []
    assert ground.host.claims.claims(10) == []


def test_an_answer_that_nobody_asked_for_does_not_even_arrive(ground: Ground) -> None:
    outside = open_veth("out0")
    ground.host.ports.put_bridge_port(BridgePort(outside.ifindex, PortRole.OUTSIDE, ZONE))
    made = dns.message.make_response(dns.message.make_query("www.example.org", "A", id=7)).to_wire()
    outside.send(p.ip_frame((ground.far, RESOLVER), ONE.v4, 17, p.udp(53, 4001, made)))
    assert ground.one.receive(seconds=0.3) == []
    assert ground.host.claims.claims(10) == []
    outside.close()


def test_a_flood_of_questions_is_bounded_and_counted_and_takes_no_lease_away(ground: Ground) -> None:
    query = dns.message.make_query("www.example.org", "A", id=7).to_wire()
    for port in range(5000, 5400):
        ground.one.send(p.ip_frame(ONE.v4, (ground.far, RESOLVER), 17, p.udp(port, 53, query)))
    ground.one.send(
        p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, (ONE.mac, "0.0.0.0"), ("00:00:00:00:00:00", "10.9.0.50")))
    )
    ground.one.receive(seconds=0.5)
    seen = ground.host.claims.claims(5000)
    assert ClaimSource.DETECTED in {each.source for each in seen}
    told = [each for each in seen if each.source != ClaimSource.DETECTED]
    shed = ground.host.claims.shed()
    assert 0 < len(told) <= 50 * (2 + (seen[-1].at - seen[0].at) // 10**9)
    assert (shed.suppressed > 0, shed.lost) == (True, 0)


def test_a_long_message_is_not_told_by_half(ground: Ground) -> None:
    query = dns.message.make_query("www.example.org", "A", id=7).to_wire()
    ground.one.send(p.ip_frame(ONE.v4, (ground.far, RESOLVER), 17, p.udp(4000, 53, query.ljust(1025, b"\0"))))
    ground.one.send(p.ip_frame(ONE.v4, (ground.far, RESOLVER), 17, p.udp(4001, 53, query.ljust(1024, b"\0"))))
    ground.one.receive(seconds=0.3)
    asked = [each for each in ground.host.claims.claims(10) if each.source == ClaimSource.DNS_QUERY]
    assert [len(each.message) for each in asked] == [1024]
    assert ground.host.claims.shed().suppressed == 1


def test_fragments_are_not_told(ground: Ground) -> None:
    query = dns.message.make_query("www.example.org", "A", id=7).to_wire()
    datagram = p.udp(4000, 53, query.ljust(64, b"\0"))
    for offset, more in ((0, True), (32, False)):
        part = datagram[offset : offset + 32] if more else datagram[offset:]
        packet = p.ipv4(ONE.ipv4, RESOLVER, 17, part, fragment=offset, more=more)
        ground.one.send(p.ether(ONE.mac, ground.far, 0x0800, packet))
    ground.one.receive(seconds=0.3)
    seen = ground.host.claims.claims(10)
    assert ClaimSource.DNS_QUERY not in {each.source for each in seen}, "and so an answer is to no question"


def test_an_answer_opens_its_address_and_its_end_closes_it(ground: Ground) -> None:
    """As the engine does it: the address becomes a class that the VM's program names, and is the world again afterwards."""
    shake = p.ip_frame(ONE.v4, (ground.far, "203.0.113.7"), 6, p.tcp(4000, 443, p.SYN))

    def reasons(reason: Reason) -> int:
        return ground.host.reasons(ground.one.ifindex).get((Direction.EGRESS, reason), 0)

    ground.one.send(shake)
    ground.one.receive(seconds=0.1)
    assert reasons(Reason.POLICY) == 1
    ground.ask("alias.example.org")
    (claim,) = ground.match(Lookups())
    opened = ground.host.put_program(
        allow(IDENTITY_WORLD, Direction.EGRESS, 17, 53, 32), allow(LEARNED, Direction.EGRESS, 6, 443, 32, rule=2)
    )
    key = AddressKey(ZONE, f"{claim.address}/32")
    ground.host.book.put_addresses({key: Address(LEARNED)})
    ground.host.admit(ground.one.ifindex, ONE, opened)
    ground.host.shield.rejudge()
    before = reasons(Reason.NEW)
    ground.one.send(shake)
    ground.one.receive(seconds=0.1)
    assert reasons(Reason.NEW) == before + 1
    ground.host.book.delete_addresses(frozenset({key}))
    ground.host.shield.rejudge()
    ground.one.send(shake)
    ground.one.receive(seconds=0.1)
    assert reasons(Reason.POLICY) == 2
