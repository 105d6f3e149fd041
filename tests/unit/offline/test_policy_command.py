"""``buckler policy`` on files alone: answers and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from buckler.offline.command import policy
from tests.policyworld import SHOP

INVENTORY = ("--inventory", str(SHOP / "vms.yaml"), "--inventory", str(SHOP / "network.yaml"))
POLICIES = ("-f", str(SHOP / "policies.yaml"), "-f", str(SHOP / "security.yaml"))


def run(*words: str) -> Result:
    return CliRunner().invoke(policy, words)


def test_reach_lists_each_pair_that_may_talk_with_what():
    told = json.loads(run("reach", *INVENTORY, *POLICIES, "-o", "json").stdout)
    pairs = {(each["from"].get("vm"), each["to"].get("vm")): each["connections"] for each in told}
    assert {"protocol": "TCP", "ports": [[5432, 5432]]} in pairs["shop/app", "shop/db"]
    assert ("shop/web1", "shop/db") not in pairs
    assert all(each["from"].keys() | each["to"].keys() <= {"vm", "blocks"} for each in told)


def test_without_policies_nobody_may_talk():
    assert json.loads(run("reach", *INVENTORY, "-o", "json").stdout) == []


def test_check_says_everything_at_once_and_fails(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {name: x}\nspec: {subject: {}, ingres: []}\n")
    answer = run("check", *INVENTORY, "-f", str(bad))
    assert answer.exit_code == 1
    assert "ingres" in answer.stdout
    assert "description is missing" in answer.stdout


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_warnings_fail_only_when_that_is_asked_for(strict: tuple[str, ...], code: int):
    assert run("check", *INVENTORY, *POLICIES, *strict).exit_code == code


def test_explain_names_the_file_and_line_and_fails_on_another_verdict():
    answer = run("explain", "shop/web1", "db", "5432", *INVENTORY, *POLICIES, "--expect", "allow")
    assert answer.exit_code == 1
    assert "security.yaml line" in answer.stdout


def test_an_end_that_is_not_there_is_an_error():
    assert run("explain", "web9", "db", "5432", *INVENTORY, *POLICIES).exit_code == 1


def test_a_packet_that_cannot_be_is_an_error_with_a_reason_and_what_to_ask():
    answer = run("explain", "shop/web1", "8.8.8.8", "icmpv6/128", *INVENTORY, *POLICIES)
    assert answer.exit_code == 1
    assert "error: no such packet\nICMPv6 is not sent over IPv4" in answer.stderr
    assert "ask about icmp" in answer.stderr


def test_an_address_that_is_nobodys_is_told_so():
    answer = run("explain", "shop/web1", "127.0.0.1", "80", *INVENTORY, *POLICIES, "--expect", "deny")
    assert answer.exit_code == 0
    assert "127.0.0.1 is a loopback address" in answer.stdout
    asked = run("who-can-reach", "::1", *INVENTORY, *POLICIES)
    assert (asked.exit_code, asked.stdout) == (0, "")
    assert "note: ::1/128 is nobody's" in asked.stderr


def test_diff_names_the_office_that_a_rule_opens(tmp_path: Path):
    office = tmp_path / "office.yaml"
    spec = "description: d, owner: o, reason: r, review: 2030-01-01, subject: {matchLabels: {tier: web}}"
    rule = "{name: office, action: allow, from: [{addresses: offices}], ports: [{protocol: TCP, port: 22}]}"
    office.write_text(
        "apiVersion: buckler.io/v1\nkind: AddressGroup\nmetadata: {name: offices, tenant: shop}\n"
        "spec: {cidrs: [198.51.100.0/24]}\n---\n"
        f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: p, tenant: shop}}\nspec: {{{spec}, ingress: [{rule}]}}\n"
    )
    files = (*INVENTORY, *POLICIES, "-f", str(office), "--against", POLICIES[1], "--against", POLICIES[3])
    answer = run("diff", *files)
    assert answer.exit_code == 1, answer.output
    told = [line for line in answer.stdout.splitlines() if " → web1: " in line]
    assert len(told) == 1
    assert told[0].startswith("  198.51.100.0/24 → web1: ")
    assert "TCP 22" in told[0].partition("⇒")[2]
    assert {"blocks": ["198.51.100.0/24"]} in [
        each["from"] for each in json.loads(run("diff", *files, "-o", "json").stdout)["reach"]
    ]


def test_diff_tells_who_gains_and_loses_what(tmp_path: Path):
    fewer = tmp_path / "policies.yaml"
    text = (SHOP / "policies.yaml").read_text().replace("port: 8080", "port: 8081")
    fewer.write_text(text)
    same = run("diff", *INVENTORY, "--against", str(SHOP / "policies.yaml"), "-f", str(SHOP / "policies.yaml"))
    other = run("diff", *INVENTORY, "--against", str(SHOP / "policies.yaml"), "-f", str(fewer))
    assert (same.exit_code, same.stdout) == (0, "")
    assert other.exit_code == 1
    both = "TCP {}; ICMP type 8 code 0; ICMPv6 type 128 code 0"
    assert f"web1 → app: {both.format(8080)} ⇒ {both.format(8081)}" in other.stdout


def test_documents_with_problems_are_never_answered_about(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {name: x}\nspec: {}\n")
    for command, code in (("reach", 1), ("diff", 2)):
        against = ("--against", str(SHOP / "policies.yaml")) if command == "diff" else ()
        answer = run(command, *INVENTORY, "-f", str(bad), *against)
        assert answer.exit_code == code
        assert not answer.stdout


def test_no_files_at_all_is_wrong_usage():
    assert run("reach").exit_code == 2


def test_people_are_told_the_world_and_other_programs_its_prefixes(tmp_path: Path):
    vms = tmp_path / "vms.yaml"
    vms.write_text(Path(INVENTORY[1]).read_text().replace("spec:\n", "spec:\n  mode: observe\n", 1))
    asked = ("reach", "--inventory", str(vms), *INVENTORY[2:])
    assert "   world" in run(*asked).stdout
    assert {"blocks": ["0.0.0.0/0", "::/0"]} in [each["to"] for each in json.loads(run(*asked, "-o", "json").stdout)]


def test_who_only_observes_is_not_told_to_refuse(tmp_path: Path):
    vms = tmp_path / "vms.yaml"
    text = Path(INVENTORY[1]).read_text()
    vms.write_text(text.replace("spec:\n", "spec:\n  mode: observe\n", 1))
    told = run("explain", "db", "web1", "9", "--inventory", str(vms), *INVENTORY[2:]).stdout.splitlines()[1]
    assert told.endswith("is refused by the shield of db.")


def test_a_diff_of_files_speaks_of_before_and_after(tmp_path: Path):
    draft = tmp_path / "draft.yaml"
    draft.write_text(Path(POLICIES[1]).read_text().replace("\nspec:\n", "\nspec:\n  mode: staged\n", 1))
    answer = run("diff", *INVENTORY, "-f", str(draft), "-f", POLICIES[3], "--staged")
    assert answer.exit_code == 1, answer.output
    assert "--- before/" in answer.stdout
    assert "+++ after/" in answer.stdout
    told = run("explain", "web1", "db", "9", *INVENTORY, "-f", str(draft), "-f", POLICIES[3]).stdout
    assert "as no rule matches" not in told


def test_a_port_that_is_none_is_told_with_how_to_write_one():
    answer = run("explain", "web1", "db", "http", *INVENTORY, *POLICIES)
    assert answer.exit_code == 2
    assert "write 5432, 53/udp, icmp or icmpv6/135" in answer.stderr


def test_an_exception_of_another_tenant_than_its_policy_is_told_whose_it_is(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    document = next(
        each for each in yaml.safe_load_all(Path(POLICIES[1]).read_text()) if each["kind"] in {"Policy", "Flow"}
    )
    word = document["kind"].lower()
    bad.write_text(
        "apiVersion: buckler.io/v1\nkind: Exception\nmetadata: {name: e}\n"
        "spec: {owner: o, reason: r, until: 2030-01-01T00:00:00Z, action: disable, "
        f"{word}: {document['metadata']['name']}{', rule: x' if word == 'policy' else ''}}}\n"
    )
    answer = run("check", *INVENTORY, *POLICIES, "-f", str(bad))
    assert answer.exit_code == 1
    assert f"tenant {document['metadata']['tenant']} has one" in answer.stdout


def test_a_service_as_a_peer_is_told_once_and_where_it_stands(tmp_path: Path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {name: x}\nspec: {description: d, owner: o, reason: r, "
        "review: 2030-01-01, subject: {}, egress: [{action: allow, to: [{service: ssh}]}]}\n"
    )
    answer = run("check", *INVENTORY, "-f", str(bad))
    assert "service is no word here (write service: NAME in the rule" in answer.stdout
    assert "exactly one kind" not in answer.stdout


def test_check_warns_of_prefixes_that_are_nobodys_and_of_a_tenant_that_has_nobody(tmp_path: Path):
    odd = tmp_path / "odd.yaml"
    odd.write_text(
        "apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {name: x}\nspec: {description: d, owner: o, reason: r, "
        "review: 2099-01-01, subject: {matchLabels: {tier: web}}, egress: [{action: allow, to: [{cidr: 127.0.0.0/8}]}]}\n"
    )
    answer = run("check", *INVENTORY, "-f", str(odd))
    assert answer.exit_code == 0
    assert "127.0.0.0/8 is nobody's (no packet passes with such an address" in answer.stdout
    assert "tenant default has no VM and no endpoint (metadata.tenant" in answer.stdout


@pytest.mark.parametrize(("resolvers", "is_warned"), [("", True), (", resolvers: [10.7.0.2]", False)])
def test_check_warns_of_names_that_nobody_could_answer(tmp_path: Path, resolvers: str, is_warned: bool):
    files = tmp_path / "all.yaml"
    files.write_text(
        f"apiVersion: buckler.io/v1\nkind: Network\nmetadata: {{name: n}}\nspec: {{bridge: b, cidrs: [10.7.0.0/24]{resolvers}}}\n---\n"
        "apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {name: x}\nspec: {description: d, owner: o, reason: r, review: 2099-01-01, "
        "subject: {}, egress: [{action: allow, to: [{dns: www.example.org}]}]}\n"
    )
    answer = run("check", "-f", str(files))
    assert (
        "no network has a resolver that could answer www.example.org (state spec.resolvers" in answer.stdout
    ) is is_warned
