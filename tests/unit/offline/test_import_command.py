"""`buckler import` writes what `buckler policy reach` reads, and its exit code tells whether all was carried over."""

from __future__ import annotations

import json
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
    (manifests / "link").symlink_to(tmp_path)
    (manifests / "lost.yaml").symlink_to(tmp_path / "nowhere")
    code, told = run("import", "kubernetes", manifests, "--out", out)
    assert code == 3
    losses = json.loads((out / "loss.json").read_text())["losses"]
    assert [(each["file"], each["line"]) for each in losses] == [("deny.yaml.txt", 1), ("link", 1), ("lost.yaml", 1)]
    assert "deny.yaml.txt:1: " in told


def test_nothing_is_written_into_what_is_read(manifests, tmp_path):
    for out in (manifests, manifests / "out", manifests / "below" / ".." / "out"):
        code, told = run("import", "kubernetes", manifests, "--out", out)
        assert code == 2
        assert "would read it too" in told
    assert not (manifests / "out").exists()
    (tmp_path / "link").symlink_to(manifests)
    assert run("import", "kubernetes", manifests, "--out", tmp_path / "link" / "out")[0] == 2
