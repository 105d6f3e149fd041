"""Which rules met nothing for so long: only what is known is called unused."""

from __future__ import annotations

import pytest

from buckler.policy.documents import read_documents
from buckler.policy.language import Document
from buckler.policy.source import Source
from buckler.policy.usage import DAY, Counted, find_unused, sum_counted

HEAD = "description: d, owner: o, reason: r, review: 2030-01-01"
NOW = 1000 * DAY


def read(kind: str, spec: str) -> Document:
    text = f"apiVersion: buckler.io/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{{HEAD}, {spec}}}\n"
    reading = read_documents([Source("p.yaml", text)])
    assert not reading.problems, reading.problems
    return reading.documents[0]


POLICY = read("Policy", "subject: {}, ingress: [{name: a, action: allow}, {name: b, action: deny}]")


def found(
    counted: dict[str, Counted], days: int, written: float = 0, document: Document = POLICY
) -> dict[str, tuple[float, bool]]:
    every = {("p", rule): each for rule, each in counted.items()}
    return {each.rule: (each.since, each.is_known) for each in find_unused([(document, written)], every, NOW, days)}


@pytest.mark.parametrize(
    ("last", "days", "wanted"),
    [
        (NOW - DAY, 0, None),
        (NOW - DAY, 2, None),
        (NOW - 3 * DAY, 2, (NOW - 3 * DAY, True)),
        (0.0, 2, (0.0, False)),
        (0.0, 0, None),
    ],
)
def test_a_rule_that_counted(last: float, days: int, wanted: tuple[float, bool] | None) -> None:
    assert found({"a": Counted(5, last), "b": Counted(1, NOW)}, days).get("a") == wanted


@pytest.mark.parametrize(
    ("written", "days", "known"), [(NOW - 3 * DAY, 0, True), (NOW - 3 * DAY, 2, True), (NOW - DAY, 2, False)]
)
def test_a_rule_that_never_counted_is_known_to_be_unused_as_long_as_it_is_there(
    written: float, days: int, known: bool
) -> None:
    assert found({"b": Counted(1, NOW)}, days, written) == {"a": (written, known)}


@pytest.mark.parametrize(
    ("kind", "spec", "rules"),
    [
        ("Policy", "subject: {}, ingress: [{name: a, action: pass}, {name: b, action: deny}]", {"b"}),
        ("Policy", "subject: {}, mode: observe, ingress: [{name: a, action: deny}]", set()),
        (
            "Policy",
            "subject: {host: true}, tier: security, ingress: [{name: a, action: allow}, {name: b, action: deny}]",
            {"b"},
        ),
        ("Flow", "from: [{vm: {}}], to: [{world: true}]", {"egress"}),
        ("Flow", "from: [{vm: {}}], to: [{vm: {}}]", {"egress", "ingress"}),
        ("Flow", "from: [{world: true}], service: s", {"ingress"}),
        ("Flow", "action: pass, from: [{vm: {}}], to: [{vm: {}}]", set()),
    ],
)
def test_only_rules_that_are_counted_are_judged(kind: str, spec: str, rules: set[str]) -> None:
    assert set(found({}, 0, document=read(kind, spec))) == rules


def test_counts_of_one_rule_are_put_together() -> None:
    told = [("p", "a", 2, 5.0), ("p", "a", 3, 4.0), ("p", "b", 0, 9.0), ("q", "a", 1, 0.0)]
    assert sum_counted(told) == {("p", "a"): Counted(5, 5.0), ("q", "a"): Counted(1, 0.0)}
