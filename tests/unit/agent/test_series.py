"""Totals go on through restarts of domains, taps and agents, and through any moves: never back, nothing twice."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.agent.handover.performance import PerformanceSection
from buckler.agent.handover.section import BadSection, Content
from buckler.agent.names import Names
from buckler.agent.sampling import Sampling
from buckler.agent.series import packets_of, read_domain, read_taps
from buckler.controller.series import make_series
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.model.bundle import Endpoint
from buckler.model.ids import Digest, HostId, IdentityNumber, VmId, VmNumber, Zone
from buckler.model.sample import MOST, Sample, Totals
from buckler.model.shield import Tap
from buckler.ports.hypervisor import HypervisorFailed
from buckler.ports.journal import StoredSample, VmSamples
from buckler.ports.performance import Reading
from buckler.ports.state import Share
from buckler.ports.telemetry import ReasonCount

VM, UUID = VmId("v"), "u"
NAMES = Names(
    by_uuid={},
    by_number={7: Endpoint(VM, VmNumber(7), "web", "t", UUID, "m", (), IdentityNumber(9), Digest("d"))},
    rules={},
)


def reading(run: str = "1", cpu: int | None = 0, read: int | None = 0) -> Reading:
    return Reading(UUID, run, cpu, 1000, read, read, 0, 0)


def test_a_new_run_begins_at_zero_and_a_busy_domain_changes_nothing():
    share = Share(VM)
    for told in (
        reading(cpu=10, read=5),
        reading(cpu=15, read=None),
        reading(cpu=None, read=None),
        reading(cpu=20, read=9),
    ):
        share = read_domain(share, told)
    assert (share.totals.cpu_ns, share.totals.read_bytes) == (20, 9)
    share = read_domain(share, reading("2", cpu=25, read=30))
    assert (share.totals.cpu_ns, share.totals.read_bytes) == (45, 39)


def test_a_disk_that_is_taken_out_takes_no_count_away_and_adds_none():
    share = Share(VM)
    for cpu, read in ((1, 100), (2, 60), (3, 70)):
        share = read_domain(share, reading(cpu=cpu, read=read))
    assert share.totals.read_bytes == 110


def test_less_cpu_time_within_a_run_is_another_run_under_an_old_name():
    share = read_domain(read_domain(Share(VM), reading(cpu=50)), reading(cpu=8))
    assert share.totals.cpu_ns == 58


def test_a_tap_whose_programs_were_loaded_anew_counts_from_zero():
    share = Share(VM)
    for packets in (5, 9, 2, 4):
        share = read_taps(share, {3: Totals(sent_packets=packets, sent_bytes=packets * 100)})
    assert (share.totals.sent_packets, share.totals.sent_bytes) == (13, 1300)


def test_what_passed_is_told_apart_from_what_did_not():
    counts = {(0, 1): (5, 500), (0, 2): (1, 60), (0, 32): (3, 180), (1, 5): (2, 84), (1, 56): (4, 400), (1, 0): (1, 1)}
    told = packets_of({key: ReasonCount(*count) for key, count in counts.items()})
    assert told == Totals(sent_packets=6, sent_bytes=560, received_packets=2, received_bytes=84, refused_packets=8)


class Host:
    """A host's kernel, libvirt and disk, which outlive its agent."""

    def __init__(self, name: str) -> None:
        self.name = HostId(name)
        self.state, self.telemetry = InMemoryState(), InMemoryTelemetry()
        self.cpu, self.run, self.tap, self.is_away = 0, 0, 0, False
        self.begin()

    def begin(self) -> None:
        self.sampling = Sampling(
            self,
            self.telemetry,
            self.state,
            lambda: NAMES,
            lambda: {UUID: VM} if self.tap else {},
            lambda: None,
            1.0,
            10_000,
        )
        self.sampling.settle(frozenset(self.telemetry.judged), {self.tap: self.put()} if self.tap else {})
        self.section = PerformanceSection(self.sampling)

    def readings(self) -> list[Reading]:
        if self.is_away:
            raise HypervisorFailed
        return [reading(f"{self.name}/{self.run}", self.cpu, 0)] if self.tap else []

    def put(self) -> Tap:
        return Tap(self.tap, VmNumber(7), "m", Zone(1), 0, IdentityNumber(9), (), Digest("d"))

    def arrive(self, tap: int) -> None:
        self.tap, self.run, self.cpu = tap, self.run + 1, 0
        self.telemetry.judged[tap] = {(0, 1): ReasonCount(0, 0)}
        self.sampling.expect(self.put())

    def use(self, cpu: int, packets: int) -> None:
        self.cpu += cpu
        before = self.telemetry.judged[self.tap][0, 1]
        self.telemetry.judged[self.tap][0, 1] = ReasonCount(before.packets + packets, before.bytes + packets * 10)

    def leave(self, late: int = 0) -> None:
        """As at a move: measured at the stop; the tap counts ``late`` packets more before its counts are freed."""
        self.sampling.read()
        self.use(0, late)
        self.sampling.close(self.tap)
        del self.telemetry.judged[self.tap]
        self.tap = 0

    def told(self) -> list[StoredSample]:
        return [StoredSample(self.name, sample) for sample in self.state.samples(10_000)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(0, 50), st.integers(0, 50)),
        st.tuples(st.sampled_from(["move", "move-unheard", "read", "agent", "reboot", "stray", "libvirt"]), st.just(0), st.just(0)),
    ),
    max_size=30,
)  # fmt: skip


@given(STEPS)
def test_in_any_order_of_use_moves_and_restarts_packets_are_exact_and_nothing_goes_back(steps):
    hosts, tap = [Host("a"), Host("b")], 100
    hosts[0].arrive(tap)
    sent, cpu, is_whole = 0, 0, True
    known = [Totals()]
    for what, time, packets in steps:
        here, there = hosts
        match what:
            case "use":
                here.use(time, packets)
                sent, cpu = sent + packets, cpu + time
            case "read":
                here.sampling.read()
            case "libvirt":
                here.is_away = not here.is_away
                here.sampling.read()
            case "agent":
                here.sampling.read()
                here.begin()
            case "reboot" if not here.is_away:
                here.leave(late=2)
                sent, tap = sent + 2, tap + 1
                here.arrive(tap)
            case "stray":  # a handover that came to nothing
                there.section.take(VM, Content(1, here.section.give(VM)))
                there.section.drop(VM)
            case "move" | "move-unheard" if not here.is_away:
                tap += 1
                if what == "move":
                    there.section.take(VM, Content(1, here.section.give(VM)))
                there.arrive(tap)
                here.leave(late=3)
                sent += 3
                if what == "move":
                    there.section.take(VM, Content(1, here.section.give(VM)))
                    there.section.keep(VM)
                    assert there.sampling.total(VM).sent_packets >= known[-1].sent_packets
                is_whole &= what == "move"
                hosts.reverse()
        total = hosts[0].sampling.total(VM)
        if is_whole:
            assert total.sent_packets == sent
            assert total.cpu_ns >= known[-1].cpu_ns
        known.append(total)
    for host in hosts:
        host.is_away = False
        host.sampling.read()
    if is_whole:
        assert hosts[0].sampling.total(VM).cpu_ns == cpu
    series = make_series(VmSamples((), tuple(one for host in hosts for one in host.told())), {})
    assert (series[-1].sent_packets, series[-1].sent_bytes) == (sent, sent * 10)
    assert series[-1].cpu_seconds == pytest.approx(cpu / 1e9)
    assert all(one.sent_packets <= two.sent_packets and one.cpu_seconds <= two.cpu_seconds
               for one, two in itertools.pairwise(series))  # fmt: skip


SHARES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.integers(0, 50)), max_size=20)


@given(SHARES)
def test_a_series_never_goes_back_whatever_hosts_tell(told):
    rows = tuple(
        StoredSample(HostId(host), Sample(VM, float(at), 1, Totals(cpu_ns=figure), number))
        for number, (host, at, figure) in enumerate(told)
    )
    series = [item.cpu_seconds for item in make_series(VmSamples((), rows), {})]
    assert series == sorted(series)
    highest = {host: max(figure for name, _, figure in told if name == host) for host, _, _ in told}
    assert not series or series[-1] == pytest.approx(sum(highest.values()) / 1e9)


def test_a_vm_that_comes_back_does_not_count_what_it_left_here():
    first, second = Host("a"), Host("b")
    first.arrive(1)
    first.use(10, 100)
    first.leave()
    second.section.take(VM, Content(1, first.section.give(VM)))
    second.arrive(2)
    second.section.keep(VM)
    second.use(10, 20)
    second.leave()
    first.section.take(VM, Content(1, second.section.give(VM)))
    first.arrive(3)
    first.section.keep(VM)
    assert first.sampling.total(VM).sent_packets == 120
    first.begin()  # and an agent that is killed knows it still
    first.use(1, 1)
    assert first.sampling.total(VM).sent_packets == 121


def body(**changes: object) -> bytes:
    fields: dict[str, object] = {"vm": VM, "totals": Totals(sent_packets=5), **changes}
    return msgspec.json.encode(fields)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (Content(2, body()), "version 2"),
        (Content(1, b"\xff\xfe"), "cannot be read"),
        (Content(1, b"[]"), "cannot be read"),
        (Content(1, body()[:-1]), "cannot be read"),
        (Content(1, body(vm="other")), "another VM"),
        (Content(1, body(more=1)), "cannot be read"),
        (Content(1, body(totals=[-1])), "cannot be so"),
        (Content(1, body(totals=[MOST + 1])), "cannot be so"),
        (Content(1, body(totals=["1"])), "cannot be read"),
        (Content(1, b" " * 5000), "too large"),
        (Content(1, b"[" * 4000), "cannot be read"),
    ],
)
def test_what_no_honest_host_gives_is_refused_and_changes_nothing(content, why):
    host = Host("a")
    with pytest.raises(BadSection, match=why):
        host.section.take(VM, content)
    host.section.keep(VM)
    assert host.sampling.total(VM) == Totals()


def test_a_source_that_goes_back_within_a_handover_is_refused():
    host = Host("a")
    host.section.take(VM, Content(1, body()))
    with pytest.raises(BadSection, match="went back"):
        host.section.take(VM, Content(1, body(totals=Totals(sent_packets=4))))
    host.section.keep(VM)
    assert host.sampling.total(VM).sent_packets == 5


def test_a_source_that_knows_less_than_this_host_takes_nothing_away():
    host = Host("a")
    host.arrive(1)
    host.use(0, 50)
    host.leave()
    host.section.take(VM, Content(1, body()))
    host.section.keep(VM)
    assert host.sampling.total(VM).sent_packets == 50


def test_samples_beyond_the_bound_are_shed_and_their_numbers_tell():
    host = Host("a")
    host.sampling._most = 3
    host.arrive(1)
    for _ in range(10):
        host.sampling.read()
    assert [one.sample.sequence for one in host.told()] == [8, 9, 10]
