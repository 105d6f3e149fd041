"""Names in files: what they mean without answers, and with a list of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buckler.offline.command import policy

INVENTORY = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec: {bridge: br0, cidrs: [10.0.0.0/24], resolvers: [10.0.0.53]}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: web}
spec: {uuid: 00000000-0000-4000-8000-000000000001, interfaces: [{mac: '52:54:00:50:00:01', network: front, addresses: [10.0.0.1]}]}
---
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: out}
spec:
  {description: d, owner: o, reason: r, review: 2030-01-01, from: [{vm: {}}], to: [{dns: "*.example.org"}], ports: [{protocol: TCP, port: 443}]}
"""
ANSWERS = [
    {"name": "www.example.org", "address": "203.0.113.7", "network": "front", "vm": "web", "resolver": "10.0.0.53", "at": 1.0, "until": 4102444800},
    {"name": "www.example.org", "address": "203.0.113.8", "network": "back"},
    {"name": "www.example.com", "address": "203.0.113.9", "network": "front"},
]  # fmt: skip


def run(folder: Path, *words: str, names: str = "") -> Result:
    files = folder / "all.yaml"
    files.write_text(INVENTORY)
    return CliRunner().invoke(policy, [*words, "-f", str(files), *(("--names", names) if names else ())])


def test_without_answers_a_name_means_nobody_and_that_is_said(tmp_path: Path) -> None:
    answer = run(tmp_path, "explain", "web", "203.0.113.7", "443", "--expect", "deny")
    assert answer.exit_code == 0
    assert "names of the outside world mean nobody here (*.example.org)" in answer.stderr
    assert json.loads(run(tmp_path, "reach", "-o", "json").stdout) == []


@pytest.mark.parametrize(
    ("address", "verdict"), [("203.0.113.7", "allow"), ("203.0.113.8", "deny"), ("203.0.113.9", "deny")]
)
def test_a_list_of_answers_says_what_they_mean(tmp_path: Path, address: str, verdict: str) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps(ANSWERS))
    answer = run(tmp_path, "explain", "web", address, "443", "--expect", verdict, names=str(names))
    assert answer.exit_code == 0, answer.output
    assert "mean nobody" not in answer.stderr
    (talk,) = json.loads(run(tmp_path, "reach", "-o", "json", names=str(names)).stdout)
    assert talk["to"] == {"blocks": ["203.0.113.7/32"]}


@pytest.mark.parametrize(
    "text", ["", "[", "{}", '[{"name": "a"}]', '[{"name": "a.b", "address": "x", "network": "front"}]']
)
def test_what_is_no_list_of_answers_is_refused(tmp_path: Path, text: str) -> None:
    names = tmp_path / "names.json"
    names.write_text(text)
    assert run(tmp_path, "reach", names=str(names)).exit_code == 2
    assert run(tmp_path, "reach", names=str(tmp_path / "none")).exit_code == 2


def test_answers_that_ended_open_nothing_and_that_is_said(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps([{**ANSWERS[0], "until": 1_900_000_000}]))
    asked = ("explain", "web", "203.0.113.7", "443", "--expect")
    assert run(tmp_path, *asked, "allow", "--at", "2029-01-01T00:00:00Z", names=str(names)).exit_code == 0
    ended = run(tmp_path, *asked, "deny", "--at", "2031-01-01T00:00:00Z", names=str(names))
    assert ended.exit_code == 0, ended.output
    assert "1 of 1 answers" in ended.stderr


def test_a_difference_knows_names_and_calls_answers_no_documents(tmp_path: Path) -> None:
    names, before = tmp_path / "names.json", tmp_path / "before.yaml"
    names.write_text(json.dumps(ANSWERS[:1]))
    before.write_text(INVENTORY.replace("*.example.org", "www.example.com"))
    answer = run(tmp_path, "diff", "--against", str(before), "-o", "json", names=str(names))
    told = json.loads(answer.stdout)
    assert answer.exit_code == 1
    assert [each["name"] for each in told["documents"]] == ["out"]
    assert [(each["from"], each["to"]) for each in told["reach"]] == [("web", {"blocks": ["203.0.113.7/32"]})]
