"""Overrides of shipped policies only tighten: what allows more is refused with a packet, offline and by the controller."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from buckler.controller.changes import Wanted, plan_change
from buckler.controller.problems import Refused
from buckler.offline.command import policy
from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.problem import Problem
from buckler.policy.shelf import list_shipped, write_shipped
from buckler.policy.source import Source

GIVEN = {"tenant": "shop", "owner": "shop-team", "review": "2030-01-31"}
GROUP = (
    "---\napiVersion: buckler.io/v1\nkind: AddressGroup\nmetadata: {name: partners, tenant: shop}\n"
    "spec: {cidrs: [203.0.113.0/24]}\n"
)


def printed(name: str) -> str:
    shipped = list_shipped()[name]
    needed = {each.name: GIVEN[each.name] for each in shipped.parameters if each.default is None}
    return write_shipped(shipped, needed)


def problems(text: str) -> list[Problem]:
    reading = read_documents([Source("p.yaml", text)])
    assert not reading.problems, reading.problems
    return [each for each in check_documents(reading.documents) if each.path == "spec.instance"]


@pytest.mark.parametrize("name", sorted(list_shipped()))
def test_what_the_library_prints_says_whose_instance_it_is(name: str) -> None:
    reading = read_documents([Source("p.yaml", printed(name))])
    assert not reading.problems
    for document in reading.documents:
        assert document.spec.instance.library == name  # type: ignore[union-attr]
        assert document_from_dict(document_to_dict(document)).spec == document.spec
    assert not problems(printed(name))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("three-tier", "{world: true}", "{cidr: 203.0.113.0/24}"),
        ("three-tier", "description: Web servers ask the application", "description: another word"),
        ("three-tier", 'review: "2030-01-31"', 'review: "2031-01-31"'),
        ("database-isolation", "action: pass, from", "action: deny, from"),
        ("management-protection", "order: 100\n  subject", "order: 100\n  mode: enforce\n  subject"),
        ("three-tier", '  review: "2030', '  until: "2031-01-01T00:00:00Z"\n  review: "2030'),
        ("three-tier", '  review: "2030', '  mode: staged\n  review: "2030'),
        ("database-isolation", "action: deny", "action: reject"),
        ("quarantine", "{protocol: TCP, port: 443}", "{protocol: TCP, port: 443, endPort: 443}"),
    ],
)
def test_a_stricter_edit_is_taken(name: str, old: str, new: str) -> None:
    text = printed(name)
    assert old in text
    assert not problems(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("three-tier", "port: 5432}", "port: 5432, endPort: 5433}", "TCP 5433 from VM"),
        ("three-tier", "from: [{world: true}]", "from: [{any: true}]", "allows more"),
        ("database-isolation", "- {name: begins-nothing, action: deny}", "- {name: x, action: pass}", "allows more"),
        ("database-isolation", "  tier: security\n", "  tier: security\n  mode: observe\n", "allows more"),
        ("database-isolation", "  tier: security\n", "  tier: security\n  mode: staged\n", "allows more"),
        ("database-isolation", '  review: "2030', '  until: "2031-01-01T00:00:00Z"\n  review: "2030', "allows more"),
        ("database-isolation", "  tier: security\n", "  tier: baseline\n", "another tier or order"),
        ("management-protection", "order: 100\n", "order: 101\n", "another tier or order"),
        ("management-protection", "  ingress:\n", "  egress: [{name: x, action: pass}]\n  ingress:\n", "allows more"),
        (
            "management-protection",
            "  ingress:\n",
            "  egress: [{name: x, action: allow, to: [{vm: {}}]}]\n  ingress:\n",
            "allows more",
        ),
        ("default-deny-tenant", "name: default-deny,", "name: another,", "no such document"),
        ("three-tier", '"library": "three-tier"', '"library": "four-tier"', "the library has no 'four-tier'"),
        ("three-tier", '"web_port": "443"', '"web_port": "80"', "allows more"),
        ("three-tier", '"web_port": "443"', '"web_prt": "443"', "cannot be written"),
        ("three-tier", '"web_port": "443"', '"web_port": "{x: y}"', "cannot be written"),
        ("three-tier", '"web_port": "443"', '"web_port": "https"', "cannot be written"),
    ],
)
def test_a_looser_edit_is_refused_with_a_packet(name: str, old: str, new: str, told: str) -> None:
    text = printed(name)
    assert old in text
    found = problems(text.replace(old, new))
    assert found
    assert any(told in each.message for each in found), found


@pytest.mark.parametrize("rule", ["{name: x, action: pass}", "{name: x, action: allow, from: [{vm: {}}]}"])
def test_an_instance_does_not_speak_for_what_it_left_to_others(rule: str) -> None:
    """Later policies of the tier refuse what it says nothing of: a pass, or an allowance at one end, would go before them."""
    assert any(
        "allows more" in each.message for each in problems(f"{printed('management-protection').rstrip()}\n  - {rule}\n")
    )


def test_an_instance_is_whole_or_not_there() -> None:
    parts = printed("three-tier").split("---\n")
    assert any("it is missing" in each.message for each in problems("---\n".join(parts[:2])))
    own = re.sub(r"  instance: .*\n", "", parts[2])
    assert any("it is missing" in each.message for each in problems("---\n".join([*parts[:2], own])))


def test_what_an_edit_names_is_looked_into() -> None:
    text = printed("three-tier").replace("{world: true}", "{addresses: partners}") + GROUP
    assert not problems(text)
    inner = printed("three-tier").replace("to: [{vm: {matchLabels: {tier: database}}}]", "to: [{addresses: partners}]")
    assert any("allows more" in each.message for each in problems(inner + GROUP))


def test_what_cannot_be_decided_is_refused() -> None:
    many = ", ".join(f"{{key: k{place}, operator: Exists}}" for place in range(12))
    text = printed("three-tier").replace("{matchLabels: {tier: web}}", f"{{matchExpressions: [{many}]}}")
    assert any("not known whether" in each.message for each in problems(text))


def test_the_commands_refuse_it(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(printed("three-tier"))
    assert CliRunner().invoke(policy, ["check", "-f", str(file)]).exit_code == 0
    file.write_text(printed("three-tier").replace("port: 8080}", "port: 8080}, {protocol: TCP, port: 22}"))
    answer = CliRunner().invoke(policy, ["check", "-f", str(file)])
    assert answer.exit_code == 1
    assert "TCP 22 from VM" in answer.output


def test_the_controller_refuses_it() -> None:
    reading = read_documents(
        [Source("p.yaml", printed("three-tier").replace("port: 8080}", "port: 8080, endPort: 8081}"))]
    )
    with pytest.raises(Refused) as refused:
        plan_change({}, reading, Wanted())
    (issue,) = refused.value.problem.problems
    assert "TCP 8081" in issue.message
