"""The change order: whatever mix of stages hosts are in, nothing passes that neither old nor new allows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations, pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.bundle import Endpoint, Segment, Stage
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_INFRA
from buckler.model.label import Selector
from buckler.model.program import Direction, Program, Verdict
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.closing import AddressMap, address_map
from buckler.policy.compile import ResolvedProgram
from buckler.policy.language import Action, Document, EgressRule, IngressRule, Kind, Peer, PolicySpec, Subject
from buckler.policy.lookup import read_program
from buckler.policy.prefix import host_prefix
from buckler.policy.resolve import find_interval
from buckler.policy.rollout import RolloutStage, plan_rollout
from tests.policyworld import Store
from tests.randompolicy import (
    ENDPOINTS,
    OUTSIDE,
    Chooser,
    Drawn,
    Seeded,
    endpoints,
    flag,
    labels,
    network,
    number_for,
    pick,
    policies,
    virtual_services,
    vm,
)

pytestmark = pytest.mark.proof

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

View = tuple[Bundle, Bundle]
"""On one host: where programs and endpoints come from, and where addresses' meaning comes from."""


class Question(msgspec.Struct, frozen=True):
    """One packet. ``sender`` and ``receiver`` are MACs of VMs; empty: outside."""

    source: str
    destination: str
    sender: str
    receiver: str
    protocol: int
    port: int


def segment_of(bundle: Bundle) -> Segment | None:
    return bundle.segments[0] if bundle.segments else None


def endpoint_of(bundle: Bundle, mac: str) -> Endpoint | None:
    segment = segment_of(bundle)
    return next((each for each in segment.endpoints if each.mac == mac), None) if segment else None


@cache
def _reading(program: Program) -> ResolvedProgram:
    return read_program(program)


def meaning_of(segment: Segment) -> AddressMap:
    key = canonical_bytes(segment)
    if key not in _MEANINGS:
        _MEANINGS[key] = address_map(segment)
    return _MEANINGS[key]


_MEANINGS: dict[bytes, AddressMap] = {}


def end_allows(view: View, question: Question, direction: Direction) -> bool:
    """Judge at one end as the kernel does."""
    programs, addresses = view
    egress = direction is Direction.EGRESS
    mac = question.sender if egress else question.receiver
    own, other = question.source, question.destination
    if not egress:
        own, other = other, own
    endpoint, segment = endpoint_of(programs, mac), segment_of(addresses)
    if endpoint is None or segment is None or own not in endpoint.addresses:
        return False
    peer = meaning_of(segment).identity(host_prefix(other))
    if peer == IDENTITY_INFRA:
        return False
    table = _reading(programs.programs[endpoint.program]).table(peer, direction)
    return find_interval(table, question.protocol, question.port).verdict == Verdict.ALLOW


def passes(at_sender: View, at_receiver: View, question: Question) -> bool:
    if question.sender and not end_allows(at_sender, question, Direction.EGRESS):
        return False
    return not question.receiver or end_allows(at_receiver, question, Direction.INGRESS)


def asked(choose: Chooser, bundles: Sequence[Bundle]) -> Question:
    owners: dict[str, set[str]] = {}
    for bundle in bundles:
        for segment in bundle.segments:
            for endpoint in segment.endpoints:
                for address in endpoint.addresses[:2]:
                    owners.setdefault(address, set()).add(endpoint.mac)
    version = choose.number(0, 1)
    family = [each for each in (*sorted(owners), *OUTSIDE, *ENDPOINTS) if (":" in each) == bool(version)]
    source, destination = pick(choose, family), pick(choose, family)
    sender = pick(choose, (*sorted(owners.get(source, ())), ""))
    receiver = pick(choose, (*sorted(owners.get(destination, ())), ""))
    protocol = pick(choose, (6, 17, 1, 58))
    return Question(source, destination, sender, receiver, protocol, number_for(choose, protocol))


def declared(choose: Chooser) -> tuple[tuple[Document, ...], tuple[str, ...]]:
    vms = [vm(index, labels(choose)) for index in range(5) if not flag(choose, 4)]
    if vms and flag(choose, 4):
        vms[-1] = moved_address(vms[-1])
    quarantined = tuple(each.name for each in vms if flag(choose, 5))
    things = endpoints(choose)
    if any(each.name == "scanner" for each in things):  # one address, one owner
        vms = [each for each in vms if "10.9.0.99" not in each.spec.interfaces[0].addresses]
    return (network(), *vms, *things, *policies(choose, 4), *virtual_services(choose)), quarantined


def moved_address(document: Document) -> Document:
    """Give a VM an address that another VM may have in another state."""
    card = document.spec.interfaces[0]
    spec = msgspec.structs.replace(
        document.spec, interfaces=(msgspec.structs.replace(card, addresses=("10.9.0.99", "fd09::99")),)
    )
    return msgspec.structs.replace(document, spec=spec)


def built(store: Store, choose: Chooser) -> Bundle:
    documents, quarantined = declared(choose)
    pool = store.pool(documents, quarantined)
    return build_bundle(pool, documents, store.allocate(pool, documents))


def steps(states: Sequence[Bundle], *, any_order: bool) -> list[View]:
    """Every view a host can have while it goes from state to state: programs first, or in any order."""
    views: list[View] = []
    for one, other in pairwise(states):
        views += [(one, one), (other, one), (other, other)]
        if any_order:
            views.append((one, other))
    return views or [(states[0], states[0])]


def phases(start: Sequence[Bundle], plan: Sequence[RolloutStage]) -> list[list[Bundle]]:
    """Split states into runs that may be mixed across hosts."""
    runs = [list(start)]
    for stage in plan:
        if stage.waits_for_all:
            runs.append([runs[-1][-1]])
        runs[-1].append(stage.bundle)
    return runs


def assert_safe(
    choose: Chooser, views: Sequence[View], stable: tuple[Bundle, Bundle], known: Sequence[Bundle] = ()
) -> None:
    """Ask many packets of every pair of views: none passes that no stable state allows at both ends."""
    seed = Seeded(choose.number(0, 1 << 30))
    for _ in range(40):
        question = asked(seed, known or stable)
        if any(passes((each, each), (each, each), question) for each in stable):
            continue
        senders = [view for view in views if not question.sender or end_allows(view, question, Direction.EGRESS)]
        receivers = [view for view in views if not question.receiver or end_allows(view, question, Direction.INGRESS)]
        assert not senders or not receivers, question


@QUICK
@given(st.data())
def test_no_packet_passes_that_neither_old_nor_new_allows(data):
    choose = Drawn(data.draw)
    store = Store()
    old, new = built(store, choose), built(store, choose)
    plan = plan_rollout([old], new)
    assert (plan[-1].bundle if plan else old).digest() == new.digest()
    for run in phases([old], plan):
        views = steps(run, any_order=True)
        assert_safe(choose, views, (old, new))


@QUICK
@given(st.data())
def test_a_newer_change_in_the_middle_of_one_is_as_safe(data):
    choose = Drawn(data.draw)
    store = Store()
    first, second, third = (built(store, choose) for _ in range(3))
    runs = phases([first], plan_rollout([first], second))
    run = pick(choose, runs)
    in_force = run[: choose.number(1, len(run))]
    stable = first if run is runs[0] else second
    plan = plan_rollout(in_force, third)
    late = phases(in_force, plan)
    for index, states in enumerate(late):
        views = jumps(in_force, states) if index == 0 else steps(states, any_order=True)
        assert_safe(choose, views, (stable, third), (first, second, third))


@QUICK
@given(st.data())
def test_states_that_every_host_has_moved_past_may_be_forgotten(data):
    """Only what some host may still enforce is planned from; the last published state always is among it."""
    choose = Drawn(data.draw)
    store = Store()
    first, second, third = (built(store, choose) for _ in range(3))
    runs = phases([first], plan_rollout([first], second))
    run = pick(choose, runs)
    told = run[: choose.number(1, len(run))]
    in_force = [*(each for each in told[:-1] if flag(choose, 2)), told[-1]]
    stable = first if run is runs[0] else second
    plan = plan_rollout(in_force, third)
    for index, states in enumerate(phases(in_force, plan)):
        # What lies between two states is forgotten: from one to the other a host leaps, programs first.
        leaps = [view for pair in combinations(states, 2) for view in steps(pair, any_order=False)]
        views = leaps or [(states[0], states[0])] if index == 0 else steps(states, any_order=True)
        assert_safe(choose, views, (stable, third), (first, second, third))


def jumps(in_force: Sequence[Bundle], states: Sequence[Bundle]) -> list[View]:
    """A host may go from any state in force to the newer plan's first, and on from there."""
    views = steps(in_force, any_order=True)
    rest = states[len(in_force) :]
    for one in in_force if rest else ():
        views += steps([one, *rest], any_order=False)
    return views


def test_nothing_to_do_is_no_stage():
    bundle = built(Store(), Seeded(3))
    assert plan_rollout([bundle], bundle) == ()


def test_the_first_state_is_published_at_once():
    bundle = built(Store(), Seeded(3))
    assert [each.stage for each in plan_rollout([], bundle)] == [Stage.OPEN]


@QUICK
@given(st.data())
def test_change_and_revert_leaves_nothing(data):
    choose = Drawn(data.draw)
    store = Store()
    old, new = built(store, choose), built(store, choose)
    for one, other in ((old, new), (new, old)):
        plan = plan_rollout([one], other)
        if plan:
            assert (plan[-1].bundle.segments, plan[-1].bundle.programs) == (other.segments, other.programs)
            assert plan_rollout([one, *(each.bundle for each in plan)][-1:], other) == ()


def ruled(name: str, subject: dict[str, str], **sides: tuple[Action, Peer]) -> Document:
    """A policy of one rule per side at the VMs of some labels."""
    words = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01"}
    kinds = {"ingress": IngressRule, "egress": EgressRule}
    made = {side: (kinds[side](name="only", action=action, peers=(peer,)),) for side, (action, peer) in sides.items()}
    return Document(Kind.POLICY, name, PolicySpec(**words, subject=Subject(match_labels=subject), **made))


ANYONE = Peer(any=True)
A, B, C = ({"app": value} for value in "abc")


def is_(labels_: dict[str, str]) -> Peer:
    return Peer(vm=Selector(match_labels=labels_))


SENDER_CLOSES = ruled("send", A, egress=(Action.ALLOW, ANYONE)), ruled("send", A, egress=(Action.DENY, ANYONE))
CROSSINGS = {
    "a known peer": (
        (vm(0, A), SENDER_CLOSES[0]),
        (vm(0, A), SENDER_CLOSES[1], ruled("take", B, ingress=(Action.ALLOW, is_(A)))),
    ),
    "anyone": (
        (vm(0, A), SENDER_CLOSES[0]),
        (vm(0, A), SENDER_CLOSES[1], ruled("take", B, ingress=(Action.ALLOW, ANYONE))),
    ),
    "a new identity": (
        (vm(0, A), ruled("send", A, egress=(Action.ALLOW, ANYONE)), ruled("take", B, ingress=(Action.ALLOW, is_(C)))),
        (vm(0, C), ruled("send", A, egress=(Action.ALLOW, ANYONE)), ruled("take", B, ingress=(Action.ALLOW, is_(C)))),
    ),
    "an identity that others have": (
        (vm(0, A), vm(2, C), SENDER_CLOSES[0], ruled("take", B, ingress=(Action.ALLOW, is_(C)))),
        (vm(0, C), vm(2, C), SENDER_CLOSES[0], ruled("take", B, ingress=(Action.ALLOW, is_(C)))),
    ),
}


@pytest.mark.parametrize("name", CROSSINGS)
def test_one_end_at_the_old_and_one_at_the_new_state_never_meet(name):
    """The sender's shield closes while the receiver's opens: the mix of both would let pass what neither state does."""
    store = Store()
    old, new = (
        build_bundle(pool := store.pool(documents), documents, store.allocate(pool, documents))
        for documents in ((network(), vm(1, B), *side) for side in CROSSINGS[name])
    )
    question = Question("10.9.0.10", "10.9.0.11", "52:54:00:09:00:00", "52:54:00:09:00:01", 6, 80)
    assert passes((old, old), (new, new), question)
    assert not passes((old, old), (old, old), question)
    assert not passes((new, new), (new, new), question)
    for run in phases([old], plan_rollout([old], new)):
        views = steps(run, any_order=True)
        assert not any(passes(one, other, question) for one in views for other in views)
