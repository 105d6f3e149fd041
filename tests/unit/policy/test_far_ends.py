"""Policies at the host and at the edge: what they may say, and what they do to a VM's connections."""

from __future__ import annotations

import pytest

from buckler.model.operatorapi.answers import Outside, PortRange, ReachPair
from buckler.model.program import Verdict
from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.explain import explain
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.identity import missing_numbers
from buckler.policy.language import Document, PolicySpec, Stand
from buckler.policy.packet import Packet
from buckler.policy.pairs import reach_pairs
from buckler.policy.questions import find_oddities
from buckler.policy.reference import judge
from buckler.policy.source import Source
from buckler.policy.tighten import find_loosening
from buckler.policy.timing import parse_moment
from tests.policyworld import Store
from tests.randompolicy import network, vm

HEAD = "description: d, owner: o, reason: r, review: 2030-01-01"
POOL = (network(), vm(0, {"app": "web"}), vm(1, {"app": "db"}))
WEB, DB, HOST, OUT = "10.9.0.10", "10.9.0.11", "10.9.0.1", "203.0.113.7"


def text(kind: str, name: str, spec: str) -> str:
    return f"---\napiVersion: buckler.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{HEAD}, {spec}}}\n"


def read(*texts: str) -> tuple[Document, ...]:
    reading = read_documents([Source("p.yaml", "".join(texts))])
    assert not reading.problems, reading.problems
    return reading.documents


OPEN = text("Policy", "open", "subject: {}, ingress: [{action: allow}], egress: [{action: allow}]")
AT_HOST = text(
    "Policy",
    "host",
    "tier: security, subject: {host: true}, "
    "ingress: [{action: allow, from: [{vm: {matchLabels: {app: web}}}], ports: [{protocol: TCP, port: 9100}]}]",
)
AT_EDGE = text(
    "Policy", "edge", "tier: security, subject: {edge: true}, egress: [{action: allow, to: [{cidr: 203.0.113.0/24}]}]"
)


def allowed(documents: tuple[Document, ...], source: str, to: str, port: int = 9100) -> bool:
    made = (*POOL, *documents)
    return judge(Store().pool(made), made, Packet("net", source, to, 6, port)).allowed


@pytest.mark.parametrize(
    ("origin", "to", "port", "wanted"),
    [
        (WEB, HOST, 9100, True),
        (WEB, HOST, 9101, False),
        (DB, HOST, 9100, False),
        (HOST, DB, 22, True),
        (WEB, DB, 1, True),
        (WEB, OUT, 443, True),
    ],
)
def test_the_host_denies_by_default_in_the_direction_of_its_policies_alone(
    origin: str, to: str, port: int, wanted: bool
) -> None:
    documents = read(OPEN, AT_HOST)
    assert allowed(read(OPEN), origin, to, port)
    assert allowed(documents, origin, to, port) is wanted


@pytest.mark.parametrize(
    ("origin", "to", "wanted"),
    [(WEB, OUT, True), (WEB, "198.51.100.1", False), ("198.51.100.1", WEB, True), (WEB, HOST, True), (WEB, DB, True)],
)
def test_the_edge_is_the_border_to_the_world(origin: str, to: str, wanted: bool) -> None:
    assert allowed(read(OPEN, AT_EDGE), origin, to) is wanted


def test_a_far_end_opens_nothing_by_itself() -> None:
    assert not allowed(read(AT_HOST), WEB, HOST)
    assert not allowed(read(AT_EDGE), WEB, OUT)


def test_an_observed_policy_makes_no_opinion() -> None:
    observed = AT_HOST.replace("tier: security", "tier: security, mode: observe")
    assert allowed(read(OPEN, observed), DB, HOST)


def test_a_staged_policy_asks_in_the_draft_alone() -> None:
    staged = AT_HOST.replace("tier: security", "tier: security, mode: staged")
    documents = (*POOL, *read(OPEN, staged))
    pool = Store().pool(documents)
    packets = {name: Packet("net", address, HOST, 6, 9100) for name, address in (("web", WEB), ("db", DB))}
    told = {name: judge(pool, documents, packet).egress for name, packet in packets.items()}
    assert all(each is not None and each.allowed for each in told.values())
    enforced = (*POOL, *read(OPEN, AT_HOST))
    for name, packet in packets.items():
        later = judge(pool, enforced, packet).egress
        assert told[name] is not None
        assert later is not None
        assert told[name].staged is not None
        assert told[name].staged.verdict is later.verdict, name
    assert told["db"] is not None
    assert told["db"].staged is not None
    assert told["db"].staged.verdict is Verdict.DENY
    assert "has no say yet" in explain(pool, documents, "vm1", HOST, "TCP", 9100).paths[0].sides[1].text


def test_a_flow_of_the_pool_stands_at_the_far_end_and_a_tenants_does_not() -> None:
    flow = text("Flow", "f", "tier: TIER, from: [{vm: {matchLabels: {app: db}}}], to: [{host: true}]")
    assert allowed(read(OPEN, AT_HOST, flow.replace("TIER", "security")), DB, HOST)
    assert not allowed(read(OPEN, AT_HOST, flow.replace("TIER", "tenant")), DB, HOST)
    world = text("Flow", "f", "tier: security, from: [{vm: {matchLabels: {app: db}}}], to: [{cidr: 198.51.100.0/24}]")
    assert allowed(read(OPEN, AT_EDGE, world), DB, "198.51.100.1")
    assert not allowed(read(OPEN, AT_EDGE, world), WEB, "198.51.100.1")


def test_explain_names_both_ends() -> None:
    documents = (*POOL, *read(OPEN, AT_HOST))
    pool = Store().pool(documents)
    told = explain(pool, documents, "vm1", HOST, "TCP", 9100)
    (path,) = told.paths
    assert [(side.at, side.verdict, side.policy) for side in path.sides] == [
        ("", "allow", "open"),
        ("host", "deny", ""),
    ]
    assert told.verdict == "deny"
    assert "(for the host)" in told.text
    assert explain(pool, documents, "vm0", HOST, "TCP", 9100).paths[0].sides[1].policy == "host"


def test_reach_counts_the_edge() -> None:
    documents = (*POOL, *read(OPEN, AT_EDGE))
    store = Store()
    pool = store.pool(documents)
    pairs = {
        (each.origin, each.to): each.allowed for each in reach_pairs(pool, documents, store.allocate(pool, documents))
    }
    named = Outside(("203.0.113.0/24",))
    others = Outside(("0.0.0.0/0", "::/0"), named.blocks)
    assert not pairs["vm0", others]
    assert pairs["vm0", named]
    assert pairs["world", "vm0"]


def test_a_policy_at_a_far_end_is_tighter_never_looser() -> None:
    assert find_loosening(read(OPEN), read(OPEN, AT_HOST, AT_EDGE)) is None
    packet = find_loosening(read(OPEN, AT_HOST), read(OPEN))
    assert packet is not None
    assert "host" in (packet.origin, packet.to)
    packet = find_loosening(read(OPEN, AT_EDGE), read(OPEN))
    assert packet is not None
    assert isinstance(packet.to, str)


def test_its_rules_are_neither_shadowed_nor_unmatched() -> None:
    flow = text("Flow", "f", "tier: security, from: [{vm: {matchLabels: {app: db}}}], to: [{host: true}]")
    documents = (*POOL, *read(OPEN, AT_HOST, AT_EDGE, flow))
    store = Store()
    pool = store.pool(documents)
    assert not missing_numbers(pool, documents, store.allocate(pool, documents))
    found = find_oddities(pool, documents, store.numbers, "2029-01-01")
    assert not [each for each in found if "host" in each.subject or "edge" in each.subject]


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("subject: {host: true}, ingress: [{action: deny}]", "belongs to the pool"),
        ("tier: platform, subject: {edge: true}, ingress: [{action: allow}]", "never allow"),
        (
            "tier: security, subject: {host: true, edge: true}, ingress: [{action: deny}]",
            "VMs, or the host, or the edge",
        ),
        ("tier: security, subject: {host: true, matchLabels: {a: b}}, ingress: [{action: deny}]", "VMs, or the host"),
        ("tier: security, subject: {host: false}, ingress: [{action: deny}]", "can only be true"),
        ("tier: security, subject: {host: true}, ingress: [{action: deny, from: [{world: true}]}]", "nothing to do"),
        ("tier: security, subject: {edge: true}, ingress: [{action: deny, from: [{vm: {}}]}]", "nothing to do"),
        ("tier: security, subject: {edge: true}, egress: [{action: allow, service: web}]", "VMs of the pool"),
        ("tier: quarantine, subject: {host: true}, ingress: [{action: deny}]", "quarantine tier"),
        ("subject: {}, egress: [{action: allow, to: [{edge: true}]}]", "edge is no word here"),
    ],
)
def test_what_such_a_policy_cannot_say_is_refused(spec: str, word: str) -> None:
    reading = read_documents([Source("p.yaml", text("Policy", "p", spec))])
    assert any(word in each.message for each in reading.problems), reading.problems


def test_the_canonical_form_is_read_again() -> None:
    for document in read(AT_HOST, AT_EDGE, OPEN):
        again = document_from_dict(document_to_dict(document))
        assert again.spec == document.spec
    spec = read(AT_HOST)[0].spec
    assert isinstance(spec, PolicySpec)
    assert spec.subject.stand is Stand.HOST


HOURS = 'schedule: {days: [mon, tue, wed, thu, fri, sat, sun], from: "22:00", to: "06:00", timezone: UTC}'
NIGHT = text(
    "Policy", "night", f"tier: security, order: 10, subject: {{edge: true}}, {HOURS}, egress: [{{action: deny}}]"
)
VISIT = text(
    "Policy",
    "visit",
    "tier: security, order: 10, subject: {host: true}, until: 2030-01-02T00:00:00Z, ingress: [{action: allow}]",
)
NOON, MIDNIGHT = (int(parse_moment(f"2030-01-01T{each}:00:00Z")) for each in ("12", "23"))


def objections(*texts: str) -> list[str]:
    return [f"{each.message} ({each.hint})" for each in check_documents(read(*texts)) if "always holds" in each.message]


def asker_of(written: str) -> str:
    return "host" if "host: true" in written else "edge"


def test_what_ends_at_a_far_end_stands_beside_what_always_holds() -> None:
    for timed, asker in ((NIGHT, AT_EDGE), (VISIT, AT_HOST)):
        assert "without until and schedule" in objections(OPEN, timed)[0]
        assert objections(OPEN, asker, timed) == []
        assert objections(OPEN, AT_HOST if asker is AT_EDGE else AT_EDGE, timed)
        inward = "egress" if asker is AT_HOST else "ingress"
        assert objections(
            OPEN,
            text(
                "Policy",
                "other",
                f"tier: security, subject: {{{asker_of(asker)}: true}}, {inward}: [{{action: allow}}]",
            ),
            timed,
        )
        staged = asker.replace("tier: security", "tier: security, mode: staged")
        assert objections(OPEN, staged, timed)
        assert objections(OPEN, staged, timed.replace("tier: security", "tier: security, mode: staged")) == []
        assert objections(OPEN, timed.replace("tier: security", "tier: security, mode: observe")) == []


@pytest.mark.parametrize(
    ("at", "edge", "host"), [(NOON, True, True), (MIDNIGHT, False, True), (MIDNIGHT + 86400, False, False)]
)
def test_hours_and_ends_hold_at_the_edge_and_the_host(at: int, edge: bool, host: bool) -> None:
    draft = draft_pool((*POOL, *read(OPEN, AT_EDGE, AT_HOST, NIGHT, VISIT)), at)
    found = {
        (to, port): explain(draft.pool, draft.documents, "vm0", to, "TCP", port)
        for to, port in ((OUT, 443), (HOST, 22))
    }
    assert [each.verdict == "allow" for each in found.values()] == [edge, host]
    pairs = {each.to: each.allowed for each in pairs_of(draft, "vm0")}
    assert (PortRange("any") in pairs["host"]) is host
    assert bool(pairs.get(Outside(("203.0.113.0/24",)))) is edge
    if at == NOON:
        assert "Until 2030-01-01T22:00:00Z" in str(found[OUT, 443])
        assert "Until 2030-01-02T00:00:00Z" in str(found[HOST, 22])


def test_a_rule_that_ended_goes_on_asking_and_says_nothing() -> None:
    for side, other in (("ingress", "from"), ("egress", "to")):
        ended = text(
            "Policy",
            "ended",
            f"tier: security, subject: {{host: true}}, {side}: [{{action: allow, until: 2030-01-01T00:00:00Z, {other}: [{{any: true}}]}}]",
        )
        for at, wanted in ((NOON - 86400, True), (NOON, False)):
            draft = draft_pool((*POOL, *read(OPEN, ended)), at)
            ends = ("vm0", "host") if side == "ingress" else ("host", "vm0")
            assert (explain(draft.pool, draft.documents, *ends, "TCP", 22).verdict == "allow") is wanted
            pairs = {(each.origin, each.to): each.allowed for each in pairs_of(draft)}
            assert bool(pairs[ends]) is wanted


def pairs_of(draft: Draft, origin: str = "") -> tuple[ReachPair, ...]:
    return reach_pairs(draft.pool, draft.documents, draft.numbers, origin=origin)
