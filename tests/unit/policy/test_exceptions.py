"""Exceptions touch the one rule that they name, of their own tenant and tier, for a time; and no other."""

from __future__ import annotations

import pytest

from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.explain import explain
from buckler.policy.problem import Severity
from buckler.policy.source import Source
from buckler.policy.timing import active, parse_moment
from tests.policyworld import Store

NOW = parse_moment("2026-06-01T12:00:00Z")
POOL = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: netN#, tenant: TENANT}
spec: {bridge: brN#, cidrs: [10.9.0.0/24]}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: a, tenant: TENANT, labels: {app: a}}
spec: {uuid: 50500000-0000-4000-8000-0000000000N#1, interfaces: [{mac: "52:54:00:09:0N#:01", network: netN#, addresses: [10.9.0.11]}]}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: b, tenant: TENANT, labels: {app: b}}
spec: {uuid: 50500000-0000-4000-8000-0000000000N#2, interfaces: [{mac: "52:54:00:09:0N#:02", network: netN#, addresses: [10.9.0.12]}]}
---
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: open, tenant: TENANT}
spec: {description: d, owner: o, reason: r, review: 2030-01-01, from: [{vm: {}}], to: [{vm: {}}]}
---
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: shut, tenant: TENANT}
spec:
  description: d
  owner: o
  reason: r
  review: 2030-01-01
  order: 5
  subject: {}
  ingress: [{name: no, action: reject, ports: [{protocol: TCP, port: 22}, {protocol: TCP, port: 23}]}, {name: no-telnet, action: deny, ports: [{protocol: TCP, port: 23}]}]
"""
SECURITY = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: guard}
spec:
  description: d
  owner: o
  reason: r
  review: 2030-01-01
  tier: security
  subject: {}
  ingress: [{name: no, action: deny, ports: [{protocol: TCP, port: 25}]}]
"""


def pool(tenant: str, number: int) -> str:
    return POOL.replace("TENANT", tenant).replace("N#", str(number))


def exception(tenant: str = "one", **spec: str) -> str:
    given = {
        "owner": "o",
        "reason": "r",
        "until": "2026-07-01T00:00:00Z",
        "action": "allow",
        "policy": "shut",
        "rule": "no",
    }
    body = ", ".join(f"{key}: {value}" for key, value in {**given, **spec}.items() if value)
    return f"apiVersion: buckler.io/v1\nkind: Exception\nmetadata: {{name: x, tenant: {tenant}}}\nspec: {{{body}}}\n"


def problems(*texts: str) -> list[str]:
    reading = read_documents(Source(f"f{place}", text) for place, text in enumerate(texts))
    found = (*reading.problems, *check_documents(reading.documents))
    return [str(each) for each in found if each.severity is Severity.ERROR]


def verdicts(*texts: str, at: int = NOW) -> dict[tuple[str, int], str]:
    assert not problems(*texts)
    reading = read_documents(Source(f"f{place}", text) for place, text in enumerate(texts))
    documents = active(reading.documents, at).documents
    known = Store().pool(documents)
    return {
        (tenant, port): explain(known, documents, f"{tenant}/a", f"{tenant}/b", "TCP", port).verdict
        for tenant in ("one", "two")
        for port in (22, 23, 24, 25)
    }


BARE = (pool("one", 1), pool("two", 2), SECURITY)
CLOSED = {22: "deny", 23: "deny", 24: "allow", 25: "deny"}


def test_without_one_the_rules_hold():
    assert verdicts(*BARE) == {(tenant, port): said for tenant in ("one", "two") for port, said in CLOSED.items()}


def test_it_opens_what_its_rule_refuses_in_its_tenant_alone_until_its_end():
    changed = verdicts(*BARE) | {("one", 22): "allow", ("one", 23): "allow"}
    assert verdicts(*BARE, exception()) == changed
    assert verdicts(*BARE, exception(), at=parse_moment("2026-07-01T00:00:00Z")) == verdicts(*BARE)


def test_it_is_narrowed_by_ports_subject_and_peers():
    narrow = verdicts(*BARE) | {("one", 22): "allow"}
    assert verdicts(*BARE, exception(ports="[{protocol: TCP, port: 22}]")) == narrow
    b, a = "{matchLabels: {app: b}}", "{matchLabels: {app: a}}"
    assert verdicts(*BARE, exception(subject=b, **{"from": f"[{{vm: {a}}}]"}))["one", 22] == "allow"
    assert verdicts(*BARE, exception(subject=a)) == verdicts(*BARE)
    assert verdicts(*BARE, exception(**{"from": f"[{{vm: {b}}}]"})) == verdicts(*BARE)


def test_a_disabled_rule_leaves_it_to_the_next():
    found = verdicts(*BARE, exception(action="disable"))
    assert (found["one", 22], found["one", 23]) == ("allow", "deny"), "the policy's next rule speaks of 23"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (exception(tenant="two", policy="guard"), "tenant two has no policy 'guard'"),
        (exception(tenant="default", policy="guard"), "of the security tier"),
        (exception(tenant="two", policy="guard", tier="security"), "tenant two has no policy"),
        (exception(rule="nothing"), "no rule 'nothing'"),
        (exception(policy="buckler:quarantine", rule="ingress"), "right form"),
        (exception(policy="", rule="", flow="open"), "refuses nothing"),
        (exception(policy="", flow="open", action="disable"), "a flow has no rule"),
        (exception(to="[{vm: {}}]"), "is an ingress rule"),
        (exception(until=""), "until is missing"),
        (exception(until="2026-07-01"), "offset is required"),
        (exception(until="2026-07-01T00:00:00"), "offset is required"),
        (exception(until="2026-02-30T00:00:00Z"), "a day and time that exist"),
        (exception(until="9999-12-31T23:59:59Z"), "from 1971 to 2199"),
        (exception(until="0001-01-01T00:00:00+14:00"), "from 1971 to 2199"),
        (exception(until="٢٠٢٦-07-01T00:00:00Z"), "offset is required"),
    ],
)
def test_what_it_cannot_be(text: str, said: str):
    found = problems(*BARE, text)
    assert any(said in each for each in found), found


def test_one_of_the_pool_states_its_tier():
    found = verdicts(*BARE, exception(tenant="default", policy="guard", tier="security", rule="no"))
    assert {found["one", 25], found["two", 25]} == {"allow"}


def test_a_policy_that_an_exception_names_stays():
    assert any(
        "has no policy 'guard'" in each for each in problems(exception("default", policy="guard", tier="security"))
    )
