"""Rules that never decide, that mean nobody, that contradict each other: named, and nothing else is."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.program import Direction
from buckler.offline.command import policy
from buckler.policy.draft import draft_pool
from buckler.policy.judgement import End, PeerKind
from buckler.policy.pool import singled_out, stations
from buckler.policy.questions import find_oddities
from buckler.policy.reference import find_end, judge_end
from tests.policyworld import SHOP
from tests.randompolicy import ENDPOINTS, OUTSIDE, PORT_NUMBERS, Drawn, number_for, world

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
HEAD = "description: d, owner: o, reason: r, review: 2030-01-01"


def run(*words: str) -> Result:
    return CliRunner().invoke(policy, words)


@pytest.mark.proof
@QUICK
@given(st.data())
def test_a_rule_that_is_called_idle_never_decides(data):
    choose = Drawn(data.draw)
    documents = world(choose)
    draft = draft_pool(documents)
    idle = {
        (each.subject, each.text.partition(":")[0]) for each in find_oddities(draft.pool, documents, draft.numbers, "2029-01-01")
        if each.kind in {"shadowed", "unmatched"} and "/" in each.subject
    }  # fmt: skip
    found = stations(draft.pool, singled_out(documents))
    ends = [find_end(draft.pool, documents, "net", each) for each in (*OUTSIDE, *ENDPOINTS, "10.9.0.1")]
    ends += [End(PeerKind.VM, each.addresses[0], each) for each in found] + [End(PeerKind.GROUP, "")]
    for station in found:
        for end in ends:
            for protocol, port in [
                *((6, each) for each in PORT_NUMBERS),
                (17, 443),
                (1, number_for(choose, 1)),
                (47, 0),
            ]:
                for side in Direction:
                    judged = judge_end(documents, station, side, end, protocol, port)
                    if judged.rule is not None:
                        assert (f"{judged.rule.policy}/{judged.rule.rule}", side.name.lower()) not in idle


def policies(tmp_path: Path, *specs: str) -> str:
    path = tmp_path / "policies.yaml"
    text = "\n---\n".join(
        f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: p{number}, tenant: shop}}\nspec: {{{HEAD}, {spec}}}"
        for number, spec in enumerate(specs)
    )
    path.write_text(text)
    return str(path)


def asked(question: str, path: str) -> list[str]:
    answer = run(
        question,
        "--inventory",
        str(SHOP / "vms.yaml"),
        "--inventory",
        str(SHOP / "network.yaml"),
        "-f",
        path,
        "-o",
        "json",
    )
    found = [each["subject"] for each in json.loads(answer.stdout)]
    assert answer.exit_code == (1 if found else 0)
    return found


def test_the_second_of_two_rules_for_the_same_is_shadowed(tmp_path: Path):
    late = "{name: late, action: deny, to: [{world: true}], ports: [{protocol: TCP, port: 80}]}"
    rules = (
        f"{{name: all, action: allow}}, {late}, {{name: groups, action: deny}}"  # a denial of everyone means groups too
    )
    path = policies(tmp_path, f"subject: {{}}, egress: [{rules}]")
    assert asked("shadowed", path) == ["p0/late"]
    assert asked("unmatched", path) == []


def test_what_a_rule_that_ends_takes_is_not_taken_for_ever(tmp_path: Path):
    first = "subject: {}, order: 1, egress: [{name: all, action: allow}]"
    later = "subject: {}, order: 2, egress: [{name: shut, action: deny, to: [{world: true}]}]"
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"))
    told = [
        run("shadowed", *files, "-f", policies(tmp_path, first + end, later), "-o", "json").stdout
        for end in ("", ", until: '2100-01-01T00:00:00Z'")
    ]
    assert ["never decides" in each for each in told] == [True, False]
    assert "does not decide at this time" in told[1]


def test_of_two_rules_of_one_name_only_the_direction_that_is_idle_is_told(tmp_path: Path):
    closed = "egress: [{name: shut, action: deny}, {name: all, action: allow}], ingress: [{name: all, action: allow}]"
    path = policies(tmp_path, f"subject: {{}}, {closed}")
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    answer = run("shadowed", *files, "-o", "json")
    assert [(each["subject"], each["text"].partition(":")[0]) for each in json.loads(answer.stdout)] == [
        ("p0/all", "egress")
    ]


def test_a_rule_for_nobody_is_unmatched(tmp_path: Path):
    path = policies(tmp_path, "subject: {matchLabels: {app: no-such}}, egress: [{name: all, action: allow}]")
    assert set(asked("unmatched", path)) == {"p0/all", "Policy p0"}
    assert asked("shadowed", path) == []


def test_two_policies_of_one_order_that_disagree_are_in_conflict(tmp_path: Path):
    one = "subject: {}, egress: [{name: open, action: allow, ports: [{protocol: TCP, port: 80, endPort: 90}]}]"
    other = "subject: {}, egress: [{name: shut, action: deny, ports: [{protocol: TCP, port: 85}]}]"
    assert asked("conflicts", policies(tmp_path, one, other)) == ["p0/open"]
    assert asked("conflicts", policies(tmp_path, one, other.replace("85", "91"))) == []
    assert asked("conflicts", policies(tmp_path, one, other.replace("deny", "reject"))) == ["p0/open"]


def test_who_can_reach_and_what_can_be_reached():
    files = ("--inventory", str(SHOP), "-o", "json")
    into = {each["from"] for each in json.loads(run("who-can-reach", "db", *files).stdout)}
    out = {each["to"] for each in json.loads(run("what-can-reach", "web1", *files).stdout)}
    assert into == {"app"}
    assert "app" in out
    assert "db" not in out
    assert run("who-can-reach", "nobody", *files).exit_code == 1


def test_reviews_that_are_past_are_named(tmp_path: Path):
    path = policies(tmp_path, "subject: {}, egress: [{name: all, action: allow}]")
    assert asked("reviews", path) == []
    Path(path).write_text(Path(path).read_text().replace("2030", "2020"))
    assert asked("reviews", path) == ["Policy p0"]


def test_a_staged_rule_is_judged_in_the_draft(tmp_path: Path):
    late = "{name: late, action: deny, to: [{world: true}], ports: [{protocol: TCP, port: 80}]}"
    draft = f"mode: staged, subject: {{}}, egress: [{{name: all, action: allow}}, {late}]"
    assert asked("shadowed", policies(tmp_path, draft)) == ["p0/late"]


def test_outside_its_hours_no_rule_is_called_idle(tmp_path: Path):
    hours = (dt.datetime.now(dt.UTC) + dt.timedelta(days=2)).strftime("%a").lower()
    schedule = f'schedule: {{days: [{hours}], from: "00:00", to: "24:00", timezone: UTC}}'
    rules = "egress: [{name: all, action: deny}]"
    path = policies(tmp_path, f"{schedule}, subject: {{}}, {rules}")
    Path(path).write_text(
        Path(path).read_text()
        + "\n---\napiVersion: buckler.io/v1\nkind: Exception\nmetadata: {name: e, tenant: shop}\n"
        + 'spec: {owner: o, reason: r, until: "2190-01-01T00:00:00Z", action: allow, policy: p0, rule: all}\n'
    )
    assert asked("shadowed", path) == []


def test_a_rule_whose_name_nobody_answered_is_not_called_idle(tmp_path: Path):
    updates = "{name: updates, action: allow, to: [{dns: updates.example.org}]}"
    assert asked("shadowed", policies(tmp_path, f"subject: {{}}, egress: [{updates}]")) == []


def test_the_last_line_of_a_check_tells_warnings_from_problems(tmp_path: Path):
    path = policies(tmp_path, "subject: {}, egress: [{name: all, action: allow}]")
    Path(path).write_text(Path(path).read_text().replace("2030", "2020"))
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    assert run("check", *files).stdout.splitlines()[-1].endswith("documents, 1 warning")


def test_an_end_that_is_no_end_is_hinted_at_and_icmp_is_told_by_type():
    files = ("--inventory", str(SHOP))
    assert "did you mean 'web1'" in run("explain", "wbe1", "db", "22", *files).output
    assert "no network has a gateway" in run("explain", "web1", "host", "22", *files).output
    assert "ask by one address of it" in run("explain", "web1", "203.0.113.0/24", "22", *files).output
    assert "ICMP type 8 code 0 from web1 to db" in run("explain", "web1", "db", "icmp", *files).output


def test_who_can_reach_tells_addresses_outside_by_prefixes(tmp_path: Path):
    office = "{name: office, action: allow, from: [{cidr: 203.0.113.0/26}], ports: [{protocol: TCP, port: 443}]}"
    path = policies(tmp_path, f"subject: {{matchLabels: {{tier: web}}}}, ingress: [{office}]")
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    asked = [
        ("who-can-reach", "web1", [({"blocks": ["203.0.113.0/26"]}, "web1")]),
        ("what-can-reach", "203.0.113.0/24", [({"blocks": ["203.0.113.0/26"]}, web) for web in ("web1", "web2")]),
        ("what-can-reach", "203.0.113.9", [({"blocks": ["203.0.113.9/32"]}, web) for web in ("web1", "web2")]),
        ("what-can-reach", "203.0.113.64/26", []),
        ("who-can-reach", "203.0.113.9", []),
        ("who-can-reach", "host", []),
        ("who-can-reach", "shop/db", []),
    ]
    for question, end, wanted in asked:
        answer = run(question, end, *files, "-o", "json")
        assert answer.exit_code == 0, answer.output
        assert [(each["from"], each["to"]) for each in json.loads(answer.stdout)] == wanted, (question, end)
    assert "203.0.113.0/26" in run("who-can-reach", "web1", *files).stdout
    assert run("who-can-reach", "203.0.113.9", *files).output == "nobody\n"


def test_who_can_reach_says_what_is_no_end_and_what_is_not_outside():
    files = ("--inventory", str(SHOP))
    for end, told in {
        "wbe1": "did you mean 'web1'",
        "10.50.0.1/8": "bits behind its length are set",
        "": "X is empty",
    }.items():
        answer = run("who-can-reach", end, *files)
        assert (answer.exit_code, answer.stdout) == (1 if end else 2, "")
        assert told in answer.stderr
    inside = run("who-can-reach", "10.50.0.0/24", *files)
    assert inside.exit_code == 0
    assert "is db in network shop" in inside.stderr
    assert "more" in inside.stderr


def test_what_a_selector_may_have_meant_is_said(tmp_path: Path):
    peers = "{vm: {matchLabels: {teir: web}}}, {vm: {matchLabels: {tier: web, app: other}}}, {vm: {matchExpressions: [{key: tier, operator: In, values: [dbb]}]}}"
    rest = (
        f"ingress: [{{name: odd, action: allow, from: [{peers}, {{vm: {{matchLabels: {{tier: web, app: shop}}}}}}]}}]"
    )
    path = policies(tmp_path, f"subject: {{matchLabels: {{tier: wbe}}}}, {rest}")
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    told = run("unmatched", *files).stdout
    for words in (
        "tier=wbe: no tier is wbe (did you mean 'web'?)",
        "teir=web: nothing has the label teir (did you mean 'tier'?)",
        "tier=web,app=other: no app is other",
        "tier in (dbb): no tier is dbb (did you mean 'db'?)",
    ):
        assert words in told
    assert told.count("a selector of it matches nothing") == 4
    assert "buckler.io/tenant" not in told


def test_near_names_are_those_of_the_policys_own_tenant(tmp_path: Path):
    path = policies(tmp_path, "subject: {matchLabels: {tier: wbe}}, ingress: [{name: all, action: allow}]")
    Path(path).write_text(Path(path).read_text().replace("tenant: shop", "tenant: other"))
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    told = run("unmatched", *files).stdout
    assert "tenant other has no VM and no endpoint" in told
    assert "web'?" not in told


def test_what_is_odd_is_asked_of_another_time(tmp_path: Path):
    shut = "{name: shut, action: deny, until: '2029-01-01T00:00:00Z'}"
    path = policies(tmp_path, f"subject: {{}}, egress: [{shut}, {{name: open, action: allow}}]")
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path, "-o", "json")
    for at, wanted in {"2028-01-01T00:00:00Z": ["p0/open"], "2029-06-01T00:00:00Z": []}.items():
        assert [each["subject"] for each in json.loads(run("shadowed", *files, "--at", at).stdout)] == wanted
    assert json.loads(run("reviews", *files, "--at", "2031-01-01T00:00:00Z").stdout)
    assert run("shadowed", "--at", "2031-01-01T00:00:00Z").exit_code == 2
    assert run("shadowed", *files, "--at", "soon").exit_code == 2


def test_only_questions_that_can_be_given_answers_ask_for_them(tmp_path: Path):
    path = policies(tmp_path, "subject: {}, egress: [{name: up, action: allow, to: [{dns: a.example.org}]}]")
    files = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"), "-f", path)
    asking = {
        name: "--names FILE" in run(name, *words, *files).stderr
        for name, words in {
            **dict.fromkeys(("shadowed", "unmatched", "conflicts", "unprotected", "reviews", "check"), ()),
            "who-can-reach": ("web1",),
            "reach": (),
            "explain": ("web1", "db", "1"),
        }.items()
    }
    assert {name for name, is_asking in asking.items() if is_asking} == {"who-can-reach", "reach", "explain"}
    for name in ("who-can-reach", "reach", "explain", "diff"):
        assert "--names" in run(name, "--help").stdout
    assert "--names FILE" in run("diff", "--against", str(SHOP), *files).stderr


def test_everything_that_cannot_be_read_is_told_at_once(tmp_path: Path):
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    answer = run(
        "check", "-f", str(tmp_path / "odd.yaml"), "-f", str(tmp_path / "gone.yaml"), "-f", str(tmp_path / "empty")
    )
    assert answer.exit_code == 2
    for words in ("odd.yaml is not UTF-8", "gone.yaml cannot be read", "empty holds no"):
        assert words in answer.stderr
