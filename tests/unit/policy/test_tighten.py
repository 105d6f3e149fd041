"""Overrides only tighten: over 10,000 random edits what is called tighter allows nothing new, and what is not has a witness."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.label import LABEL_ENDPOINT, LABEL_NETWORK, LABEL_TENANT
from buckler.model.pool import Interface, Network, Outsider, Vm
from buckler.model.program import Direction
from buckler.policy.judgement import End, PeerKind
from buckler.policy.language import (
    Action,
    Document,
    EgressRule,
    FlowSpec,
    Kind,
    Peer,
    PolicySpec,
    Port,
    RateLimitSpec,
    ScheduleSpec,
    Subject,
)
from buckler.policy.pool import Station, Visitor
from buckler.policy.reference import judge_end
from buckler.policy.tighten import Loosening, Undecided, find_loosening
from tests.randompolicy import (
    OUTSIDE,
    PROTOCOLS,
    Chooser,
    Seeded,
    action,
    flag,
    labels,
    number_for,
    peer,
    pick,
    policies,
    port,
    several,
)

pytestmark = pytest.mark.proof

EDITS, SHARES = 10_200, 12
HEAD = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01"}


def edited(choose: Chooser, documents: tuple[Document, ...]) -> tuple[Document, ...]:
    """Change one thing of one policy, take one away, or put one more in."""
    places = [place for place, each in enumerate(documents) if isinstance(each.spec, PolicySpec | FlowSpec)]
    if not places or flag(choose, 6):
        return tuple({each.key: each for each in (*documents, *policies(choose, 2))}.values())
    place = pick(choose, places)
    if flag(choose, 4):
        return documents[:place] + documents[place + 1 :]
    document = documents[place]
    spec = document.spec
    if isinstance(spec, FlowSpec):
        changes = (
            {"action": action(choose, spec.tier)},
            {"ports": several(choose, 0, 2, port)} if not spec.service else {},
            {"order": choose.number(0, 2)},
        )
        spec = msgspec.structs.replace(spec, **pick(choose, changes))
    else:
        side = "ingress" if spec.ingress and (not spec.egress or flag(choose)) else "egress"
        rules = list(getattr(spec, side))
        at = choose.number(0, len(rules) - 1)
        rule = rules[at]
        changes = (
            {"action": action(choose, spec.tier)},
            {} if rule.service else {"ports": several(choose, 0, 2, port)},
            {} if rule.service else {"peers": several(choose, 0, 2, peer)},
        )
        rules[at] = msgspec.structs.replace(rule, **pick(choose, changes))
        spec = msgspec.structs.replace(spec, **{side: tuple(rules)})
    changed = msgspec.structs.replace(document, spec=spec)
    return (*documents[:place], changed, *documents[place + 1 :])


NETWORK = Network("other", Zone(1), "default", "br0")


def station(own: dict[str, str]) -> Station:
    vm = Vm(VmId("a"), VmNumber(1), "a", own[LABEL_TENANT], "u", {}, (Interface("52:54:00:00:00:01", "other"),))
    return Station(vm, vm.interfaces[0], NETWORK, own, ("10.0.0.1",))


def end_of(what: dict[str, str] | str) -> End:
    if isinstance(what, dict):
        if LABEL_ENDPOINT in what:
            return End(
                PeerKind.ENDPOINT, "10.0.0.9", visitor=Visitor(Outsider("e", "default", "other", ()), NETWORK, what)
            )
        return End(PeerKind.VM, "10.0.0.1", station(what))
    kinds = {"host": PeerKind.HOST, "group": PeerKind.GROUP}
    return End(kinds[what], "") if what in kinds else End(PeerKind.WORLD, what)


def allows(documents: tuple[Document, ...], origin: End, to: End, protocol: int, number: int) -> bool:
    """As shields judge: at the sender, and at the receiver, which sees a group where one was meant."""
    if origin.station and not judge_end(documents, origin.station, Direction.EGRESS, to, protocol, number).allowed:
        return False
    seen = to if to.kind is PeerKind.GROUP else origin
    return not to.station or judge_end(documents, to.station, Direction.INGRESS, seen, protocol, number).allowed


def rates(documents: tuple[Document, ...], origin: End, to: End, protocol: int, number: int) -> list[tuple[int, int]]:
    """How many connections in how long each end that has a shield lets pass; 0: any number."""
    ends = [(origin.station, Direction.EGRESS, to), (to.station, Direction.INGRESS, origin)]
    judged = [judge_end(documents, here, side, peer, protocol, number) for here, side, peer in ends if here]
    return [(each.connections, each.within) for each in judged]


def is_oftener(before: tuple[Document, ...], after: tuple[Document, ...], *packet: Any) -> bool:
    pairs = zip(rates(before, *packet), rates(after, *packet), strict=True)
    return any(was[0] and (not now[0] or now[0] > was[0] or now[1] < was[1]) for was, now in pairs)


def is_witness(found: Loosening, before: tuple[Document, ...], after: tuple[Document, ...]) -> bool:
    """Ask the reference about the very packet."""
    if "group" in (found.origin, found.to):
        return True  # a receiver that takes it is not named; soundness is asked below
    protocol = 47 if found.protocol == 0 else found.protocol
    ends = end_of(found.origin), end_of(found.to)
    packet = (*ends, protocol, found.port)
    return allows(after, *packet) and (not allows(before, *packet) or is_oftener(before, after, *packet))


@pytest.mark.parametrize("share", range(SHARES))
def test_random_edits(share: int) -> None:
    choose = Seeded(share)
    count: Counter[str] = Counter()
    documents = policies(choose, 3)
    for number in range(EDITS // SHARES):
        if number % 12 == 0:
            documents = policies(choose, 3)
        after = edited(choose, documents)
        found = find_loosening(documents, after)
        if found is not None:
            count["loosened"] += 1
            assert is_witness(found, documents, after), (share, number, found)
            continue
        count["tighter"] += 1
        for _ in range(6):
            ends = [end_of({**labels(choose), LABEL_TENANT: "default", LABEL_NETWORK: "other"}) for _ in range(2)]
            outside = (end_of(pick(choose, OUTSIDE)), End(PeerKind.HOST, ""), End(PeerKind.GROUP, ""))
            pair = [ends[0], pick(choose, (ends[1], *outside))]
            if pair[1].kind is not PeerKind.GROUP and flag(choose):
                pair.reverse()
            protocol = pick(choose, PROTOCOLS)
            packet = protocol, number_for(choose, protocol)
            if pair[1].kind is PeerKind.GROUP:
                taken = [
                    judge_end(each, ends[1].station, Direction.INGRESS, pair[1], *packet).allowed
                    for each in (documents, after)
                ]
                now = taken[1] and allows(after, *pair, *packet)
                assert not now or (taken[0] and allows(documents, *pair, *packet)), (share, number)
            else:
                now = allows(after, *pair, *packet)
                assert not now or allows(documents, *pair, *packet), (share, number)
                assert not now or not is_oftener(documents, after, *pair, *packet), (share, number)
    assert min(count.values()) > EDITS // SHARES // 10


def opened(app: str, number: int) -> Document:
    rule = EgressRule(name="out", action=Action.ALLOW, peers=(Peer(world=True),), ports=(Port("TCP", number),))
    return Document(Kind.POLICY, "p", PolicySpec(**HEAD, subject=Subject(match_labels={"app": app}), egress=(rule,)))


def test_a_label_that_no_vm_has_yet_counts():
    assert find_loosening((opened("a", 80),), (opened("b", 80),)) is not None
    assert find_loosening((opened("a", 80),), (opened("a", 80),)) is None
    assert find_loosening((opened("a", 80),), ()) is None


def test_what_cannot_be_decided_is_never_called_tighter():
    many = tuple(
        msgspec.structs.replace(
            opened("a", 80),
            name=f"p{place}",
            spec=msgspec.structs.replace(opened("a", 80).spec, subject=Subject(match_labels={f"k{place}": "v"})),
        )
        for place in range(8)
    )
    with pytest.raises(Undecided):
        find_loosening(many, many[1:])


def test_equal_policies_are_equal_whatever_names_will_mean():
    rule = EgressRule(name="up", action=Action.ALLOW, peers=(Peer(dns="a.example.org"),))
    spec = PolicySpec(description="d", owner="o", reason="r", review="2030-01-01", egress=(rule,))
    named = Document(Kind.POLICY, "names", spec)
    assert find_loosening((named, opened("a", 1)), (opened("a", 1), msgspec.structs.replace(named, line=7))) is None
    with pytest.raises(Undecided):
        find_loosening((named,), (msgspec.structs.replace(named, name="others"),))
    with pytest.raises(Undecided):
        find_loosening((opened("a", 1),), (named, named))


def test_time_counts_in_whatever_state_it_can_be():
    ending = opened("a", 80)
    rule = msgspec.structs.replace(ending.spec.egress[0], until="2030-01-01T00:00:00Z")
    ending = msgspec.structs.replace(ending, spec=msgspec.structs.replace(ending.spec, egress=(rule,)))
    assert find_loosening((opened("a", 80),), (ending,)) is None
    assert find_loosening((ending,), (opened("a", 80),)) is not None
    hours = ScheduleSpec(("mon",), "09:00", "17:00", "UTC")
    timed = msgspec.structs.replace(opened("a", 80), spec=msgspec.structs.replace(opened("a", 80).spec, schedule=hours))
    assert find_loosening((opened("a", 80),), (timed,)) is None
    assert find_loosening((timed,), (opened("a", 80),)) is not None


def test_a_rate_that_is_dropped_is_a_loosening():
    rule = msgspec.structs.replace(opened("a", 80).spec.egress[0], rate_limit=RateLimitSpec(3, 10))
    rated = msgspec.structs.replace(opened("a", 80), spec=msgspec.structs.replace(opened("a", 80).spec, egress=(rule,)))
    assert find_loosening((opened("a", 80),), (rated,)) is None
    assert find_loosening((rated,), (opened("a", 80),)) is not None
    slower = msgspec.structs.replace(rule, rate_limit=RateLimitSpec(3, 20))
    spec = msgspec.structs.replace(rated.spec, egress=(slower,))
    assert find_loosening((rated,), (msgspec.structs.replace(rated, spec=spec),)) is None
