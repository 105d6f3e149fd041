"""Time and drafts asked of files: --at, --staged, and what has ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from buckler.__main__ import main

POOL = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: lan}
spec: {bridge: br0, cidrs: [10.9.0.0/24]}
"""
VM = """\
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: NAME, labels: {app: NAME}}
spec: {uuid: 50500000-0000-4000-8000-00000000000N, interfaces: [{mac: "52:54:00:09:00:0N", network: lan, addresses: [10.9.0.1N]}]}
"""
FLOW = """\
---
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: FLOW}
spec:
  description: d
  owner: o
  reason: r
  review: 2190-01-01
  from: [{vm: {matchLabels: {app: web}}}]
  to: [{vm: {matchLabels: {app: db}}}]
  ports: [{protocol: TCP, port: PORT}]
"""
HOURS = '  schedule: {days: [mon, tue, wed, thu, fri], from: "09:00", to: "17:00", timezone: Europe/Berlin}\n'


def flow(name: str, port: int, more: str = "") -> str:
    return FLOW.replace("FLOW", name).replace("PORT", str(port)) + more


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    vms = "".join(
        VM.replace("NAME", name).replace("0N", f"0{n}").replace("1N", f"1{n}") for n, name in ((1, "web"), (2, "db"))
    )
    texts = (
        flow("by-day", 5432, HOURS),
        flow("draft", 80, "  mode: staged\n"),
        flow("old", 21, "  until: 2001-01-01T00:00:00Z\n"),
    )
    (tmp_path / "pool.yaml").write_text(POOL + vms)
    (tmp_path / "flows.yaml").write_text("".join(texts))
    return ["--inventory", str(tmp_path / "pool.yaml"), "-f", str(tmp_path / "flows.yaml")]


def ask(*words: str) -> Result:
    return CliRunner().invoke(main, ["policy", *words])


def test_explain_speaks_of_the_time_that_is_asked(files: list[str]):
    monday = ask("explain", "web", "db", "5432", *files, "--at", "2026-06-01T11:00:00+02:00", "--expect", "allow")
    assert monday.exit_code == 0
    assert "Until 2026-06-01T15:00:00Z" in monday.output
    sunday = ask("explain", "web", "db", "5432", *files, "--at", "2026-05-31T09:00:00Z", "--expect", "deny")
    assert sunday.exit_code == 0
    assert "Not in force at this time: rule egress of policy by-day" in sunday.output
    assert ask("explain", "web", "db", "5432", *files, "--at", "2026-05-31 09:00").exit_code == 2


def test_reach_and_diff_speak_of_the_draft(files: list[str]):
    monday = ("--at", "2026-06-01T09:00:00Z", "-o", "json")
    ports = [
        json.loads(ask("reach", *files, *monday, *more).output)[0]["connections"][0]["ports"]
        for more in ((), ("--staged",))
    ]
    assert ports == [[[5432, 5432]], [[80, 80], [5432, 5432]]]
    told = ask("diff", "--staged", *files)
    assert told.exit_code == 1
    assert "web → db" in told.output
    assert ask("diff", "--staged", "--against", files[1], *files).exit_code == 2


def test_what_has_ended_is_listed_and_warned_of(files: list[str]):
    told = ask("reviews", *files)
    assert told.exit_code == 1
    assert "Flow old" in told.output
    checked = ask("check", *files)
    assert checked.exit_code == 0
    assert "it ended 2001-01-01T00:00:00Z" in checked.output
    assert ask("check", *files, "--at", "2000-01-01T00:00:00Z", "--strict").exit_code == 0
