"""What a change does towards addresses outside: told by prefixes, exactly, and as the reference judges each address."""

from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.operatorapi.answers import Outside
from buckler.model.operatorapi.documents import ReachChange
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction
from buckler.policy.compose import compose_documents
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.identity import named_prefixes
from buckler.policy.judgement import PeerKind
from buckler.policy.pool import singled_out, stations
from buckler.policy.reachdiff import diff_reach
from buckler.policy.reference import find_end, judge_end
from buckler.policy.source import Source
from tests.randompolicy import OUTSIDE, Drawn, world
from tests.unit.policy.test_reachdiff import BASE, NETWORK, flow, vm

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
PROBES = [(6, 22), (6, 80), (6, 443), (6, 65535), (17, 443), (132, 80), (47, 0)]
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "other": 47}

OFFICE = "{cidr: 198.51.100.0/24}"
HOLED = "{cidr: 198.51.0.0/16, except: [198.51.100.0/24]}"
STATES = {
    "empty": BASE,
    "office": [*BASE, flow(OFFICE, "b", 443)],
    "office, other port": [*BASE, flow(OFFICE, "b", 444)],
    "office beside": [*BASE, flow(OFFICE, "b", 443), flow("{cidr: 198.51.101.0/24}", "b", 443, "g")],
    "half": [*BASE, flow("{cidr: 128.0.0.0/1}", "b", 443)],
    "holed": [*BASE, flow(HOLED, "b", 443)],
    "unholed": [*BASE, flow("{cidr: 198.51.0.0/16}", "b", 443)],
    "world": [*BASE, flow("{world: true}", "b", 443)],
    "world but": [*BASE, flow("{world: true}", "b", 443), flow(OFFICE, "b", 443, "no", "deny")],
    "named elsewhere": [*BASE, flow("{world: true}", "b", 443), flow(OFFICE, "a", 22, "ssh")],
    "every address": [*BASE, flow("{cidr: 0.0.0.0/0}, {cidr: '::/0'}", "b", 443)],
    "all of IPv4": [*BASE, flow("{cidr: 0.0.0.0/0}", "b", 443)],
    "watched": [NETWORK, vm(1, "a", "observe"), vm(2, "b", "observe"), flow(OFFICE, "b", 443)],
}


def draft(name: str) -> Draft:
    reading = read_documents([Source(f"{name}.yaml", "".join(STATES[name]))])
    assert not reading.problems
    return draft_pool(reading.documents)


def told(before: str, after: str, name: str = "v2") -> list[ReachChange]:
    return [each for each in diff_reach(draft(before), draft(after)).pairs if name in (each.origin, each.to)]


@pytest.mark.parametrize(
    ("before", "after", "there"),
    [
        ("empty", "office", Outside(("198.51.100.0/24",))),
        ("world but", "world", Outside(("198.51.100.0/24",))),
        ("empty", "half", Outside(("128.0.0.0/1",))),
        ("holed", "unholed", Outside(("198.51.100.0/24",))),
        ("empty", "world", "world"),
        ("empty", "named elsewhere", "world"),
        ("empty", "every address", "world"),
        ("empty", "all of IPv4", Outside(("0.0.0.0/0",))),
        ("office", "all of IPv4", Outside(("0.0.0.0/0",), ("198.51.100.0/24",))),
        ("all of IPv4", "world", Outside(("::/0",))),
        ("empty", "world but", Outside(("0.0.0.0/0", "::/0"), ("198.51.100.0/24",))),
        ("office", "world", Outside(("0.0.0.0/0", "::/0"), ("198.51.100.0/24",))),
        ("office", "office beside", Outside(("198.51.101.0/24",))),
        ("empty", "office beside", Outside(("198.51.100.0/23",))),
    ],
)
def test_what_is_opened_is_named_and_nothing_else(before: str, after: str, there: str | Outside) -> None:
    assert told(before, after) == [ReachChange(there, "v2", (), ("TCP 443",))]
    assert told(after, before) == [ReachChange(there, "v2", ("TCP 443",), ())]
    count = diff_reach(draft(before), draft(after)).count
    assert count.complete
    assert count.gaining >= 2  # v2 and v3


def test_what_only_another_rule_names_changes_nothing() -> None:
    assert told("world", "named elsewhere") == []
    assert told("world", "every address") == []


def test_the_office_gains_one_port_and_loses_another_in_one_line() -> None:
    office = Outside(("198.51.100.0/24",))
    assert told("office", "office, other port") == [ReachChange(office, "v2", ("TCP 443",), ("TCP 444",))]


def test_the_hole_and_what_is_around_it_are_told_apart() -> None:
    around = write_holed()
    assert told("empty", "holed") == [ReachChange(Outside(around), "v2", (), ("TCP 443",))]
    assert told("office", "holed") == [
        ReachChange(Outside(around), "v2", (), ("TCP 443",)),
        ReachChange(Outside(("198.51.100.0/24",)), "v2", ("TCP 443",), ()),
    ]


def write_holed() -> tuple[str, ...]:
    whole, hole = ipaddress.ip_network("198.51.0.0/16"), ipaddress.ip_network("198.51.100.0/24")
    return tuple(str(each) for each in sorted(whole.address_exclude(hole)))


def test_a_long_list_of_prefixes_takes_the_room_of_many_pairs_and_is_counted() -> None:
    delta = diff_reach(draft("empty"), draft("holed"), listed=8)
    assert len(delta.pairs) == 1
    assert delta.count.changed == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(*pair, marks=[pytest.mark.proof] if place % 4 else [])
        for place, pair in enumerate(itertools.combinations(STATES, 2))
    ],
)
def test_every_address_in_and_around_every_prefix_changes_as_it_is_told(before: str, after: str) -> None:
    hold_to_reference(draft(before), draft(after))


@pytest.mark.proof
@QUICK
@given(st.data())
def test_random_changes_are_told_as_the_reference_judges_them(data: st.DataObject) -> None:
    one, other = (draft_pool(world(Drawn(data.draw))) for _ in range(2))
    hold_to_reference(one, other)


def hold_to_reference(before: Draft, after: Draft) -> None:
    pairs = diff_reach(before, after).pairs
    names = {each.name for state in (before, after) for each in state.pool.vms}
    for name, address, direction in itertools.product(sorted(names), samples(before, after), Direction):
        was, becomes = (judged(state, name, address, direction) for state in (before, after))
        if was is None or becomes is None:
            continue
        found = [each for each in pairs if means(each, name, address, direction)]
        assert len(found) <= 1, (name, address, direction, found)
        if not found:
            assert was == becomes, (name, address, direction)
        for each in found:
            assert (read(each.before), read(each.after)) == (was, becomes), (name, address, direction, each)


def samples(*states: Draft) -> list[str]:
    found = {ipaddress.ip_address(each) for each in (*OUTSIDE, "8.8.8.8", "203.0.113.255")}
    for state in states:
        for network in map(ipaddress.ip_network, named_prefixes(compose_documents(state.documents))):
            for place in (int(network[0]), int(network[-1])):
                top = 2**network.max_prefixlen
                make = type(network[0])
                found |= {make(each) for each in (place - 1, place, place + 1) if 0 <= each < top}
    return sorted(map(str, found))


def judged(state: Draft, name: str, address: str, direction: Direction) -> frozenset[tuple[int, int]] | None:
    """What of the probes may be sent; None where the address is not outside."""
    mine = [each for each in stations(state.pool, singled_out(state.documents)) if each.vm.name == name]
    if not mine:
        return frozenset()
    (station,) = mine
    end = find_end(state.pool, state.documents, station.network.name, address)
    if end.kind is not PeerKind.WORLD:
        return None
    if station.vm.mode is not ShieldMode.ENFORCE:
        return frozenset(PROBES)
    return frozenset(probe for probe in PROBES if judge_end(state.documents, station, direction, end, *probe).allowed)


def means(change: ReachChange, name: str, address: str, direction: Direction) -> bool:
    here, there = (change.origin, change.to) if direction is Direction.EGRESS else (change.to, change.origin)
    if here != name:
        return False
    if isinstance(there, Outside):
        return holds(there.blocks, address) and not holds(there.excluded, address)
    return there == "world"


def holds(prefixes: tuple[str, ...], address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in prefixes)


def read(words: tuple[str, ...]) -> frozenset[tuple[int, int]]:
    return frozenset(probe for probe in PROBES for word in words if says(word, *probe))


def says(word: str, protocol: int, port: int) -> bool:
    name, *ports = word.split()
    if name == "any":
        return True
    low, _, high = ports[0].partition("-") if ports and ports[0] != "type" else ("0", "", "65535")
    return PROTOCOLS.get(name) == protocol and int(low) <= port <= int(high or low)


def test_the_probes_are_read_rightly() -> None:
    assert read(("TCP 80", "UDP")) == {(6, 80), (17, 443)}
    assert read(("TCP 80-443", "other", "ICMP type 3")) == {(6, 80), (6, 443), (47, 0)}
    assert read(("any",)) == frozenset(PROBES)
