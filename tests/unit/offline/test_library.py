"""The shipped policies can be written, are right in themselves, do what they say; edits of them are held against them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buckler.offline.command import policy
from buckler.policy.crosscheck import check_documents
from buckler.policy.instances import packet_words
from buckler.policy.shelf import BadParameters, check_shipped, list_shipped, write_shipped
from buckler.policy.tighten import Loosening, find_loosening

GIVEN = {"tenant": "shop", "owner": "shop-team", "review": "2030-01-31"}
NAMES = sorted(list_shipped())


def run(*words: str) -> Result:
    return CliRunner().invoke(policy, words)


def written(name: str, **given: str) -> str:
    shipped = list_shipped()[name]
    needed = {each.name: GIVEN[each.name] for each in shipped.parameters if each.default is None}
    return write_shipped(shipped, {**needed, **given})


@pytest.mark.parametrize("name", NAMES)
def test_each_is_right_in_itself(name: str):
    reading = check_shipped(name, written(name))
    assert not reading.problems
    assert reading.documents
    assert not check_documents(reading.documents)


def test_the_library_holds_what_is_promised():
    assert set(NAMES) >= {
        "three-tier",
        "database-isolation",
        "management-protection",
        "remediation",
        "default-deny-tenant",
        "quarantine",
        "brownfield-observation",
    }


@pytest.mark.parametrize("value", ["a b", "{x: y}", "a\nb", "", "&a", "a: b", "'"])
def test_a_parameter_is_a_word_and_never_yaml(value: str):
    with pytest.raises(BadParameters):
        write_shipped(list_shipped()["default-deny-tenant"], {**GIVEN, "owner": value})


def test_missing_and_unknown_parameters_are_named_at_once():
    with pytest.raises(BadParameters) as bad:
        write_shipped(list_shipped()["three-tier"], {"colour": "blue"})
    assert len(bad.value.args) == 4


def test_an_edit_that_opens_is_told_with_a_packet(tmp_path: Path):
    shipped, stricter, looser = (tmp_path / f"{name}.yaml" for name in ("shipped", "stricter", "looser"))
    text = re.sub(
        r"  instance: .*\n", "", written("three-tier")
    )  # documents of one's own: ``check`` lets them be edited
    shipped.write_text(text)
    stricter.write_text(text.replace("{world: true}", "{cidr: 203.0.113.0/24}"))
    looser.write_text(text.replace("port: 5432", "port: 5432, endPort: 5433"))
    assert run("tightens", "--against", str(shipped), "-f", str(stricter)).exit_code == 0
    answer = run("tightens", "--against", str(shipped), "-f", str(looser))
    assert answer.exit_code == 1
    assert "TCP 5433" in answer.output
    assert run("tightens", "--against", str(stricter), "-f", str(shipped)).exit_code == 1


def test_database_isolation_keeps_tenants_from_opening_a_database():
    tenant = check_shipped("t", written("three-tier", database_port="5433")).documents
    isolated = check_shipped("d", written("database-isolation")).documents
    assert find_loosening(tenant, (*tenant, *isolated)) is None
    assert find_loosening((*tenant, *isolated), tenant) is not None


def test_observing_decides_nothing():
    tenant = check_shipped("t", written("three-tier")).documents
    watching = check_shipped("b", written("brownfield-observation")).documents
    assert find_loosening(tenant, (*tenant, *watching)) is None
    assert find_loosening((*tenant, *watching), tenant) is None


def test_the_command_prints_documents_that_apply_takes():
    words = [word for name, value in GIVEN.items() for word in ("--set", f"{name}={value}")]
    answer = run("library", "three-tier", *words)
    assert answer.exit_code == 0
    assert len(check_shipped("x", answer.stdout).documents) == 3
    assert run("library", "nothing").exit_code == 1
    assert "three-tier" in run("library").stdout


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("web_port=99999", "web_port=99999: 99999 is out of range (0 to 65535)"),
        ("web_port=http", "web_port=http: "),
        ("review=2030-02-31", "review=2030-02-31: "),
        ("tenant=SHOP", "tenant=SHOP: "),
    ],
)
def test_what_check_would_refuse_is_not_printed_and_the_parameter_is_named(word: str, told: str):
    given = {**GIVEN, **dict([word.split("=")])}
    answer = run("library", "three-tier", *(each for pair in given.items() for each in ("--set", "=".join(pair))))
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert told in answer.stderr


def test_documents_are_json_where_that_is_asked_for():
    given = (each for pair in GIVEN.items() for each in ("--set", "=".join(pair)))
    answer = run("library", "three-tier", *given, "-o", "json")
    reading = check_shipped("three-tier.json", answer.stdout)
    assert not reading.problems
    assert {each.key: each.spec for each in reading.documents} == {
        each.key: each.spec for each in check_shipped("x", written("three-tier")).documents
    }


@pytest.mark.parametrize(
    ("protocol", "port", "told"),
    [
        (6, 22, "TCP 22 from"),
        (1, 8 << 8, "ICMP type 8 code 0 from"),
        (0, 0, "a packet of a protocol other than TCP, UDP"),
    ],
)
def test_a_witness_is_told_as_people_ask_for_it(protocol: int, port: int, told: str):
    words = packet_words(Loosening({"tier": "web"}, "192.0.2.1", protocol, port))
    assert words.startswith(told)
    assert words.endswith("from VM {tier: web} to 192.0.2.1")
