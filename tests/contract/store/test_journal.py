"""The contract of ports.journal, on every driver: flows, counters and samples as hosts tell them."""

from __future__ import annotations

from buckler.drivers.store.database import Database
from buckler.model.agentapi import (
    Counter,
)
from buckler.model.flow import FlowRecord
from buckler.model.ids import HostId, VmId, VmNumber
from buckler.model.sample import Sample, Totals
from buckler.ports.journal import FlowQuery, SampleIntake
from buckler.ports.records import VmRecord

A = HostId("host-a")


def flow(number: int, verdict: str = "deny", direction: str = "egress") -> FlowRecord:
    return FlowRecord(number, "a", "web", "db", direction, verdict, "policy", "TCP", "10.0.0.1", "10.0.0.2", 1, number)


def test_counters_told_twice_count_once_and_epochs_add_up(store: Database) -> None:
    first, second = HostId("h1"), HostId("h2")
    ends = {"local": "web", "peer": "db", "direction": "egress", "verdict": "allow", "policy": "p", "rule": "r"}

    def tell(host: HostId, key: str, epoch: int, packets: int, **more: str) -> None:
        with store.write() as unit:
            unit.counters.put(host, [Counter(key, epoch, packets, packets * 10, **{**ends, **more})], 1.0)

    for packets in (5, 9, 9, 7):  # the last is an old one that arrives late
        tell(first, "1/2", 100, packets)
    tell(first, "1/2", 200, 3)
    tell(first, "1/2", 100, 50)  # an epoch that is over says nothing any more
    tell(second, "1/2", 150, 4, rule="r\0")
    tell(second, "shed", 1, 6, local="", peer="", direction="", verdict="shed", policy="", rule="")
    with store.read() as unit:
        assert (unit.counters.count(first), unit.counters.count(second)) == (1, 2)
        totals = unit.counters.totals()
    assert [(total.local, total.verdict, total.packets, total.bytes, total.hosts) for total in totals] == [
        ("", "shed", 6, 60, ("h2",)),
        ("web", "allow", 16, 160, ("h1", "h2")),
    ]


def test_flows_are_a_ring(store: Database) -> None:
    with store.write() as unit:
        unit.flows.put(A, [flow(number) for number in range(80)], shed=3)
    with store.read() as unit:
        newest = unit.flows.find(FlowQuery(limit=100))
        assert [item.flow.destination_port for item in newest] == list(range(30, 80))
        assert [item.flow.destination_port for item in unit.flows.find(FlowQuery(limit=2))] == [78, 79]
        after = unit.flows.find(FlowQuery(after=newest[0].cursor, limit=2))
        assert [item.flow.destination_port for item in after] == [31, 32]
    with store.write() as unit:
        unit.flows.put(A, [flow(100, "allow", "ingress")], shed=4)
    with store.read() as unit:
        found = unit.flows.find(FlowQuery(origin="db", to="web"))
        assert [(item.flow.verdict, item.shed) for item in found] == [("allow", 4)]
        assert unit.flows.find(FlowQuery(verdict="allow", origin="web")) == ()


def test_a_batch_of_flows_that_comes_twice_is_told_once(store: Database) -> None:
    for name in ("x/0", "x/0", "x/1", "", ""):
        with store.write() as unit:
            unit.flows.put(A, [flow(1)], shed=2, batch=name)
    with store.read() as unit:
        assert len(unit.flows.find(FlowQuery())) == 4


def test_a_loud_host_forgets_its_own_flows_and_not_the_others(store: Database) -> None:
    quiet, loud = HostId("quiet"), HostId("loud")
    with store.write() as unit:
        unit.flows.put(quiet, [flow(number) for number in range(10)], shed=0)
    for start in range(1000, 2000, 100):
        with store.write() as unit:
            unit.flows.put(loud, [flow(number) for number in range(start, start + 100)], shed=0)
    with store.read() as unit:
        kept = [item.flow.destination_port for item in unit.flows.find(FlowQuery(limit=1000))]
    assert kept == [*range(10), *range(1960, 2000)]


def sample(vm: str, sequence: int, packets: int, at: float = 0.0) -> Sample:
    return Sample(VmId(vm), at or float(sequence), 1024, Totals(sent_packets=packets, cpu_ns=2**62), sequence)


def test_samples_told_twice_are_stored_once_and_missing_numbers_are_counted(store: Database) -> None:
    first, second = [sample("v", 1, 10), sample("v", 2, 20)], [sample("v", 2, 99), sample("v", 5, 50)]
    for batch in (first, first, second, second):
        with store.write() as unit:
            through = unit.samples.put(A, batch, [each.sequence for each in batch])
    with store.write() as unit:
        assert unit.samples.put(A, [], [6]) == 6  # of a VM that nobody knows: heard, not kept
    assert through == 5
    with store.read() as unit:
        assert unit.samples.intakes() == {A: SampleIntake(through=6, shed=2)}
        found = unit.samples.of_vm(VmId("v"), 0, 1e12, 100)
        assert [(each.sample.sequence, each.sample.totals.sent_packets) for each in found.samples] == [
            (1, 10),
            (2, 20),
            (5, 50),
        ]
        assert found.before == ()
        newest = unit.samples.of_vm(VmId("v"), 2.0, 1e12, 1)
        assert [each.sample.sequence for each in (*newest.before, *newest.samples)] == [2, 5]


def test_samples_are_a_ring_for_each_host_that_forgets_no_vms_last_word(store: Database) -> None:
    other = HostId("other")
    with store.write() as unit:
        unit.samples.put(other, [sample("v", 1, 7)], [1])
        unit.samples.put(A, [sample("gone", 1, 3)], [1])
    for number in range(2, 200):
        with store.write() as unit:
            unit.samples.put(A, [sample("v", number, number)], [number])
    with store.read() as unit:
        kept = unit.samples.of_vm(VmId("v"), 0, 1e12, 1000)
        assert [each.sample.totals.sent_packets for each in kept.samples if each.host == other] == [7]
        mine = [each.sample.sequence for each in kept.samples if each.host == A]
        assert mine == list(range(mine[0], 200))
        assert 30 <= len(mine) <= 35
        assert len(unit.samples.of_vm(VmId("gone"), 0, 1e12, 10).samples) == 1


def test_flows_that_passed_only_because_a_vm_is_observed_can_be_asked_for(store: Database) -> None:
    observed = FlowRecord(1, "a", "web", "db", "egress", "allow", "observed", "TCP", "10.0.0.1", "10.0.0.2", 1, 7)
    with store.write() as unit:
        unit.flows.put(A, [flow(1, "deny"), flow(2, "allow"), observed], shed=0)
    with store.read() as unit:
        ports = {
            verdict: [item.flow.destination_port for item in unit.flows.find(FlowQuery(verdict=verdict))]
            for verdict in ("", "allow", "deny", "observed")
        }
    assert ports == {"": [1, 2, 7], "allow": [2, 7], "deny": [1], "observed": [7]}


def test_counters_say_when_they_last_rose(store: Database) -> None:
    ends = {"local": "web", "peer": "db", "direction": "egress", "verdict": "allow", "policy": "p", "rule": "r"}

    def tell(host: str, epoch: int, packets: int, at: float) -> float:
        with store.write() as unit:
            unit.counters.put(HostId(host), [Counter("k", epoch, packets, 0, **ends)], at)
        with store.read() as unit:
            (total,) = unit.counters.totals()
        return total.changed

    assert tell("h1", 1, 0, 10.0) == 0  # a count that never rose
    assert tell("h1", 1, 5, 20.0) == 20
    assert tell("h1", 1, 5, 30.0) == 20
    assert tell("h1", 2, 0, 40.0) == 20  # it begins anew after a restart, and nothing came yet
    assert tell("h1", 2, 1, 50.0) == 50
    assert tell("h2", 1, 3, 45.0) == 50
    assert tell("h1", 1, 9, 60.0) == 50  # what is over says nothing any more


def test_flows_of_a_tenant_are_those_with_an_end_called_as_its_vms_are_or_were(store: Database) -> None:
    with store.write() as unit:
        for number, (tenant, name, ended) in enumerate(
            [("red", "web", 0.0), ("red", "old", 5.0), ("blue", "db", 0.0)], 1
        ):
            unit.vms.put(VmRecord(VmId(f"v{number}"), VmNumber(number), tenant, name, 1.0, ended))
        ends = [("web", "db"), ("db", "world"), ("world", "old"), ("web", "world")]
        told = [
            FlowRecord(1, "a", one, other, "egress", "allow", "new", "TCP", "10.0.0.1", "10.0.0.2", 1, port)
            for port, (one, other) in enumerate(ends)
        ]
        unit.flows.put(A, told, shed=0)
    with store.read() as unit:
        ports = {
            tenant: [item.flow.destination_port for item in unit.flows.find(FlowQuery(tenant=tenant))]
            for tenant in ("", "red", "blue", "green")
        }
        both = unit.flows.find(FlowQuery(tenant="red", to="db"))
    assert ports == {"": [0, 1, 2, 3], "red": [0, 2, 3], "blue": [0, 1], "green": []}
    assert [item.flow.destination_port for item in both] == [0]
