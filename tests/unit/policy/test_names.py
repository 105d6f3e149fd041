"""DNS names in policies: which may be written, what they mean where, and that all judges agree on answers."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from buckler.model.ids import IDENTITY_WORLD, IdentityNumber
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import resolve_pool
from buckler.policy.compose import compose_documents
from buckler.policy.documents import read_documents
from buckler.policy.language import Action, Document, FlowSpec, Peer, PolicySpec
from buckler.policy.learned import Learned, LearnedPeer, PatternPeer, is_meant, learned_groups, refuse_pattern
from buckler.policy.pool import identity_key, singled_out, stations
from buckler.policy.prefix import address_of, network_of
from buckler.policy.problem import Problem
from buckler.policy.reference import find_end, judge_end
from buckler.policy.resolve import find_interval
from buckler.policy.source import Source
from buckler.policy.tighten import Undecided, find_loosening
from tests.policyworld import Store
from tests.randompolicy import PORT_NUMBERS, Seeded, world

HEAD = "apiVersion: buckler.io/v1\n"
DUTY = "description: d, owner: o, reason: r, review: 2030-01-01"
PATTERNS = ("a.example", "*.a.example", "*.b.a.example", "c.example")
ASKED = ("a.example", "x.a.example", "x.b.a.example", "c.example", "other.example")
ADDRESSES = ("203.0.113.7", "203.0.113.200", "198.51.100.1", "2001:db8:1::1")


def problems_of(text: str) -> tuple[Problem, ...]:
    return read_documents([Source("f", HEAD + text)]).problems


def policy(rule: str, side: str = "egress") -> str:
    return f"kind: Policy\nmetadata: {{name: p}}\nspec: {{{DUTY}, subject: {{}}, {side}: [{rule}]}}\n"


@pytest.mark.parametrize("name", [
    "updates.example.org", "*.example.org", "a.b", "xn--bcher-kva.example", "*.xn--p1ai.example", "1.example", "a-b.example",
    "x" * 63 + ".example",
])  # fmt: skip
def test_names_that_can_be_learned(name: str) -> None:
    assert not problems_of(policy(f"{{action: allow, to: [{{dns: '{name}'}}]}}"))


@pytest.mark.parametrize("name", [
    "*", "*.", "*.org", "org", "**.example.org", "a.*.example.org", "*a.example.org", "a.example.org.", "A.example.org",
    "bücher.example", "xn--.example", "xn--bcher-kva8.example", "ab--cd.example", "-a.example", "a-.example",
    "a..example", ".example", "a_b.example", "192.0.2.1", "1.2.3.4", "2001:db8::1", "x" * 64 + ".example", "a b.example",
    ".".join(["abcdefgh"] * 30), "a.example/24", "a.example\\n", "", " ",
])  # fmt: skip
def test_what_is_no_name_is_refused(name: str) -> None:
    written = '"' + name + '"'
    assert problems_of(policy(f"{{action: allow, to: [{{dns: {written}}}]}}"))
    assert not name.strip() or refuse_pattern(name) or "\\" in name


@pytest.mark.parametrize(("rule", "side", "word"), [
    ("{action: allow, from: [{dns: a.example}]}", "ingress", "sender"),
    ("{action: deny, to: [{dns: a.example}]}", "egress", "what a rule is to deny"),
    ("{action: pass, to: [{dns: a.example}]}", "egress", "what a rule is to pass"),
    ("{action: allow, overridable: true, to: [{dns: a.example}]}", "egress", "overridable"),
    ("{action: allow, to: [{dns: a.example, cidr: 192.0.2.0/24}]}", "egress", "exactly one kind"),
    ("{action: allow, to: [{fqdn: a.example}]}", "egress", "fqdn"),
    ("{action: allow, to: [{dns: [a.example]}]}", "egress", "must be"),
])  # fmt: skip
def test_names_stand_only_where_an_unseen_answer_opens_nothing(rule: str, side: str, word: str) -> None:
    told = problems_of(policy(rule, side))
    assert any(word in f"{each.message} {each.path}" for each in told), told


def test_a_flow_may_go_to_a_name_and_not_come_from_one() -> None:
    flow = "kind: Flow\nmetadata: {name: f}\nspec: {%s, from: [%s], to: [%s]}\n"
    assert not problems_of(flow % (DUTY, "{vm: {}}", "{dns: a.example}"))
    assert problems_of(flow % (DUTY, "{dns: a.example}", "{vm: {}}"))


def test_nobody_can_write_the_group_of_a_name() -> None:
    written = "kind: AddressGroup\nmetadata: {name: 'dns:a.example'}\nspec: {cidrs: [192.0.2.0/24]}\n"
    assert problems_of(written)


@pytest.mark.parametrize(("pattern", "name", "wanted"), [
    ("a.example", "a.example", True), ("a.example", "x.a.example", False), ("*.a.example", "x.a.example", True),
    ("*.a.example", "x.y.a.example", True), ("*.a.example", "a.example", False), ("*.a.example", "xa.example", False),
    ("*.a.example", ".a.example", False), ("*.a.example", "x.a.example.evil", False), ("a.example", "xa.example", False),
])  # fmt: skip
def test_what_a_pattern_means(pattern: str, name: str, wanted: bool) -> None:
    assert is_meant(pattern, name) is wanted


def names_policy(*peers: Peer) -> Document:
    reading = read_documents([Source("f", HEAD + policy("{name: out, action: allow, to: [{dns: a.example}]}"))])
    (document,) = reading.documents
    assert isinstance(document.spec, PolicySpec)
    rule = msgspec.structs.replace(document.spec.egress[0], peers=peers or document.spec.egress[0].peers)
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, egress=(rule,)))


def test_without_an_answer_a_name_means_nobody_and_never_everyone() -> None:
    (composed,) = compose_documents([names_policy()])
    assert isinstance(composed.spec, PolicySpec)
    assert composed.spec.egress[0].peers == (PatternPeer(pattern="a.example"),)


def test_composing_twice_is_composing_once() -> None:
    document = names_policy(Peer(dns="a.example"), Peer(cidr="192.0.2.0/24"))
    groups = learned_groups(
        [document], [Learned("a.example", "net", "203.0.113.7", 100), Learned("b.example", "net", "::1")]
    )
    once = compose_documents([document, *groups])
    assert compose_documents(once) == once
    assert isinstance(once[0].spec, PolicySpec)
    assert LearnedPeer(cidr="203.0.113.7/32", network="net", until=100) in once[0].spec.egress[0].peers
    assert compose_documents([once[0]]) == once[:1], "also without the group"


def test_nothing_with_a_name_is_called_stricter() -> None:
    with pytest.raises(Undecided):
        find_loosening([], [names_policy()])
    with pytest.raises(Undecided):
        find_loosening([msgspec.structs.replace(names_policy(), name="other")], [names_policy()])
    assert find_loosening([names_policy()], [names_policy()]) is None, "what is equal is decided"
    assert find_loosening([names_policy()], []) is None


def test_an_answer_opens_in_its_own_network_alone() -> None:
    verdicts = Counter[tuple[str, bool]]()
    for seed in range(60):
        for network, address, allowed in _judge_all(seed):
            verdicts[f"{network} {address}", allowed] += 1
    assert {allowed for _, allowed in verdicts} == {True, False}


@pytest.mark.proof
def test_all_judges_agree_on_answers() -> None:
    count = Counter(allowed for seed in range(1000, 1400) for _, _, allowed in _judge_all(seed))
    assert min(count[True], count[False]) > 2000


def _judge_all(seed: int) -> list[tuple[str, str, bool]]:
    """Put names and answers into a random world; compare the reference with resolved tables, network by network."""
    choose = Seeded(seed)
    documents = tuple(_with_names(choose, each) for each in world(choose))
    store = Store()
    pool = store.pool(documents)
    networks = tuple(each.name for each in pool.networks)
    answers = [
        Learned(name, network, address, choose.number(0, 2) * 2_000_000_000)
        for name in ASKED for network in (*networks, "elsewhere") for address in ADDRESSES if choose.number(0, 5) == 0
    ]  # fmt: skip
    documents = (*documents, *learned_groups(documents, answers))
    numbers = store.allocate(pool, documents)
    resolved = resolve_pool(pool, documents, numbers)
    found = []
    for station in stations(pool, singled_out(documents)):
        program = resolved.programs[numbers.identities[identity_key(station.labels)]]
        for address in ADDRESSES:
            end = find_end(pool, documents, station.network.name, address)
            number = _number(address, resolved.prefixes, numbers.cidrs)
            for port in PORT_NUMBERS[:6]:
                judged = judge_end(documents, station, Direction.EGRESS, end, 6, port)
                said = find_interval(program.table(number, Direction.EGRESS), 6, port)
                assert (said.verdict == Verdict.ALLOW) is judged.allowed, f"{seed} {station.vm.name} {address} {port}"
                if judged.allowed:
                    until = said.terms.until if said.terms else 0
                    assert until == judged.until, f"{seed} {station.vm.name} {address} {port}"
                found.append((station.network.name, address, judged.allowed))
    return found


def _number(address: str, prefixes: tuple[str, ...], numbers: dict[str, IdentityNumber]) -> IdentityNumber:
    held = [each for each in prefixes if address_of(address) in network_of(each)]
    return numbers[max(held, key=lambda each: network_of(each).prefixlen)] if held else IDENTITY_WORLD


def _with_names(choose: Seeded, document: Document) -> Document:
    """Give allowing rules names as peers, here and there."""
    spec = document.spec
    if isinstance(spec, PolicySpec):
        egress = tuple(
            msgspec.structs.replace(rule, peers=(*rule.peers, *_names(choose)))
            if rule.action is Action.ALLOW and not rule.overridable and not rule.service and rule.peers
            else rule
            for rule in spec.egress
        )
        return msgspec.structs.replace(document, spec=msgspec.structs.replace(spec, egress=egress))
    if isinstance(spec, FlowSpec) and spec.action is Action.ALLOW and spec.destinations and not spec.overridable:
        more = (*spec.destinations, *_names(choose))
        return msgspec.structs.replace(document, spec=msgspec.structs.replace(spec, destinations=more))
    return document


def _names(choose: Seeded) -> tuple[Peer, ...]:
    return tuple(Peer(dns=each) for each in PATTERNS if choose.number(0, 2) == 0)
