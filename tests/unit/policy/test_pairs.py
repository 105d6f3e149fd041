"""Who may send what to whom: addresses outside by prefixes and the host, as the reference judges each; tenants apart."""

from __future__ import annotations

import ipaddress
import itertools

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.operatorapi.answers import Outside, ReachPair
from buckler.model.pool import Host, ShieldMode
from buckler.model.program import Direction
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.explain import explain
from buckler.policy.judgement import PeerKind
from buckler.policy.pairs import ANYBODY, answer_reach, reach_pairs, who_matters
from buckler.policy.party import UnknownEnd, find_party
from buckler.policy.pool import singled_out, stations
from buckler.policy.reach import words_of
from buckler.policy.reference import find_end, judge_end
from buckler.policy.source import Source
from tests.randompolicy import GATEWAYS, Drawn, world
from tests.unit.policy.test_outsidediff import PROBES, judged, read, samples
from tests.unit.policy.test_reachdiff import HEAD, NETWORK, flow, vm

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


def pairs_of(draft: Draft, **asked: str) -> tuple[ReachPair, ...]:
    return reach_pairs(draft.pool, draft.documents, draft.numbers, **asked)


@pytest.mark.proof
@QUICK
@given(st.data())
def test_every_address_outside_is_told_once_and_as_the_reference_judges_it(data: st.DataObject) -> None:
    draft = draft_pool(world(Drawn(data.draw)))
    pairs = pairs_of(draft)
    for one, address, direction in itertools.product(draft.pool.vms, samples(draft), Direction):
        wanted = judged(draft, one.name, address, direction)
        if wanted is None:
            continue
        (found,) = [each for each in pairs if means(each, one.name, address, direction)]
        assert read(words_of(found.allowed)) == wanted, (one.name, address, direction, found)
        side = {"to": address} if direction is Direction.EGRESS else {"origin": address}
        (alone,) = [each for each in pairs_of(draft, **side) if means(each, one.name, address, direction)]
        assert alone.allowed == found.allowed


@QUICK
@given(st.data())
def test_the_host_is_told_as_the_reference_judges_it(data: st.DataObject) -> None:
    draft = draft_pool(world(Drawn(data.draw)))
    pairs = {(each.origin, each.to): read(words_of(each.allowed)) for each in pairs_of(draft)}
    for station, direction in itertools.product(stations(draft.pool, singled_out(draft.documents)), Direction):
        end = find_end(draft.pool, draft.documents, station.network.name, GATEWAYS[0])
        assert end.kind is PeerKind.HOST
        wanted = frozenset(
            probe
            for probe in PROBES
            if station.vm.mode is not ShieldMode.ENFORCE
            or judge_end(draft.documents, station, direction, end, *probe).allowed
        )
        names = (station.vm.name, "host") if direction is Direction.EGRESS else ("host", station.vm.name)
        assert pairs[names] == wanted


def means(pair: ReachPair, name: str, address: str, direction: Direction) -> bool:
    here, there = (pair.origin, pair.to) if direction is Direction.EGRESS else (pair.to, pair.origin)
    if here != name or isinstance(there, str):
        return here == name and there == "world"
    return holds(there.blocks, address) and not holds(there.excluded, address)


def holds(prefixes: tuple[str, ...], address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in prefixes)


RED, BLUE = (
    NETWORK.replace("front", tenant).replace("name:", f"tenant: {tenant}, name:").replace("br0", f"br-{tenant}")
    for tenant in ("red", "blue")
)
TWO = [
    *(RED, vm(1, "b", tenant="red").replace("front", "red").replace("name: v1", "name: web")),
    *(BLUE, vm(2, "b", tenant="blue").replace("front", "blue").replace("name: v2", "name: web")),
    vm(3, "b", tenant="blue").replace("front", "blue").replace("name: v3", "name: ledger"),
    flow("{cidr: 192.0.2.0/24}", "b", 22).replace("name: f", "tenant: red, name: f"),
    flow("{cidr: 192.0.2.128/25}, {cidr: 10.0.0.0/24}", "b", 23).replace("name: f", "tenant: blue, name: f"),
]


def two_tenants() -> Draft:
    reading = read_documents([Source("two.yaml", "".join(TWO))])
    assert not reading.problems
    return draft_pool(reading.documents)


def test_what_is_asked_for_one_tenant_is_of_it_alone() -> None:
    asked = answer_reach(two_tenants(), 1, tenant="red")
    assert asked.vms == ("web", "world")
    assert [(each.origin, each.to) for each in asked.pairs if each.allowed] == [(Outside(("192.0.2.0/24",)), "web")]
    assert [each.to for each in asked.pairs if each.origin == "web"] == ["world"]
    inside = answer_reach(two_tenants(), 1, tenant="red", to="10.0.0.0/16")
    assert "web in network red" in inside.notes[0]
    assert "blue" not in str(inside)
    for foreign in ("ledger", "blue/ledger", "blue/web"):
        with pytest.raises(UnknownEnd) as refused:
            answer_reach(two_tenants(), 1, tenant="red", to=foreign)
        assert "ledger'?" not in str(refused.value)


def test_a_name_of_two_tenants_is_asked_with_its_tenant() -> None:
    with pytest.raises(UnknownEnd, match="several are called 'web': write blue/web or red/web"):
        answer_reach(two_tenants(), 1, to="web")
    pairs = answer_reach(two_tenants(), 1, to="blue/web", origin="192.0.2.0/24").pairs
    assert [(each.origin, each.to, words_of(each.allowed)) for each in pairs] == [
        (Outside(("192.0.2.0/25",)), "blue/web", ()),
        (Outside(("192.0.2.128/25",)), "blue/web", ("TCP 23",)),
    ]


def test_explain_knows_the_host_and_whose_a_name_is() -> None:
    red, blue = two_tenants(), two_tenants()
    served = red.pool.networks[1]
    assert served.name == "red"
    networks = (red.pool.networks[0], msgspec.structs.replace(served, gateway=("10.0.255.254",)))
    pool = msgspec.structs.replace(red.pool, networks=networks)
    (path,) = explain(pool, red.documents, "web", "host", "TCP", 80, "red").paths
    assert (path.network, path.to, path.verdict) == ("red", "host (10.0.255.254)", "deny")
    assert explain(pool, red.documents, "blue/web", "host", "TCP", 80).paths == ()
    with pytest.raises(UnknownEnd, match="no network has a gateway"):
        explain(pool, red.documents, "web", "host", "TCP", 80, "blue")
    for tenant, told in {"green": "neither a VM", "": "blue/web or red/web"}.items():
        with pytest.raises(UnknownEnd, match=told) as refused:
            explain(blue.pool, blue.documents, "web", "world", "TCP", 80, tenant)
        assert "known here: )" not in str(refused.value)
        assert not tenant or "blue" not in str(refused.value)


def test_a_vm_called_like_the_world_or_the_host_is_told_with_its_tenant() -> None:
    texts = [
        NETWORK,
        vm(1, "a", "observe").replace("name: v1", "name: world"),
        vm(2, "a", "observe").replace("name: v2", "name: host"),
    ]
    draft = draft_pool(read_documents([Source("odd.yaml", "".join(texts))]).documents)
    assert answer_reach(draft, 1).vms == ("default/host", "default/world", "world")
    assert {each.to for each in pairs_of(draft, origin="world")} == {"default/host", "default/world"}
    assert [each.to for each in pairs_of(draft, origin="default/world", to="default/host")] == ["default/host"]


def test_an_endpoint_that_stands_nowhere_and_an_empty_pool_have_answers() -> None:
    lost = f"{HEAD}kind: Endpoint\nmetadata: {{name: printer}}\nspec: {{network: gone, addresses: [10.0.9.9]}}\n"
    draft = draft_pool(read_documents([Source("lost.yaml", NETWORK + vm(1, "a", "observe") + lost)]).documents)
    assert [each.allowed for each in pairs_of(draft, to="printer")] == [()]
    assert answer_reach(draft_pool(()), 0, to="world").pairs == ()
    assert answer_reach(draft_pool(()), 0).vms == ("world",)


def test_a_hypervisor_hosts_address_is_nobodys_peer_even_of_a_vm_that_only_observes() -> None:
    draft = draft_pool(read_documents([Source("one.yaml", NETWORK + vm(1, "a", "observe"))]).documents)
    hosts = (Host(id="h", name="h1", public_key="", fabric="198.51.100.7"),)
    closed = Draft(type(draft.pool)(draft.pool.networks, draft.pool.vms, hosts), draft.documents, draft.numbers)
    asked = answer_reach(closed, 1, to="198.51.100.7")
    assert asked.pairs == ()
    assert "hypervisor host" in asked.notes[0]
    (pair,) = answer_reach(closed, 1, to="198.51.100.6/31").pairs
    assert pair.to == Outside(("198.51.100.6/32",))


@pytest.mark.proof
@QUICK
@given(st.data())
def test_what_is_asked_of_one_is_what_the_whole_matrix_says_of_it(data: st.DataObject) -> None:
    draft = draft_pool(world(Drawn(data.draw)))
    whole = pairs_of(draft)
    names = sorted({end for each in whole for end in (each.origin, each.to) if isinstance(end, str)} - {"world"})
    for name in names:
        assert set(pairs_of(draft, origin=name)) == {each for each in whole if each.origin == name}
        assert set(pairs_of(draft, to=name)) == {each for each in whole if each.to == name}
        for other in (*names, "world"):
            asked = set(pairs_of(draft, origin=name, to=other))
            if other == "world":
                assert asked == {each for each in whole if each.origin == name and is_outside(each.to)}
            else:
                assert asked == {each for each in whole if (each.origin, each.to) == (name, other)}


def is_outside(end: str | Outside) -> bool:
    return end == "world" or isinstance(end, Outside)


def test_a_question_about_one_end_looks_only_at_its_networks() -> None:
    pool = two_tenants().pool
    red, blue, anybody = (find_party(pool, each) for each in ("red/web", "blue/web", "world"))
    assert [vm.tenant for vm in who_matters(pool, red, ANYBODY).vms] == ["red"]
    assert {vm.tenant for vm in who_matters(pool, ANYBODY, blue).vms} == {"blue"}
    assert [vm.tenant for vm in who_matters(pool, red, anybody).vms] == ["red"]
    assert {vm.id for vm in who_matters(pool, red, blue).vms} == {red.key, blue.key}
    assert who_matters(pool, ANYBODY, anybody) is pool


def test_an_address_that_one_thing_has_is_asked_as_it_and_its_prefix_as_what_is_outside() -> None:
    draft = draft_pool(read_documents([Source("one.yaml", NETWORK + vm(1, "a", "observe") + vm(2, "b"))]).documents)
    assert pairs_of(draft, to="10.0.0.2") == pairs_of(draft, to="v1")
    assert answer_reach(draft, 1, to="10.0.0.2").notes == ()
    assert "v1 in network front" in answer_reach(draft, 1, to="10.0.0.2/32").notes[0]
    double = two_tenants()
    shared = {address for each in double.pool.vms for card in each.interfaces for address in card.addresses}
    for address in shared:
        owners = [each for each in double.pool.vms if any(address in card.addresses for card in each.interfaces)]
        assert bool(find_party(double.pool, address).key) is (len(owners) == 1)
