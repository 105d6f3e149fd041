"""Quarantine: nothing opens a VM in it but policies of its own tier, and those open no other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.label import LABEL_QUARANTINE, REMEDIATION
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import resolve_pool
from buckler.policy.documents import read_documents
from buckler.policy.language import (
    Action,
    Document,
    EgressRule,
    FlowSpec,
    IngressRule,
    Kind,
    Peer,
    PolicySpec,
    Subject,
    Tier,
)
from buckler.policy.packet import Packet
from buckler.policy.pool import identity_key
from buckler.policy.quarantine import opens_quarantine_only
from buckler.policy.reference import judge
from buckler.policy.resolve import find_interval
from buckler.policy.source import Source
from tests.policyworld import Store
from tests.randompolicy import (
    OUTSIDE,
    Chooser,
    Drawn,
    flag,
    labels,
    network,
    number_for,
    peer,
    pick,
    policies,
    port,
    several,
    vm,
)

WORDS = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01"}
REMEDIATED = Subject(match_labels={LABEL_QUARANTINE: REMEDIATION})
QUICK = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
CLOSED_VM, REMEDIATED_VM, OTHER_REMEDIATED, FREE, ALSO_FREE = (f"vm{number}" for number in range(5))


def repair(choose: Chooser, index: int) -> Document:
    """A random policy as the quarantine tier takes it, by any action."""
    action = pick(choose, (Action.ALLOW, Action.ALLOW, Action.DENY, Action.PASS))
    order, overridable = choose.number(0, 2), flag(choose, 3)
    far, ports = several(choose, 1, 2, peer), several(choose, 0, 2, port)
    near = (Peer(vm=REMEDIATED),)
    head = {**WORDS, "tier": Tier.QUARANTINE, "order": order}
    if flag(choose):
        ends = {"sources": near, "destinations": far} if flag(choose) else {"sources": far, "destinations": near}
        spec = FlowSpec(**head, **ends, action=action, overridable=overridable, ports=ports)
        return Document(Kind.FLOW, f"q{index}", spec)
    rule = {"name": "r", "action": action, "overridable": overridable, "peers": far, "ports": ports}
    sides = {"ingress": (IngressRule(**rule),)} if flag(choose) else {"egress": (EgressRule(**rule),)}
    return Document(Kind.POLICY, f"q{index}", PolicySpec(**head, subject=REMEDIATED, **sides))


def world(choose: Chooser) -> tuple[Document, ...]:
    vms = [vm(index, labels(choose)) for index in range(5)]
    above = [each for each in policies(choose) if getattr(each.spec, "tier", None) is not Tier.QUARANTINE]
    return (network(), *vms, *above, *(repair(choose, index) for index in range(choose.number(0, 3))))


def packet(choose: Chooser) -> Packet:
    six = flag(choose)
    insiders = [f"fd09::{number + 10:x}" if six else f"10.9.0.{number + 10}" for number in range(5)]
    ends = [*insiders, *(each for each in OUTSIDE if (":" in each) == six)]
    protocol = pick(choose, (6, 17, 58 if six else 1))
    return Packet("net", pick(choose, insiders), pick(choose, ends), protocol, number_for(choose, protocol))


@pytest.mark.proof
@QUICK
@given(st.data())
def test_a_vm_in_quarantine_speaks_by_its_own_tier_or_not_at_all(data: st.DataObject) -> None:
    choose = Drawn(data.draw)
    documents = world(choose)
    pool = Store().pool(documents, quarantined=(CLOSED_VM,), remediated=(REMEDIATED_VM, OTHER_REMEDIATED))
    for _ in range(10):
        asked = packet(choose)
        answer = judge(pool, documents, asked)
        ends = [each for each in (answer.egress, answer.ingress) if each is not None]
        names = {each.station.vm.name for each in ends}
        quarantined = names & {CLOSED_VM, REMEDIATED_VM, OTHER_REMEDIATED}
        if not quarantined or (len(names) == 1 and len(ends) == 2):
            continue
        assert not answer.passes or names & {REMEDIATED_VM, OTHER_REMEDIATED}
        if CLOSED_VM in names or len(quarantined) > 1:
            assert not answer.passes
        for each in ends:
            assert each.rule is not None, "a quarantine decides at both ends"
            assert each.rule.tier in {Tier.QUARANTINE, Tier.EMERGENCY}
            if each.allowed:
                assert (each.rule.tier, each.rule.action) == (Tier.QUARANTINE, Action.ALLOW)


@pytest.mark.proof
@QUICK
@given(st.data())
def test_between_vms_that_are_free_the_quarantine_tier_says_nothing(data: st.DataObject) -> None:
    choose = Drawn(data.draw)
    documents = world(choose)
    without = tuple(each for each in documents if getattr(each.spec, "tier", None) is not Tier.QUARANTINE)
    pool = Store().pool(documents, quarantined=(CLOSED_VM,), remediated=(REMEDIATED_VM, OTHER_REMEDIATED))
    for _ in range(10):
        asked = packet(choose)
        answer = judge(pool, documents, asked)
        ends = [each for each in (answer.egress, answer.ingress) if each is not None]
        if {each.station.vm.name for each in ends} <= {FREE, ALSO_FREE}:
            assert answer.allowed == judge(pool, without, asked).allowed


@pytest.mark.proof
@QUICK
@given(st.data())
def test_the_compiler_says_of_quarantine_what_the_reference_says(data: st.DataObject) -> None:

    choose = Drawn(data.draw)
    documents, store = world(choose), Store()
    pool = store.pool(documents, quarantined=(CLOSED_VM,), remediated=(REMEDIATED_VM, OTHER_REMEDIATED))
    numbers = store.allocate(pool, documents)
    resolved = resolve_pool(pool, documents, numbers)
    for _ in range(10):
        asked = packet(choose)
        answer = judge(pool, documents, asked)
        if answer.egress is None or answer.ingress is None:
            continue
        for end, direction in ((answer.egress, Direction.EGRESS), (answer.ingress, Direction.INGRESS)):
            assert end.peer.station is not None
            here = numbers.identities[identity_key(end.station.labels)]
            there = numbers.identities[identity_key(end.peer.station.labels)]
            table = resolved.programs[here].table(there, direction)
            found = find_interval(table, asked.protocol, asked.port)
            assert (found.verdict is Verdict.ALLOW) == end.allowed


def test_a_shield_that_observes_enforces_a_quarantine() -> None:
    document = vm(0, {})
    observed = Document(
        document.kind,
        document.name,
        type(document.spec)(document.spec.uuid, document.spec.interfaces, ShieldMode.OBSERVE),
    )
    assert Store().pool((network(), observed)).vms[0].mode is ShieldMode.OBSERVE
    assert Store().pool((network(), observed), quarantined=("vm0",)).vms[0].mode is ShieldMode.ENFORCE


TEXT = """\
apiVersion: buckler.io/v1
kind: {kind}
metadata: {{name: q}}
spec: {{description: d, owner: o, reason: r, review: 2030-01-01, tier: quarantine, {rest}}}
"""
LABEL = "{vm: {matchLabels: {buckler.io/quarantine: remediation}}}"


@pytest.mark.parametrize(
    ("kind", "rest", "is_right"),
    [
        ("Flow", f"from: [{LABEL}], to: [{{vm: {{}}}}]", True),
        ("Flow", f"from: [{{world: true}}], to: [{LABEL}]", True),
        ("Flow", f"from: [{LABEL}, {{vm: {{}}}}], to: [{{vm: {{}}}}]", False),
        ("Flow", "from: [{vm: {}}], to: [{vm: {}}]", False),
        ("Flow", "from: [{vm: {matchLabels: {buckler.io/quarantine: 'true'}}}], to: [{vm: {}}]", False),
        ("Flow", "from: [{vm: {matchExpressions: [{key: buckler.io/quarantine, operator: Exists}]}}], to: [{vm: {}}]", False),
        ("Policy", f"subject: {LABEL[5:-1]}, egress: [{{action: allow}}]", True),
        ("Policy", "subject: {}, egress: [{action: deny}]", False),
    ],
)  # fmt: skip
def test_the_quarantine_tier_takes_only_what_has_a_remediated_vm_at_one_end(
    kind: str, rest: str, is_right: bool
) -> None:
    reading = read_documents([Source("q.yaml", TEXT.format(kind=kind, rest=rest))])
    problems = [each.message for each in reading.problems]
    assert problems == [] if is_right else "the quarantine tier is for" in problems[0]
    for document in reading.documents:
        assert isinstance(document.spec, PolicySpec | FlowSpec)
        assert opens_quarantine_only(document.spec)
