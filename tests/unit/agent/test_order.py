"""From write to write inside one host: no packet passes that neither the state before nor the one after allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.agent.book import endpoint_addresses, resolve_addresses
from buckler.agent.desired import Desired, Observed
from buckler.agent.plan import DeleteAddresses, DeleteTap, PutAddresses, PutTap, plan
from buckler.model.ids import IDENTITY_INFRA, IDENTITY_WORLD, Digest, IdentityNumber, Zone
from buckler.model.program import Direction, Program, Verdict
from buckler.model.shield import Address, AddressKey, Tap
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.language import Action, Document
from buckler.policy.lookup import read_program
from buckler.policy.resolve import find_interval
from buckler.policy.rollout import plan_rollout
from tests.policyworld import Store
from tests.randompolicy import Drawn, Seeded, network, pick, vm
from tests.unit.policy.test_rollout import A, B, C, Question, asked, built, is_, phases, ruled

MAC_2 = "52:54:00:09:00:02"
Taps = dict[int, Tap]
Book = dict[AddressKey, Address]


class Host(msgspec.Struct, frozen=True):
    """What the kernel of a host holds on which every VM of the pool runs."""

    taps: Taps
    book: Book


def host_of(bundle: Bundle) -> Host:
    taps = {
        each.number: Tap(
            each.number, each.number, each.mac, segment.zone, segment.vlan, each.identity,
            endpoint_addresses(each), each.program, each.mode,
        )
        for segment in bundle.segments
        for each in segment.endpoints
    }  # fmt: skip
    return Host(taps, resolve_addresses(bundle.segments, (), ()))


def walk(one: Host, other: Host) -> Iterator[Host]:
    """The host after every single write of the agent's plan from one state to the other."""
    observed = Observed(taps=one.taps, programs=frozenset(tap.program for tap in one.taps.values()), addresses=one.book)
    taps, book = dict(one.taps), dict(one.book)
    for step in plan(observed, Desired(taps=other.taps, addresses=other.book)):
        match step:
            case PutTap(tap):
                taps[tap.ifindex] = tap
                yield Host(dict(taps), dict(book))
            case DeleteTap(ifindex):
                taps.pop(ifindex, None)
                yield Host(dict(taps), dict(book))
            case PutAddresses(entries):
                for key, address in entries.items():
                    book[key] = address
                    yield Host(taps, dict(book))
            case DeleteAddresses(keys):
                for key in keys:
                    book.pop(key, None)
                    yield Host(taps, dict(book))
    assert (taps, book) == (other.taps, other.book)


def identity_of(book: Book, zone: Zone, address: str) -> IdentityNumber:
    asked_for, best, found = ipaddress.ip_address(address), -1, IDENTITY_WORLD
    for key, value in book.items():
        network = ipaddress.ip_network(key.prefix)
        is_inside = network.version == asked_for.version and asked_for in network
        if key.zone == zone and is_inside and network.prefixlen > best:
            best, found = network.prefixlen, value.identity
    return found


def end_allows(host: Host, programs: dict[Digest, Program], question: Question, direction: Direction) -> bool:
    is_egress = direction is Direction.EGRESS
    mac = question.sender if is_egress else question.receiver
    own, other = question.source, question.destination
    if not is_egress:
        own, other = other, own
    tap = next((tap for tap in host.taps.values() if tap.mac == mac), None)
    if tap is None or own not in tap.addresses:
        return False
    peer = identity_of(host.book, tap.zone, other)
    if peer == IDENTITY_INFRA:
        return False
    table = read_program(programs[tap.program]).table(peer, direction)
    return find_interval(table, question.protocol, question.port).verdict == Verdict.ALLOW


def passes(host: Host, programs: dict[Digest, Program], question: Question) -> bool:
    if question.sender and not end_allows(host, programs, question, Direction.EGRESS):
        return False
    return not question.receiver or end_allows(host, programs, question, Direction.INGRESS)


@pytest.mark.proof
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_host_that_skips_stages_lets_nothing_pass_on_its_way(data):
    choose = Drawn(data.draw)
    store = Store()
    first, second, third = (built(store, choose) for _ in range(3))
    runs = phases([first], plan_rollout([first], second))
    run = pick(choose, runs)
    in_force = run[: choose.number(1, len(run))]
    stages = [stage.bundle for stage in plan_rollout(in_force, third)]
    if not stages:
        return
    bundles = [first, second, third, *in_force, *stages]
    programs = {digest: one for bundle in bundles for digest, one in bundle.programs.items()}
    stable = [host_of(first if run is runs[0] else second), host_of(third)]
    start, end = host_of(pick(choose, in_force)), host_of(stages[0])
    views = list(walk(start, end))
    seed = Seeded(choose.number(0, 1 << 30))
    for _ in range(25):
        question = asked(seed, (first, second, third))
        if not any(passes(host, programs, question) for host in stable):
            assert not any(passes(host, programs, question) for host in views), question


def built_from(store: Store, *documents: Document) -> Bundle:
    pool = store.pool(documents)
    return build_bundle(pool, documents, store.allocate(pool, documents))


def test_programs_are_in_force_before_an_address_means_another():
    """A host that was away for all stages: B stops taking from C in the same change in which VM 0 becomes a C."""
    store = Store()
    sends = ruled("send", A, egress=(Action.ALLOW, is_(B))), ruled("send-too", C, egress=(Action.ALLOW, is_(B)))
    takes, refuses = (ruled("take", B, ingress=(action, is_(C))) for action in (Action.ALLOW, Action.DENY))
    old = built_from(store, network(), vm(0, A), vm(1, B), vm(2, C), *sends, takes)
    new = built_from(store, network(), vm(0, C), vm(1, B), vm(2, C), *sends, refuses)
    question = Question("10.9.0.10", "10.9.0.11", "52:54:00:09:00:00", "52:54:00:09:00:01", 6, 80)
    programs = {**old.programs, **new.programs}
    assert passes(host_of(old), programs, msgspec.structs.replace(question, source="10.9.0.12", sender=MAC_2))
    for host in (host_of(old), *walk(host_of(old), host_of(new))):
        assert not passes(host, programs, question)


def test_no_address_means_a_prefix_around_it_for_a_moment():
    """Nested prefixes appear from the innermost outwards and go from the outermost inwards."""
    outer, inner = AddressKey(Zone(1), "10.0.0.0/8"), AddressKey(Zone(1), "10.1.0.0/16")
    around, within = Address(IdentityNumber(0x1000_0001)), Address(IdentityNumber(0x1000_0002))
    bare, nested = Host({}, {}), Host({}, {outer: around, inner: within})
    for start, end in ((bare, nested), (nested, bare)):
        seen = {identity_of(host.book, Zone(1), "10.1.2.3") for host in walk(start, end)}
        assert seen <= {IDENTITY_WORLD, within.identity}
