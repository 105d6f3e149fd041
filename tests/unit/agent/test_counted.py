"""A VM's counters go on from host to host: nothing is lost, nothing twice, and no host may claim what cannot be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.agent.counted import ROWS, Inherited, fold_counters, total_counters
from buckler.agent.counting import Counting
from buckler.agent.handover.counters import CountersSection
from buckler.agent.handover.section import BadSection, Content
from buckler.agent.names import Names
from buckler.agent.outbox import Outbox
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.model.agentapi import Counter
from buckler.model.bundle import Endpoint
from buckler.model.ids import Digest, IdentityNumber, VmId, VmNumber
from buckler.model.program import Verdict
from buckler.ports.telemetry import PairCount, StagedCount

VM, NUMBER = VmId("v"), 7
ENDPOINT = Endpoint(VM, VmNumber(NUMBER), "web", "t", "u", "m", (), IdentityNumber(9), Digest("d"))
NAMES = Names(by_uuid={}, by_number={NUMBER: ENDPOINT}, rules={})


class Host:
    def __init__(self) -> None:
        self.state, self.telemetry, self.is_here = InMemoryState(), InMemoryTelemetry(), False
        self.told: dict[tuple[str, int], int] = {}
        self.begin()

    def begin(self) -> None:
        self.outbox = Outbox()
        here = lambda: frozenset({NUMBER}) if self.is_here else frozenset()  # noqa: E731
        self.counting = Counting(self.telemetry, self.state, lambda: NAMES, here, self.outbox, lambda job: job())
        self.outbox.put_counters([tally.counter for tally in self.state.tallies().values()])
        self.section = CountersSection(self.counting)

    def count(self, rule: int, packets: int) -> None:
        held = {pair.rule: pair.packets for pair in self.telemetry.counted}
        held[rule] = held.get(rule, 0) + packets
        self.telemetry.counted = [
            PairCount(NUMBER, 2, 0x2000_0002, rule, 0, allowed=True, packets=count, bytes=count * 100)
            for rule, count in held.items()
        ]
        self.telemetry.drafted = [StagedCount(Verdict.DENY, 7, each) for each in self.telemetry.counted]

    def send(self) -> None:
        batch = self.outbox.counters(1000)
        self.told |= {(one.key, one.epoch): max(self.told.get((one.key, one.epoch), 0), one.packets) for one in batch}
        self.outbox.counters_sent(batch)

    def total(self, verdict: str = "allow") -> dict[str, int]:
        return {one.key: one.packets for one in self.counting.totals(VM) if one.verdict == verdict}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(1, 3), st.integers(1, 50)),
        st.tuples(st.sampled_from(["move", "read", "send", "agent", "die"]), st.just(0), st.just(0)),
    ),
    max_size=30,
)


@given(STEPS)
def test_in_any_order_of_counting_moves_and_restarts_all_hosts_know_the_whole(steps):
    hosts, counted = [Host(), Host()], 0
    hosts[0].is_here = True
    for what, rule, packets in steps:
        here, there = hosts
        match what:
            case "count":
                here.count(rule, packets)
                counted += packets
            case "read":
                here.counting.read()
            case "send":
                here.counting.read()
                here.send()
            case "agent":
                here.counting.read()
                here.begin()
            case "die":
                here.begin()
            case "move":
                there.section.take(VM, Content(1, here.section.give(VM)))
                there.is_here = True
                there.section.take(VM, Content(1, here.section.give(VM)))
                here.is_here = False
                there.section.keep(VM)
                here.counting.read()
                hosts.reverse()
        assert sum(hosts[0].total().values()) == counted
        assert sum(hosts[0].total("staged-deny").values()) == counted, "what a draft says moves along"
    for host in hosts:
        host.counting.read()
        host.send()
    assert sum(sum(host.told.values()) for host in hosts) == 2 * counted


def counter(key: str = f"{NUMBER}/2/3/4/0/1", **changes: object) -> Counter:
    plain = Counter(key, 1, 5, 500, "web", "db", "egress", "allow")
    return msgspec.structs.replace(plain, **changes)


def body(*counters: Counter, vm: str = VM) -> bytes:
    return msgspec.json.encode({"vm": vm, "counters": counters})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (Content(2, body()), "version 2"),
        (Content(1, b"{"), "cannot be read"),
        (Content(1, b"\xff"), "cannot be read"),
        (Content(1, body(vm="other")), "another VM"),
        (Content(1, body(counter("8/2/3/4/0/1"))), "another VM"),
        (Content(1, body(counter("77/2/3/4/0/1"))), "another VM"),
        (Content(1, body(counter(), counter())), "twice"),
        (Content(1, body(counter(packets=-1))), "so high or low"),
        (Content(1, body(counter(bytes=2**63))), "so high or low"),
        (Content(1, body(counter(verdict="shed"))), "unknown direction or verdict"),
        (Content(1, body(counter(verdict="staged-shed"))), "unknown direction or verdict"),
        (Content(1, body(counter(direction="up"))), "unknown direction or verdict"),
        (Content(1, body(counter(peer="x" * 301))), "too long"),
        (Content(1, body(*(counter(f"7/{n}/0/0/0/1") for n in range(ROWS + 11)))), "more counters"),
        (Content(1, b" " * (5 << 20)), "too large"),
    ],
)
def test_what_no_honest_host_gives_is_refused_and_changes_nothing(content, why):
    host = Host()
    with pytest.raises(BadSection, match=why):
        host.section.take(VM, content)
    host.section.keep(VM)
    assert host.total() == {}


def test_counters_that_go_back_within_a_handover_are_refused():
    host = Host()
    host.section.take(VM, Content(1, body(counter())))
    with pytest.raises(BadSection, match="went back"):
        host.section.take(VM, Content(1, body(counter(packets=4))))


def test_a_vm_that_does_not_come_leaves_nothing():
    host = Host()
    host.section.take(VM, Content(1, body(counter())))
    host.section.drop(VM)
    host.section.keep(VM)
    assert host.total() == {}


def test_what_is_too_many_is_one_sum_that_goes_on():
    many = [counter(f"7/{n}/0/0/0/1", packets=n + 1) for n in range(20)]
    folded = fold_counters(many, NUMBER, most=5)
    assert len(folded) == 6
    again = fold_counters(total_counters(Inherited(folded), [counter("7/99/0/0/0/1", packets=1)]), NUMBER, most=5)
    assert len(again) <= 6
    assert sum(one.packets for one in again) == sum(range(1, 21)) + 1


def test_nothing_is_freed_while_the_kernel_cannot_be_read_back():
    telemetry, freed = InMemoryTelemetry(), []
    telemetry.counted = [PairCount(NUMBER, 2, 3, 4, 0, allowed=True, packets=5, bytes=1)]
    telemetry.forget_pairs = freed.append  # type: ignore[method-assign]
    counting = Counting(telemetry, InMemoryState(), lambda: NAMES, lambda: None, Outbox(), lambda job: job())
    counting.read()
    assert freed == []
