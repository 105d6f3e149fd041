"""Random policies and random packets: the reference evaluator against the real program in the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from buckler.agent.book import endpoint_addresses, resolve_addresses, resolve_macs
from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.bundle import Endpoint
from buckler.model.program import Direction, Verdict
from buckler.model.shield import Tap
from buckler.policy.bundle import Bundle, build_bundle, build_members
from buckler.policy.judgement import End, EndJudgement
from buckler.policy.language import Document
from buckler.policy.pool import Pool, Station, singled_out, stations
from buckler.policy.reference import find_end, judge_end
from tests.component.ground import Host, open_tap
from tests.packets import echo, icmp, icmpv6, ip_frame, tcp, udp
from tests.policyworld import Store, host
from tests.randompolicy import ENDPOINTS, GATEWAYS, HOSTS, OUTSIDE, PORT_NUMBERS, Seeded, pick, unrated, world

PACKETS = 100_000
PER_WORLD = 2_000
STRANGER = "52:54:00:ff:ff:01"
GROUPS = {"224.0.0.251": "01:00:5e:00:00:fb", "ff05::fb": "33:33:00:00:00:fb", "10.9.0.255": "ff:ff:ff:ff:ff:ff"}
POOL_HOST = host("hv1", *HOSTS)
HOOKS = {Direction.EGRESS: "tap_from_vm", Direction.INGRESS: "tap_to_vm"}


class World:
    """One random pool, in the kernel and for the reference."""

    def __init__(self, kernel: Host, taps: Sequence[int], seed: int) -> None:
        self.seed, self.choose, self.host = seed, Seeded(seed), kernel
        self.documents: tuple[Document, ...] = unrated(world(self.choose))  # a rate is held to by itself elsewhere
        store = Store()
        self.pool: Pool = store.pool(self.documents, hosts=(POOL_HOST,))
        bundle = build_bundle(self.pool, self.documents, store.allocate(self.pool, self.documents))
        found = stations(self.pool, singled_out(self.documents))
        self.taps = dict(zip((each.vm.id for each in found), taps, strict=False))
        self.addresses = {address: each for each in found for address in each.addresses[:2]}
        self.stations: tuple[Station, ...] = found
        self._ends: dict[str, End] = {}
        self._seen: set[tuple[str, str]] = set()
        self._load(bundle)

    def _load(self, bundle: Bundle) -> None:
        book, shield = self.host.book, self.host.shield
        shield.keep_time(is_believed=True)
        for ifindex in list(shield.taps()):
            shield.delete_tap(ifindex)
        book.delete_addresses(frozenset(book.addresses()))
        book.put_addresses(resolve_addresses(bundle.segments, build_members(self.pool.hosts), ()))
        book.put_macs(resolve_macs(bundle.segments))
        for digest, program in bundle.programs.items():
            shield.put_program(digest, program)
        for segment in bundle.segments:
            for endpoint in segment.endpoints:
                shield.put_tap(self._tap(endpoint, segment.zone))
        for digest in shield.programs() - bundle.programs.keys():
            shield.delete_program(digest)

    def _tap(self, endpoint: Endpoint, zone: int) -> Tap:
        ifindex = self.taps[endpoint.vm]
        own = endpoint_addresses(endpoint)
        return Tap(ifindex, endpoint.number, endpoint.mac, zone, 0, endpoint.identity, own, endpoint.program)

    def end(self, address: str) -> End:
        if address not in self._ends:
            self._ends[address] = find_end(self.pool, self.documents, "net", address)
        return self._ends[address]

    def judge_one(self, count: Counter[str]) -> None:
        """Make one packet and judge it at every end that has a shield."""
        version = self.choose.number(0, 1)
        mine = [address for address in self.addresses if (":" in address) == bool(version)]
        others = [each for each in (*OUTSIDE, *GATEWAYS, *HOSTS, *GROUPS, *ENDPOINTS) if (":" in each) == bool(version)]
        one, other = pick(self.choose, mine), pick(self.choose, mine + others)
        to_other = other in GROUPS or self.choose.number(0, 1)
        source, destination = (one, other) if to_other else (other, one)
        if source == destination:
            return
        protocol, port, payload = self._transport(source, destination, version)
        if protocol == 47:
            pair = (min(source, destination), max(source, destination))
            if pair in self._seen:
                return
            self._seen.add(pair)
        count[f"IPv{6 if version else 4}"] += 1
        frame = ip_frame((self._mac(source), source), (self._mac(destination), destination), protocol, payload)
        self._judge_at(source, Direction.EGRESS, destination, frame, (protocol, port), count)
        self._judge_at(destination, Direction.INGRESS, source, frame, (protocol, port), count)

    def _judge_at(
        self, own: str, direction: Direction, other: str, frame: bytes, what: tuple[int, int], count: Counter[str]
    ) -> None:
        receivers = [self.addresses[own]] if own in self.addresses else []
        if own in GROUPS:
            receivers = [each for each in self.stations if each is not self.addresses[other]][:1]
            other = own
        for station in receivers:
            judged = judge_end(self.documents, station, direction, self.end(other), *what)
            outcome = run_hook(self.host.kernel, HOOKS[direction], frame, self.taps[station.vm.id])
            count["allowed" if judged.allowed else "denied"] += 1
            count[f"towards {self.end(other).kind}"] += 1
            assert outcome.passed == judged.allowed, (
                f"seed {self.seed}: {station.vm.name} {direction.name} {other} {what}: the reference says "
                f"{judged.allowed} by {judged.rule}, the kernel {outcome.passed}"
            )
            count["rejected"] += judged.verdict is Verdict.REJECT
            self._compare_told(judged, count)

    def _compare_told(self, judged: EndJudgement, count: Counter[str]) -> None:
        """What the kernel told of the packet, if it was a first one, and its budget had room: logged, and what is staged."""
        for event in self.host.telemetry.events(8):
            if event.reason not in (Reason.NEW, Reason.STATELESS, Reason.POLICY):
                continue
            staged = event.staged or judged.verdict  # it says nothing where no staged rule speaks
            told, expected = (event.logged, staged), (judged.log, judged.drafted.verdict)
            assert told == expected, f"seed {self.seed}: told {told}, the reference {expected}: {event}"
            count["told"] += 1
            count["logged"] += event.logged
            count["staged otherwise"] += staged != judged.verdict

    def _mac(self, address: str) -> str:
        if address in GROUPS:
            return GROUPS[address]
        return self.addresses[address].interface.mac if address in self.addresses else STRANGER

    def _transport(self, source: str, destination: str, version: int) -> tuple[int, int, bytes]:
        """A packet that begins something: no reply, no error, nothing that the shield judges by itself (ND, DHCP)."""
        protocol = pick(self.choose, (6, 6, 17, 132, 58 if version else 1, 47))
        number, fresh = pick(self.choose, PORT_NUMBERS), self.choose.number(20000, 60000)
        if protocol == 6:
            return 6, number, tcp(fresh, number, 2)
        if protocol == 17:
            return 17, number, udp(fresh, number)
        if protocol == 132:
            return 132, number, udp(fresh, number)[:4] + bytes(8) + b"\1\0\0\x14" + bytes(16)
        if protocol == 47:
            return 47, 0, bytes(16)
        return self._icmp(source, destination, version, fresh)

    def _icmp(self, source: str, destination: str, version: int, fresh: int) -> tuple[int, int, bytes]:
        rest = fresh.to_bytes(2, "big") + b"\0\1"
        if version:
            kind, code = pick(self.choose, ((128, 0), (139, 0), (139, 1)))
            return 58, kind << 8 | code, icmpv6(source, destination, kind, code, rest)
        kind, code = pick(self.choose, ((8, 0), (13, 0), (13, 1)))
        return 1, kind << 8 | code, echo(fresh) if kind == 8 else icmp(kind, code, rest)


def judge_many(world_: World, count: Counter[str]) -> None:
    for _ in range(PER_WORLD):
        world_.judge_one(count)


@pytest.mark.timeout(240)
def test_the_kernel_judges_as_the_reference_does(tcx_host: Host) -> None:
    wires = [open_tap(f"t{number}") for number in range(4)]
    count: Counter[str] = Counter()
    try:
        seed = 0
        while count["IPv4"] + count["IPv6"] < PACKETS:
            each = World(tcx_host, [wire.ifindex for wire in wires], seed)
            judge_many(each, count)
            seed += 1
    finally:
        for wire in wires:
            wire.close()
    ends = count["allowed"] + count["denied"]
    assert count["allowed"] > ends // 10
    assert count["denied"] > ends // 10
    assert count["told"] > ends // 4
    assert min(count["rejected"], count["logged"], count["staged otherwise"]) > ends // 1000, count
    assert min(count["IPv4"], count["IPv6"]) > PACKETS // 3
    assert all(count[f"towards {kind}"] for kind in ("vm", "world", "host", "group", "infra"))


def test_the_comparison_notices_a_kernel_that_judges_by_other_policies(tcx_host: Host) -> None:
    wires = [open_tap(f"t{number}") for number in range(4)]
    try:
        each = next(
            made
            for seed in range(50)
            if (made := World(tcx_host, [wire.ifindex for wire in wires], seed)).documents[-1].name == "wide-open"
        )
        each.documents = each.documents[:-1]
        with pytest.raises(AssertionError, match="the reference says"):
            judge_many(each, Counter())
    finally:
        for wire in wires:
            wire.close()
