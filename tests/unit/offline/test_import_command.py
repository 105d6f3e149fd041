"""`buckler import` writes what `buckler policy reach` reads, and its exit code tells whether all was carried over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from buckler.__main__ import main

CLUSTER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: []}}}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}]
"""


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    return result.exit_code, result.output


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "below"
    folder.mkdir(parents=True)
    (folder / "cluster.yaml").write_text(CLUSTER)
    return tmp_path / "in"


def test_a_cluster_is_carried_over_and_asked_about(manifests, tmp_path):
    out = tmp_path / "out"
    code, told = run("import", "kubernetes", manifests, "--out", out)
    assert code == 0, told
    assert json.loads((out / "loss.json").read_text())["losses"] == []
    code, told = run("policy", "reach", "--inventory", out / "inventory.yaml", "-f", out / "policies", "-o", "json")
    assert code == 0, told
    pairs = [each for each in json.loads(told) if "vm" in each["from"] and "vm" in each["to"]]
    sql = [{"protocol": "TCP", "ports": [[5432, 5432]]}]
    assert pairs == [{"from": {"vm": "shop/web"}, "to": {"vm": "shop/db"}, "connections": sql}]


def test_losses_are_told_with_their_place(manifests, tmp_path):
    (manifests / "odd.yaml").write_text("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x}\n")
    code, told = run("import", "kubernetes", manifests, "--out", tmp_path / "out")
    assert code == 3
    assert "odd.yaml:1: CiliumNetworkPolicy default/x" in told
    losses = json.loads((tmp_path / "out" / "loss.json").read_text())["losses"]
    assert [(each["file"], each["line"], each["effect"]) for each in losses] == [("odd.yaml", 1, "tightened")]


def test_what_cannot_be_read_writes_nothing(manifests, tmp_path):
    (manifests / "broken.yaml").write_text("{{ .Values.broken }}\n")
    code, told = run("import", "kubernetes", manifests, "--out", tmp_path / "out")
    assert code == 2
    assert "broken.yaml" in told
    assert not (tmp_path / "out").exists()


def test_twice_is_once_and_other_peoples_folders_are_left_alone(manifests, tmp_path):
    out = tmp_path / "out"
    run("import", "kubernetes", manifests, "--out", out, "--review", "2030-01-01")
    first = {each.name: each.read_text() for each in out.rglob("*") if each.is_file()}
    assert run("import", "kubernetes", manifests, "--out", out, "--review", "2030-01-01")[0] == 0
    assert {each.name: each.read_text() for each in out.rglob("*") if each.is_file()} == first
    assert run("import", "kubernetes", manifests, "--out", manifests)[0] == 2
    assert run("import", "kubernetes", manifests, "--out", tmp_path / "x", "--review", "soon")[0] == 2


OTHERS = {
    "proxmox": {"100.fw": "[OPTIONS]\nenable: 1\n[RULES]\nIN SSH(ACCEPT)\n", "cluster.fw": "[OPTIONS]\nenable: 1\n"},
    "nwfilter": {
        "d.xml": "<domain><name>a</name><devices><interface><filterref filter='no-mac-spoofing'/></interface></devices></domain>"
    },
    "neutron": {"c.json": '{"ports": [{"id": "p", "security_groups": []}], "security_groups": []}'},
    "nsx": {
        "c.json": '{"security_policies": [{"id": "p", "is_default": true, "rules": [{"id": "r", "action": "ALLOW"}]}], "vms": [{"external_id": "a"}]}'
    },
}


@pytest.mark.parametrize("system", sorted(OTHERS))
def test_other_systems_are_carried_over_too(system, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in OTHERS[system].items():
        (folder / name).write_text(text)
    out = tmp_path / "out"
    code, told = run("import", system, folder, "--out", out)
    assert code == 0, told
    code, told = run("policy", "check", "--inventory", out / "inventory.yaml", "-f", out / "policies")
    assert code == 0, told
    assert json.loads((out / "loss.json").read_text())["source"] == system


def test_every_file_that_cannot_be_read_is_told(manifests, tmp_path):
    for name in ("one.yaml", "two.yaml"):
        (manifests / name).write_bytes(b"\xff\xfe\xfd")
    (manifests / "three.yaml").write_text("a: [")
    code, told = run("import", "kubernetes", manifests, "--out", tmp_path / "out")
    assert code == 2
    for name in ("one.yaml", "two.yaml", "three.yaml"):
        assert name in told
    assert not (tmp_path / "out").exists()


DENY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: all, namespace: shop}
spec: {podSelector: {}}
"""


def test_suffixes_have_no_case_and_other_files_are_told(manifests, tmp_path):
    out = tmp_path / "out"
    (manifests / "deny.YAML").write_text(DENY)
    assert run("import", "kubernetes", manifests, "--out", out)[0] == 0
    code, told = run("policy", "reach", "--inventory", out / "inventory.yaml", "-f", out / "policies", "-o", "json")
    assert code == 0
    assert "0.0.0.0/0" not in [block for each in json.loads(told) for block in each["from"].get("blocks", [])]
    (manifests / "deny.yaml.txt").write_text(DENY)
    (manifests / ".git").mkdir()
    (manifests / ".git" / "HEAD").write_text("x")
    (manifests / "link").symlink_to(manifests / "below")
    code, told = run("import", "kubernetes", manifests, "--out", out)
    assert code == 3
    report = json.loads((out / "loss.json").read_text())
    assert [(each["file"], each["line"], each["effect"]) for each in report["losses"]] == [
        ("deny.yaml.txt", 1, "omitted")
    ]
    assert [each["file"] for each in report["notes"] if each["file"] == "link"] == ["link"]
    assert "deny.yaml.txt:1: " in told


@pytest.mark.parametrize("name", ["lost.yaml", "folder", "pipe.yaml", "round"])
def test_what_would_be_read_and_cannot_be_refuses_the_import(manifests, tmp_path, name):
    out, odd = tmp_path / "out", manifests / name
    if name == "pipe.yaml":
        os.mkfifo(odd)
    else:
        targets = {"lost.yaml": tmp_path / "nowhere", "folder": tmp_path, "round": tmp_path / "in" / ".."}
        odd.symlink_to(targets[name])
    code, told = run("import", "kubernetes", manifests, "--out", out)
    assert code == 2
    assert name in told
    assert not out.exists()


@pytest.mark.parametrize("system", ["kubernetes", *sorted(OTHERS)])
def test_a_mark_at_the_beginning_and_other_ends_of_lines_change_nothing(system, tmp_path):
    told = []
    for mark, end in (("", "\n"), ("\ufeff", "\r\n")):
        folder, out = tmp_path / f"in{len(told)}", tmp_path / f"out{len(told)}"
        folder.mkdir()
        for name, text in OTHERS.get(system, {"c.yaml": CLUSTER}).items():
            (folder / name).write_bytes((mark + text.replace("\n", end)).encode())
        code, said = run("import", system, folder, "--out", out, "--review", "2030-01-01")
        assert code == 0, said
        told.append((out / "policies" / "001.yaml").read_text())
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "text", ["", "\x00", "\ufeff", "---\n---\n", "[" * 5000, '{"a":' * 5000, "a: &a [*a]", "? {a: b}\n: c"]
)
@pytest.mark.parametrize("system", ["kubernetes", "neutron", "nsx"])
def test_hostile_texts_write_nothing(system, text, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.json").write_text(text)
    assert run("import", system, tmp_path / "in", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("spec:\n  podSelector", "spec:\n  ingress: []\n  podSelector"),
        ("port: sql", "port: 010"),
        ("port: sql", "port: 0x50"),
        ("port: sql", "port: 99999999999999999999"),
        ("port: sql", "port: 1e2"),
        ("app: web}}}]", "app: web, app: db}}}]"),
    ],
)
def test_what_two_readers_may_read_differently_opens_nothing(old, new, manifests, tmp_path):
    out = tmp_path / "out"
    (manifests / "below" / "cluster.yaml").write_text(CLUSTER.replace(old, new))
    if run("import", "kubernetes", manifests, "--out", out)[0] != 2:
        code, told = run("policy", "reach", "--inventory", out / "inventory.yaml", "-f", out / "policies", "-o", "json")
        assert code == 0, told
        assert not [each for each in json.loads(told) if each["to"] == {"vm": "shop/db"}]


def test_nothing_is_written_into_what_is_read(manifests, tmp_path):
    for out in (manifests, manifests / "out", manifests / "below" / ".." / "out"):
        code, told = run("import", "kubernetes", manifests, "--out", out)
        assert code == 2
        assert "would read it too" in told
    assert not (manifests / "out").exists()
    (tmp_path / "link").symlink_to(manifests)
    assert run("import", "kubernetes", manifests, "--out", tmp_path / "link" / "out")[0] == 2
