"""The reference, the resolved form, compiled programs, explain and reach all say the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_GROUP, IDENTITY_HOST, IDENTITY_INFRA
from buckler.model.label import LABEL_NAME
from buckler.model.program import Direction, Program, Verdict
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.closing import address_map
from buckler.policy.compile import compile_program, fill_rows, resolve_pool
from buckler.policy.explain import explain
from buckler.policy.judgement import End, EndJudgement, PeerKind
from buckler.policy.language import Action, Document, EgressRule, Kind, PolicySpec, Subject
from buckler.policy.lookup import look_up, read_program
from buckler.policy.packet import Packet
from buckler.policy.pairs import reach_pairs
from buckler.policy.pool import Pool, singled_out, stations
from buckler.policy.prefix import host_prefix
from buckler.policy.reference import judge, judge_end
from buckler.policy.resolve import LAST_PORT, PROTOCOL_ORDER
from buckler.policy.unpoliced import control_traffic
from buckler.policy.whole import split_bundle
from tests.policyworld import Store, host
from tests.randompolicy import HOSTS, Drawn, Seeded, network, number_for, packet, pick, vm, world

pytestmark = pytest.mark.proof

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
POOL_HOST = host("hv1", *HOSTS)


def peer_number(pool: Pool, bundle: Bundle, address: str) -> int:
    """Look an address up as the kernel does."""
    return IDENTITY_INFRA if address in HOSTS else address_map(bundle.segments[0]).identity(host_prefix(address))


def assert_side(side: EndJudgement | None, bundle: Bundle, peer: int, packet_: Packet, rules: dict[int, str]) -> None:
    if side is None:
        return
    endpoint = next(each for each in bundle.segments[0].endpoints if each.vm == side.station.vm.id)
    entry = look_up(bundle.programs[endpoint.program], peer, side.direction, packet_.protocol, packet_.port)
    assert entry is not None
    if peer == IDENTITY_INFRA:
        assert not side.allowed
        return
    assert (entry.verdict == Verdict.ALLOW) == side.allowed
    told = side.rule.key if side.rule else ""
    assert rules.get(entry.rule, "") == told
    seen = side.observed
    assert rules.get(entry.observed, "") == (seen.key if seen else "")


@QUICK
@given(st.data())
def test_reference_equals_compiled_programs(data):
    choose = Drawn(data.draw)
    documents = world(choose)
    store = Store()
    pool = store.pool(documents, hosts=(POOL_HOST,))
    numbers = store.allocate(pool, documents)
    bundle = build_bundle(pool, documents, numbers)
    rules = {number: key for key, number in numbers.rules.items()}
    for _ in range(12):
        one = packet(choose, documents)
        judged = judge(pool, documents, one)
        assert_side(judged.egress, bundle, peer_number(pool, bundle, one.destination), one, rules)
        assert_side(judged.ingress, bundle, peer_number(pool, bundle, one.source), one, rules)


@QUICK
@given(st.data())
def test_reference_equals_programs_towards_groups_and_the_host(data):
    choose = Drawn(data.draw)
    documents = world(choose, vms=2)
    store = Store()
    pool = store.pool(documents)
    bundle = build_bundle(pool, documents, store.allocate(pool, documents))
    found = stations(pool, singled_out(documents))
    for _ in range(8):
        station, direction = pick(choose, found), pick(choose, tuple(Direction))
        kind, number = pick(choose, ((PeerKind.GROUP, IDENTITY_GROUP), (PeerKind.HOST, IDENTITY_HOST)))
        protocol = pick(choose, (6, 17, 58, 2))
        port = number_for(choose, protocol)
        judged = judge_end(documents, station, direction, End(kind, ""), protocol, port)
        endpoint = next(each for each in bundle.segments[0].endpoints if each.vm == station.vm.id)
        entry = look_up(bundle.programs[endpoint.program], number, direction, protocol, port)
        assert entry is not None
        assert (entry.verdict == Verdict.ALLOW) == judged.allowed


@QUICK
@given(st.data())
def test_programs_unfold_to_the_tables_that_made_them(data):
    choose = Drawn(data.draw)
    documents = world(choose)
    store = Store()
    pool = store.pool(documents)
    resolved = resolve_pool(pool, documents, store.allocate(pool, documents))
    for tables in resolved.programs.values():
        program = compile_program(tables)
        again = read_program(program)
        assert again == tables
        assert compile_program(again) == program
        assert list(program.entries) == sorted(set(program.entries))
        assert_complete(program)
        for table in (*tables.any.values(), *tables.peers.values()):
            edges = [(each.protocol, each.low, each.high) for each in table]
            for protocol in PROTOCOL_ORDER:
                mine = [(low, high) for number, low, high in edges if number == protocol]
                assert mine[0][0] == 0
                assert mine[-1][1] == LAST_PORT
                assert all(one[1] + 1 == other[0] for one, other in pairwise(mine))


def assert_complete(program: Program) -> None:
    """A peer that has entries in a direction has one for all of that direction."""
    sides = {(entry.peer, entry.direction) for entry in program.entries}
    assert sides == {(entry.peer, entry.direction) for entry in program.entries if entry.prefix == 8}


@QUICK
@given(st.data())
def test_explain_and_reach_say_what_the_reference_says(data):
    choose = Drawn(data.draw)
    documents = world(choose)
    store = Store()
    pool = store.pool(documents)
    numbers = store.allocate(pool, documents)
    pairs = {(each.origin, each.to): each.allowed for each in reach_pairs(pool, documents, numbers)}
    names = sorted(each.name for each in pool.vms)
    things = len(pool.outsiders)
    inside = [ends for ends in pairs if all(isinstance(end, str) and end != "world" for end in ends)]
    host = sum("host" in ends for ends in inside)
    assert host in {0, 2 * len(names)}
    assert len(inside) - host == len(names) * (len(names) - 1 + 2 * things)
    assert {end for ends in pairs.keys() - set(inside) for end in ends if isinstance(end, str)} <= {*names, "world"}
    by_name = {each.name: each for each in pool.vms}
    for _ in range(6):
        one, other = pick(choose, names), pick(choose, names)
        if one == other:
            continue
        protocol = pick(choose, (6, 17, 1))
        port = number_for(choose, protocol)
        source, target = (by_name[each].interfaces[0].addresses[0] for each in (one, other))
        judged = judge(pool, documents, Packet("net", source, target, protocol, port))
        if not control_traffic(protocol, port):
            told = explain(pool, documents, one, other, str(protocol), port)
            assert told.verdict == ("allow" if judged.allowed else "deny")
        names_of = {6: "TCP", 17: "UDP", 1: "ICMP"}
        in_matrix = any(
            each.protocol == "any" or (each.protocol == names_of[protocol] and each.port <= port <= each.end_port)
            for each in pairs[one, other]
        )
        assert in_matrix == judged.allowed


def test_equal_label_sets_share_one_program():
    documents = (network(), *(vm(index, {"app": "a"}) for index in range(3)))
    store = Store()
    pool = store.pool(documents)
    bundle = build_bundle(pool, documents, store.allocate(pool, documents))
    assert len({each.identity for each in bundle.segments[0].endpoints}) == 1
    assert len(bundle.programs) == 1


def test_building_twice_gives_the_same_bytes():
    documents = world(Seeded(7))
    store = Store()
    pool = store.pool(documents)
    numbers = store.allocate(pool, documents)
    first, second = (build_bundle(pool, order, numbers) for order in (documents, documents[::-1]))
    assert split_bundle(first) == split_bundle(second)


def test_a_pool_that_lacks_numbers_cannot_be_compiled():
    documents = (network(), vm(0, {}))
    pool = Store().pool(documents)
    with pytest.raises(KeyError):
        build_bundle(pool, documents, Store().numbers)


@QUICK
@given(st.data())
def test_rows_write_programs_as_canonical_json(data):
    documents = world(Drawn(data.draw))
    store = Store()
    pool = store.pool(documents)
    numbers = store.allocate(pool, documents)
    rows = fill_rows(pool, documents, numbers)
    resolved = resolve_pool(pool, documents, numbers)
    for members, row in rows.rows():
        for number in members:
            assert row.content == canonical_bytes(compile_program(resolved.programs[number]))


def test_only_vms_that_a_selector_names_have_an_identity_of_their_own():
    named = ruled_by_name("vm1")
    documents = (network(), *(vm(index, {"app": "a"}) for index in range(4)), named)
    store = Store()
    pool = store.pool(documents)
    bundle = build_bundle(pool, documents, store.allocate(pool, documents))
    identities = {each.name: each.identity for each in bundle.segments[0].endpoints}
    assert identities["vm0"] == identities["vm2"] == identities["vm3"] != identities["vm1"]


def ruled_by_name(name: str) -> Document:
    words = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01"}
    subject = Subject(match_labels={LABEL_NAME: name})
    return Document(
        Kind.POLICY, "named", PolicySpec(**words, subject=subject, egress=(EgressRule("all", Action.ALLOW),))
    )
