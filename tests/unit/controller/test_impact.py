"""Replaying recorded connections: the same verdict as the reference, everything counted, nothing guessed."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from buckler.controller.impact import replay
from buckler.model.flow import FlowRecord
from buckler.model.ids import HostId
from buckler.model.pool import Host
from buckler.model.program import Direction
from buckler.policy.draft import Draft
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from buckler.policy.replay import Attempt, Replayer
from buckler.ports.journal import StoredFlow
from tests.unit.policy.test_reachdiff import STATES, draft

HOSTS = (Host(HostId("h"), "h", "", "192.0.2.200"),)


def with_hosts(state: Draft) -> Draft:
    return msgspec.structs.replace(state, pool=msgspec.structs.replace(state.pool, hosts=HOSTS))


@pytest.mark.parametrize("name", [each for each in STATES if STATES[each]])
def test_a_replay_says_what_the_reference_says(name: str) -> None:
    state = with_hosts(draft(name))
    replayer = Replayer(state)
    places = {vm.name: vm.interfaces[0].addresses[0] for vm in state.pool.vms}
    others = ("192.0.2.7", "198.51.100.1", "10.0.9.9", "10.0.77.7", "224.0.0.9", "192.0.2.200", "2001:db8::1")
    for (vm, here), there in itertools.product(places.items(), (*places.values(), *others)):
        if here == there or (":" in there) != (":" in here):
            continue
        for direction, (protocol, port) in itertools.product(Direction, ((6, 80), (6, 515), (17, 80), (47, 0))):
            source, destination = (here, there) if direction is Direction.EGRESS else (there, here)
            told = replayer.answer(Attempt(vm, direction, source, destination, protocol, port))
            packet = Packet("front", source, destination, protocol, port)
            assert told.allowed == judge(state.pool, state.documents, packet).passes, (vm, direction, packet)


def record(local: str, peer: str, direction: str, verdict: str, port: int, **more: object) -> StoredFlow:
    addresses = {"v1": "10.0.0.2", "v2": "10.0.0.3", "v3": "10.0.0.4"}
    ends = (local, peer) if direction == "egress" else (peer, local)
    source, destination = (addresses.get(each, "203.0.113.9") for each in ends)
    base = FlowRecord(
        1.0, "h", local, peer, direction, verdict, "new", "tcp", source, destination, 40000, port, policy="f"
    )
    shed = int(str(more.pop("shed", 0)))
    return StoredFlow(1, msgspec.structs.replace(base, **more), shed)


def test_a_connection_that_both_ends_recorded_counts_once_and_rules_are_named() -> None:
    flows = [
        record("v1", "v2", "egress", "allow", 80),
        record("v2", "v1", "ingress", "allow", 80, at=5.0),
        record("v1", "v2", "egress", "allow", 80, source_port=40001),
        record("v1", "v3", "egress", "deny", 81, reason="policy", shed=7),
    ]
    told = replay(flows, draft("flow"), draft("other port"))
    lines = [(each.to, each.port, each.before, each.after, each.connections, each.records) for each in told.items]
    assert lines == [("v2", 80, "allow", "deny", 2, 3), ("v3", 81, "deny", "allow", 1, 1)]
    assert [(each.rule_before, each.rule_after) for each in told.items] == [("f/egress", ""), ("", "f/egress")]
    assert (told.records, told.connections, told.shed, told.first, told.last) == (4, 3, 7, 1.0, 5.0)
    assert (told.outdated, told.otherwise, told.unplaced) == (0, 0, {})
    assert replay(flows, draft("flow"), draft("renamed")).items == ()


def test_what_cannot_be_judged_again_is_counted_by_reason() -> None:
    flows = [
        record("v9", "v2", "egress", "allow", 80),
        record("v1", "v2", "egress", "allow", 80, source="10.0.0.77"),
        record("v1", "v2", "egress", "deny", 80, reason="spoofed_address"),
        record("v1", "v2", "egress", "allow", 80, protocol="arp"),
        record("v1", "v2", "egress", "allow", 80, protocol="9" * 5000),
        record("v1", "v2", "egress", "allow", 80, protocol="999"),
        record("v1", "v2", "egress", "allow", 2**40),
        record("v1", "v2", "egress", "allow", -1),
        record("v1", "v2", "egress", "allow", 80, destination=""),
        record("v1", "v2", "egress", "deny", 80, reason="policy"),
    ]
    told = replay(flows, draft("flow"), draft("empty"))
    assert told.unplaced == {
        "its peer has no address": 1,
        "its protocol or port is none that policies judge": 5,
        "no VM has this name and address": 2,
    }
    assert (told.otherwise, told.outdated, told.connections) == (1, 1, 1)
    assert [(each.before, each.after) for each in told.items] == [("allow", "deny")]


def test_nothing_recorded_is_no_answer() -> None:
    told = replay([], draft("flow"), draft("empty"))
    assert (told.records, told.items) == (0, ())
