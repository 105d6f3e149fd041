"""Documents: every problem at once, with file, line, path and hint; the shop's own are right."""

from __future__ import annotations

import pytest

from buckler.model.operatorapi.answers import Outside
from buckler.policy.crosscheck import check_documents, merge_documents
from buckler.policy.documents import read_documents
from buckler.policy.explain import explain
from buckler.policy.form import document_from_dict, document_to_dict, origin_to_dict
from buckler.policy.language import Kind
from buckler.policy.pairs import reach_pairs
from buckler.policy.party import UnknownEnd
from buckler.policy.problem import Severity, has_errors
from buckler.policy.source import MAX_DEPTH, Source
from tests.policyworld import Store, shop_documents

HEAD = "description: d, owner: o, reason: r, review: 2030-01-01"


def problems(text: str) -> list[str]:
    reading = read_documents([Source("a.yaml", text)])
    found = [*reading.problems, *check_documents(reading.documents)]
    return [str(each) for each in found]


def policy(spec: str, metadata: str = "name: p") -> str:
    return (
        f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{{metadata}}}\nspec: {{{HEAD}, subject: {{}}, {spec}}}\n"
    )


def vm(name: str, spec: str, metadata: str = "") -> str:
    return f"apiVersion: buckler.io/v1\nkind: VM\nmetadata: {{name: {name}{metadata}}}\nspec: {{{spec}}}\n"


NETWORK = "apiVersion: buckler.io/v1\nkind: Network\nmetadata: {name: net}\nspec: {bridge: br0, cidrs: [10.0.0.0/24]}\n"
UUID = "uuid: 50500000-0000-4000-8000-00000000000"


def test_the_shop_has_no_errors_and_warns_of_its_overlap():
    found = check_documents(shop_documents())
    assert not has_errors(found)
    assert {each.severity for each in found} == {Severity.WARNING}
    assert all("overlaps" in each.message for each in found)


def test_the_shop_survives_storage():
    for document in shop_documents():
        again = document_from_dict(document_to_dict(document), origin_to_dict(document))
        assert (again.spec, again.key, again.labels, again.line) == (
            document.spec,
            document.key,
            document.labels,
            document.line,
        )
        assert document_to_dict(again) == document_to_dict(document)


def test_every_problem_is_told_at_once_with_its_line_and_a_hint():
    text = """apiVersion: buckler.io/v1
kind: Policy
metadata:
  name: p
spec:
  descripton: d
  owner: o
  reason: r
  review: soon
  subject: {}
  ingress:
    - action: allow
      ports: [{protocol: TCP, port: 70000}]
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: v}
spec:
  uuid: x
"""
    found = problems(text)
    assert len(found) == 5
    assert any(
        each.startswith("a.yaml:6: spec.descripton: ") and "did you mean 'description'?" in each for each in found
    )
    assert any("description is missing" in each for each in found)
    assert any(each.startswith("a.yaml:9: spec.review: ") for each in found)
    assert any(each.startswith("a.yaml:13: spec.ingress[0].ports[0].port: 70000 is out of range") for each in found)
    assert any(each.startswith("a.yaml:19: spec.uuid: ") for each in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (policy("ingress: [{action: tarpit}]"), "tarpit is not implemented yet"),
        (policy("ingress: [{action: allow, inspect: web}]"), "inspect is not implemented yet"),
        (policy("expires: 2030-01-01, ingress: [{action: allow}]"), "expires is no word here"),
        (policy("ingress: [{action: allow, from: [{users: [a]}]}]"), "users is not implemented yet"),
        (policy("ingress: [{action: allow, ports: [{protocol: TCP, type: 8}]}]"), "TCP has no type"),
        (policy("ingress: [{action: allow, ports: [{protocol: ICMP, port: 8}]}]"), "ICMP has no ports"),
        (policy("ingress: [{action: allow, ports: [{protocol: TCP, port: 9, endPort: 8}]}]"), "is empty"),
        (policy("ingress: [{action: allow, from: [{world: true, host: true}]}]"), "exactly one kind"),
        (policy("ingress: [{action: allow, from: [{cidr: 10.0.0.1/8}]}]"), "has not the right form"),
        (policy("ingress: [{action: allow, from: []}]"), "names no peer"),
        (policy("tier: platform, ingress: [{action: allow}]"), "never allow"),
        (policy("tier: security, ingress: [{action: deny}]", "name: p, tenant: a"), "belongs to the pool"),
        (
            policy("ingress: [{action: allow, from: [{vm: {matchLabels: {buckler.io/tenant: b}}}]}]"),
            "selects within tenant default only",
        ),
        (
            policy("ingress: [{action: allow, from: [{vm: {matchExpressions: [{key: a, operator: In}]}}]}]"),
            "needs values",
        ),
        (vm("v", UUID + "1", ", labels: {buckler.io/quarantine: 'true'}"), "Buckler's own"),
        (vm("v", UUID + "1, interfaces: [{mac: '01:00:00:00:00:01', network: net}]"), "group address"),
        (
            vm("v", UUID + "1, interfaces: [{mac: 52:54:00:00:00:01, network: ent}]") + "---\n" + NETWORK,
            "did you mean 'net'?",
        ),
        (vm("v", UUID + "1") + "---\n" + vm("w", UUID + "1"), "is VM v's"),
        (NETWORK + "---\n" + NETWORK, "given twice"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases are not taken"),
        ("a: !!python/object:os.system {}\n", "is not taken"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        ("a: 1\na: 2\n", "written twice"),
        ("apiVersion: buckler.io/v1\nkind: policy\nmetadata: {name: a}\nspec: {}\n", "did you mean 'Policy'?"),
        ("a: [1\n", "not YAML"),
        ("just words", "must be a mapping"),
        ("apiVersion: v1\nkind: VM\nmetadata: {name: a}\nspec: {}\n", "is not known"),
    ],
)
def test_bad_documents_are_refused_with_the_reason(text, said):
    assert any(said in each for each in problems(text)), problems(text)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ("mac: 52:54:00:00:00:01, network: net, addresses: [10.0.0.6]", "52:54:00:00:00:01 is VM v's"),
        ("mac: 52:54:00:00:00:02, network: net, addresses: [10.0.0.5]", "10.0.0.5 is VM v's"),
        ("mac: 52:54:00:00:00:02, network: net, addresses: [10.1.0.5]", "lies in no prefix"),
    ],
)
def test_two_vms_never_share_what_identifies_them(second, said):
    first = vm("v", UUID + "1, interfaces: [{mac: 52:54:00:00:00:01, network: net, addresses: [10.0.0.5]}]")
    text = "---\n".join((NETWORK, first, vm("w", f"{UUID}2, interfaces: [{{{second}}}]")))
    assert any(said in each for each in problems(text)), problems(text)


def test_a_later_document_replaces_its_namesake_and_deletion_takes_away():
    documents = shop_documents()
    web1 = next(each for each in documents if each.name == "web1")
    merged = merge_documents({each.key: each for each in documents}, [web1], ["VM/shop/db"])
    assert len(merged) == len(documents) - 1
    assert not has_errors(check_documents(merged, [web1]))


def test_the_shop_allows_its_tiers_and_nothing_else():
    documents = shop_documents()
    store = Store()
    pool = store.pool(documents)
    pairs = reach_pairs(pool, documents, store.allocate(pool, documents), tenant="shop")
    told = {
        (each.origin, each.to): {f"{port.protocol} {port.port}-{port.end_port}" for port in each.allowed}
        for each in pairs
        if each.allowed
    }
    echo = {"ICMP 2048-2048", "ICMPv6 32768-32768"}
    probes = ("10.50.0.100/32", "fd50::100/128")
    assert told == {
        **{(Outside(probes), web): {"TCP 80-80", *echo} for web in ("web1", "web2")},
        **{(Outside(("0.0.0.0/0", "::/0"), probes), web): {"TCP 80-80"} for web in ("web1", "web2")},
        ("web1", "app"): {"TCP 8080-8080", *echo},
        ("web2", "app"): {"TCP 8080-8080", *echo},
        ("app", "db"): {"TCP 5432-5432", *echo},
    }


def test_explain_names_the_document_and_line_at_both_ends():
    documents = shop_documents()
    pool = Store().pool(documents)
    told = explain(pool, documents, "web1", "db", "TCP", 5432)
    assert told.verdict == "deny"
    egress, ingress = told.paths[0].sides
    assert (egress.policy, egress.verdict) == ("", "deny")
    assert (ingress.policy, ingress.rule, ingress.tier) == ("protect-databases", "nobody-else", "security")
    assert ingress.file == "security.yaml"
    rules = next(each for each in documents if each.name == "protect-databases")
    assert ingress.line == rules.lines["spec.ingress[1]"]
    assert "rule nobody-else of policy protect-databases" in ingress.text
    outside = explain(pool, documents, "10.50.0.100", "web1", "tcp", 80)
    assert outside.verdict == "allow"
    with pytest.raises(UnknownEnd):
        explain(pool, documents, "nobody", "db", "TCP", 1)
    assert {each.kind for each in documents} >= {Kind.VM, Kind.NETWORK, Kind.POLICY, Kind.FLOW}


def test_a_list_is_its_items_and_each_problem_has_its_place():
    text = """apiVersion: buckler.io/v1
kind: List
items:
- {apiVersion: buckler.io/v1, kind: Network, metadata: {name: net}, spec: {bridge: br0}}
- {apiVersion: buckler.io/v1, kind: Network, metadata: {name: Other}, spec: {bridge: br1}}
"""
    reading = read_documents([Source("a.yaml", text)])
    assert [each.name for each in reading.documents] == ["net"]
    assert [str(each).split(":")[:3] for each in reading.problems] == [["a.yaml", "5", " items[1].metadata.name"]]
    assert any("is not known" in each for each in problems(text.replace("buckler.io/v1\nkind", "v9\nkind", 1)))
    assert any("must be a list" in each for each in problems("{apiVersion: buckler.io/v1, kind: List, items: {}}"))
    assert any("'List' is not known" in each for each in problems(text.replace("kind: Network", "kind: List", 1)))
