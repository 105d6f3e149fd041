"""Totals go on through restarts, kernels that count from zero, and VMs that leave: nothing lost, nothing twice."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from buckler.agent.counted import own_counters
from buckler.agent.counting import Counting
from buckler.agent.names import Names
from buckler.agent.outbox import Outbox
from buckler.agent.tally import SHED, add_up
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.model.bundle import RuleName
from buckler.model.flow import FlowRecord
from buckler.model.ids import RuleNumber
from buckler.model.program import Verdict
from buckler.ports.state import Tally
from buckler.ports.telemetry import PairCount, StagedCount

NAMES = Names(by_uuid={}, by_number={}, rules={7: RuleName(RuleNumber(7), "web", "http", "tenant")})


def pair(vm: int, packets: int, rule: int = 7) -> PairCount:
    return PairCount(vm, 2, 0x2000_0002, rule, 0, allowed=True, packets=packets, bytes=packets * 100)


def staged(of: PairCount) -> StagedCount:
    return StagedCount(Verdict.DENY, 7, of)


class Host:
    """A kernel and a disk that outlive the agent, and a controller that keeps what it is told as the real one does."""

    def __init__(self) -> None:
        self.telemetry, self.state, self.outbox = InMemoryTelemetry(), InMemoryState(), Outbox()
        self.here: set[int] = set()
        self.told: dict[tuple[str, int], int] = {}
        self.begin()

    def begin(self) -> None:
        self.outbox = Outbox()
        self.counting = Counting(
            self.telemetry, self.state, lambda: NAMES, lambda: frozenset(self.here), self.outbox, lambda job: job()
        )
        self.outbox.put_counters([tally.counter for tally in self.state.tallies().values()])

    def send(self, *, is_heard: bool = True) -> None:
        """What was taken may be sent again: the answer can get lost."""
        batch = self.outbox.counters(1000)
        for counter in batch:
            key = (counter.key, counter.epoch)
            self.told[key] = max(self.told.get(key, 0), counter.packets)
        if is_heard:
            self.outbox.counters_sent(batch)

    def total(self, vm: int, behind: str = "/1") -> int:
        mine = [(key, packets) for (key, _), packets in self.told.items() if key.startswith(f"{vm}/")]
        return sum(packets for key, packets in mine if key.endswith(behind))

    def count(self, vm: int, packets: int) -> None:
        before = sum(each.packets for each in self.telemetry.counted if each.vm == vm)
        others = [each for each in self.telemetry.counted if each.vm != vm]
        self.telemetry.counted = [*others, pair(vm, before + packets)]
        self.telemetry.drafted = [staged(each) for each in self.telemetry.counted]
        self.here.add(vm)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(1, 2), st.integers(1, 50)),
        st.tuples(st.sampled_from(["leave"]), st.integers(1, 2), st.just(0)),
        st.tuples(st.sampled_from(["read", "send", "unheard", "restart", "die"]), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS)
def test_whatever_happens_the_controller_ends_with_what_was_counted(steps):
    host, counted = Host(), {1: 0, 2: 0}
    for what, vm, packets in steps:
        match what:
            case "count":
                host.count(vm, packets)
                counted[vm] += packets
            case "leave":
                host.here.discard(vm)
            case "read":
                host.counting.read()
            case "send" | "unheard":
                host.send(is_heard=what == "send")
            case "restart":
                host.counting.read()
                host.begin()
            case "die":
                host.begin()
    host.counting.read()
    host.send()
    assert {vm: host.total(vm) for vm in counted} == counted
    assert {vm: host.total(vm, "/1/staged/2/7") for vm in counted} == counted, "and what the draft says of it"


def test_a_kernel_that_counts_from_zero_adds_to_what_was():
    tallies: dict[str, Tally] = {}
    for now, (packets, shed) in enumerate(((10, 4), (15, 9), (3, 1), (8, 1))):
        tallies.update(add_up(tallies, [pair(1, packets)], {SHED: shed}, NAMES, now))
    key = next(key for key in tallies if key != SHED)
    assert (tallies[key].counter.packets, tallies[key].counter.bytes, tallies[key].counter.epoch) == (23, 2300, 0)
    assert tallies[SHED].counter.packets == 10


def test_a_count_names_both_ends_the_rule_and_what_found_no_room():
    nobody = 0xFFFF_FFFF
    crowd = PairCount(nobody, nobody, nobody, nobody, 0, allowed=False, packets=5, bytes=50)
    counters = [tally.counter for tally in add_up({}, [pair(1, 3), crowd], {SHED: 0}, NAMES, 1).values()]
    named = [(one.local, one.peer, one.policy, one.rule, one.packets) for one in counters]
    assert named == [("vm-1", "vm-2", "web", "http", 3), ("(no room)", "(no room)", "", "", 5)]


def test_what_a_draft_says_is_counted_beside_by_verdicts_of_its_own():
    told = add_up({}, [pair(1, 3)], {}, NAMES, 1, [staged(pair(1, 2))])
    counters = [(one.verdict, one.policy, one.rule, one.packets) for one in (each.counter for each in told.values())]
    assert counters == [("allow", "web", "http", 3), ("staged-deny", "web", "http", 2)]
    assert [counter.verdict for counter in own_counters(told, 1)] == ["allow", "staged-deny"]
    assert own_counters(told, 2) == ()
    assert add_up(told, [pair(1, 3)], {}, NAMES, 2, [staged(pair(1, 2))]) == {}


def test_nothing_new_is_nothing_to_tell():
    tallies = add_up({}, [pair(1, 3)], {SHED: 2}, NAMES, 1)
    assert add_up(tallies, [pair(1, 3)], {SHED: 2}, NAMES, 9) == {}


def test_a_tally_survives_its_encoding():
    tally = next(iter(add_up({}, [pair(1, 3)], {}, NAMES, 1).values()))
    assert msgspec.json.decode(msgspec.json.encode(tally), type=Tally) == tally


def flow(number: int) -> FlowRecord:
    return FlowRecord(number, "a", "web", "db", "egress", "deny", "policy", "tcp", "", "", 1, number)


@given(st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["tell", "unheard", "die", "read"])), max_size=30))
def test_every_flow_is_told_once_or_counted_as_shed(steps):
    """Where an agent dies between two readings, its word is at most one reading old; here it reads before."""
    host, stored, made, last = Host(), [], 0, ""
    for step in steps:
        match step:
            case int():
                host.outbox.put_flows([flow(made + number) for number in range(step)], 0)
                made += step
            case "tell" | "unheard":
                batch = host.outbox.flows(3)
                if batch is not None:
                    stored += [] if batch.name == last else [one.destination_port for one in batch.flows]
                    last = batch.name
                    if step == "tell":
                        host.outbox.flows_sent()
            case "read":
                host.counting.read()
            case "die":
                host.counting.read()
                host.begin()
                host.outbox.lose_flows(int(host.state.document("untold-flows") or 0))
    host.counting.read()
    host.send()
    shed = sum(packets for (key, _), packets in host.told.items() if key == f"{SHED}/agent")
    waiting = host.outbox.untold_flows()
    assert len(stored) == len(set(stored))
    assert made <= len(stored) + shed + waiting <= made + 3 * steps.count("die") + 3
