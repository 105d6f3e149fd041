"""The difference of two states: every pair that differs, none that does not, counted whole and listed bounded."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from buckler.model.operatorapi.answers import Outside, PortRange, ReachPair
from buckler.model.operatorapi.documents import ReachChange
from buckler.policy.documentdiff import diff_documents
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.fielddiff import MOST, changed_fields
from buckler.policy.pairs import reach_pairs
from buckler.policy.party import WORLD
from buckler.policy.reach import words_of
from buckler.policy.reachdiff import covers, diff_reach
from buckler.policy.source import Source

HEAD = "---\napiVersion: buckler.io/v1\n"
NETWORK = f"{HEAD}kind: Network\nmetadata: {{name: front}}\nspec: {{bridge: br0, cidrs: [10.0.0.0/16]}}\n"


def vm(number: int, role: str, mode: str = "enforce", tenant: str = "default") -> str:
    return (
        f"{HEAD}kind: VM\nmetadata: {{name: v{number}, tenant: {tenant}, labels: {{role: {role}}}}}\n"
        f"spec: {{uuid: 00000000-0000-4000-8000-{number:012}, mode: {mode}, interfaces: "
        f'[{{mac: "52:54:00:00:{number // 256:02x}:{number % 256:02x}", network: front, addresses: [10.0.{number // 200}.{number % 200 + 1}]}}]}}\n'
    )


def flow(origin: str, to: str, port: int, name: str = "f", action: str = "allow") -> str:
    return (
        f"{HEAD}kind: Flow\nmetadata: {{name: {name}}}\nspec: {{description: d, owner: o, reason: r, review: '2030-01-01', "
        f"action: {action}, from: [{origin}], to: [{{vm: {{matchLabels: {{role: {to}}}}}}}], "
        f"ports: [{{protocol: TCP, port: {port}}}]}}\n"
    )


ROLE = "{{vm: {{matchLabels: {{role: {}}}}}}}"
A, B = ROLE.format("a"), ROLE.format("b")
ENDPOINT = f"{HEAD}kind: Endpoint\nmetadata: {{name: printer, labels: {{role: p}}}}\nspec: {{network: front, addresses: [10.0.9.9]}}\n"
SERVED = NETWORK.replace("]}\n", "], gateway: [10.0.255.254]}\n")
BASE = [NETWORK, vm(1, "a"), vm(2, "b"), vm(3, "b"), vm(4, "c", "observe"), ENDPOINT]
STATES = {
    "nothing": [],
    "empty": BASE,
    "flow": [*BASE, flow(A, "b", 80)],
    "other port": [*BASE, flow(A, "b", 81)],
    "renamed": [*BASE, flow(A, "b", 80, name="g")],
    "denied": [*BASE, flow(A, "b", 80), flow(A, "b", 80, "h", "deny")],
    "relabelled": [NETWORK, vm(1, "b"), vm(2, "a"), vm(3, "b"), vm(4, "c"), ENDPOINT, flow(A, "b", 80)],
    "gone": [NETWORK, vm(1, "a"), vm(5, "b"), flow(A, "b", 80)],
    "world": [*BASE, flow("{world: true}", "b", 443), flow("{cidr: 192.0.2.0/24}", "a", 22, "ssh")],
    "printer": [*BASE, flow(ROLE.format("p"), "b", 515)],
    "served": [SERVED, *BASE[1:]],
    "host": [SERVED, *BASE[1:], flow("{host: true}", "b", 9100)],
    "singled": [*BASE, flow("{vm: {matchLabels: {buckler.io/name: v3}}}", "a", 9)],
}


def draft(name: str) -> Draft:
    reading = read_documents([Source(f"{name}.yaml", "".join(STATES[name]))])
    assert not reading.problems
    return draft_pool(reading.documents)


def every_pair(state: Draft) -> dict[tuple[str | Outside, str | Outside], tuple[str, ...]]:
    """Every pair inside: what is outside ``test_outsidediff`` holds to the reference."""
    pairs = reach_pairs(state.pool, state.documents, state.numbers)
    return {(each.origin, each.to): words_of(each.allowed) for each in pairs if is_inside(each)}


def is_inside(change: ReachChange | ReachPair) -> bool:
    return all(isinstance(each, str) and each != WORLD for each in (change.origin, change.to))


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(STATES, 2)))
def test_the_difference_is_what_comparing_every_pair_finds(one: str, other: str) -> None:
    before, after = draft(one), draft(other)
    old, new = every_pair(before), every_pair(after)
    wanted = {
        pair: (old.get(pair, ()), new.get(pair, ()))
        for pair in old.keys() | new.keys()
        if old.get(pair, ()) != new.get(pair, ())
    }
    delta = diff_reach(before, after)
    assert {(each.origin, each.to): (each.before, each.after) for each in delta.pairs if is_inside(each)} == wanted
    assert delta.count.changed == len(delta.pairs)
    assert delta.count.complete
    back = diff_reach(after, before).count
    assert (back.gaining, back.losing) == (delta.count.losing, delta.count.gaining)


@pytest.mark.parametrize("name", STATES)
def test_nothing_differs_from_itself(name: str) -> None:
    assert diff_reach(draft(name), draft(name)).count.changed == 0


def test_a_long_list_is_cut_and_counted_and_too_much_work_is_told() -> None:
    STATES["crowd"] = [NETWORK, *(vm(number, "ab"[number % 2]) for number in range(1, 301))]
    STATES["open crowd"] = [*STATES["crowd"], flow(A, "b", 80)]
    try:
        before, after = draft("crowd"), draft("open crowd")
    finally:
        del STATES["crowd"], STATES["open crowd"]
    delta = diff_reach(before, after, listed=7)
    assert len(delta.pairs) == 7
    assert (delta.count.changed, delta.count.gaining, delta.count.losing) == (150 * 150, 150 * 150, 0)
    few = diff_reach(before, after, compared=1)
    assert not few.count.complete
    assert few.count.changed < delta.count.changed


@pytest.mark.parametrize(
    ("more", "less", "holds"),
    [
        ((), (), True),
        ((), (PortRange("TCP", 1, 1),), False),
        ((PortRange("any"),), (PortRange("47"),), True),
        ((PortRange("TCP"),), (PortRange("any"),), False),
        ((PortRange("TCP", 1, 9),), (PortRange("TCP", 2, 9),), True),
        ((PortRange("TCP", 1, 9),), (PortRange("UDP", 2, 9),), False),
        ((PortRange("TCP", 1, 9),), (PortRange("TCP", 2, 10),), False),
    ],
)
def test_what_covers_what(more: tuple[PortRange, ...], less: tuple[PortRange, ...], holds: bool) -> None:
    assert covers(more, less) is holds


def test_fields_are_told_by_path_and_a_great_many_are_counted() -> None:
    before = {"spec": {"ports": [{"port": 80}], "gone": 1, "same": [1, 2], "list": [1]}}
    after = {"spec": {"ports": [{"port": 81}], "new": {"a": "ü"}, "same": [1, 2], "list": [1, 2]}}
    assert changed_fields(before, after) == (
        "spec.gone: removed 1",
        "spec.list: [1] → [1, 2]",
        'spec.new: added {"a": "ü"}',
        "spec.ports[0].port: 80 → 81",
    )
    assert changed_fields(None, after) == ()
    many = changed_fields({}, {f"f{number}": "x" * 500 for number in range(1000)})
    assert len(many) == MOST + 1
    assert max(map(len, many)) < 200
    assert many[-1] == f"and {1000 - MOST} more fields"


def test_documents_that_differ_only_in_where_they_are_written_do_not_differ() -> None:
    documents = draft("flow").documents
    moved = [msgspec.structs.replace(each, file="elsewhere.yaml", line=7) for each in documents]
    assert diff_documents(documents, moved) == ()
    told = diff_documents(documents, draft("other port").documents)
    assert [(each.kind, each.action, each.fields) for each in told] == [
        ("Flow", "configured", ("spec.ports[0].port: 80 → 81",))
    ]
