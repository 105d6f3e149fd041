"""docs/guide/first-steps.md on a real host: a VM that already runs is adopted, observed, enforced, quarantined."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.poolkit import card, domain
from tests.privatehost import PrivateHost, private_host, wait_until

BUCKLER = (sys.executable, "-m", "buckler")
MAC = "52:54:00:00:0f:01"
NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec: {bridge: br0, cidrs: [192.0.2.0/24]}
"""


class Host:
    """A host with ``buckler up`` running, and the command line on it."""

    def __init__(self, host: PrivateHost) -> None:
        self.host = host

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.host.run(*BUCKLER, *arguments, text=stdin)

    def vm(self, name: str) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self("vm", "show", name, "-o", "json"))
        return view

    def start(self, number: int, mac: str) -> None:
        self.host.virsh("define", "/dev/stdin", text=domain(number, None, card(mac)))
        self.host.virsh("start", f"vm-{number}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    log = tmp_path_factory.mktemp("up") / "log"
    with private_host("fs") as private, log.open("w") as file:
        private.run("sh", "-c", "ip link add br0 type bridge && ip link set br0 up")
        made = Host(private)
        made.start(1, MAC)
        running = subprocess.Popen(private.command(*BUCKLER, "up"), stdout=file, stderr=file)
        try:
            wait_until(lambda: running.poll() is not None or "Buckler runs." in log.read_text(), 90, 0.2)
            assert running.poll() is None, log.read_text()
            private.restart_libvirtd()
            yield made
        finally:
            private.run("sh", "-c", 'for p in $(pgrep -fx ".* -m buckler up"); do kill $p; done', is_checked=False)
            running.wait(60)


def test_a_vm_that_already_served_is_adopted_observed_enforced_and_cut_off(host: Host) -> None:
    wait_until(lambda: "vm-1" in host("rogues"), 30, 0.5)
    host("apply", "-f", "-", stdin=NETWORK)
    planned = host("vm", "adopt", "vm-1", "--as", "web1", "--dry-run")
    assert "dry run" in planned
    assert f"{MAC} on network" in planned
    assert "vm-1" in host("rogues")

    adopt = ("vm", "adopt", "vm-1", "--as", "web1", "--label", "tier=web", "--mode", "observe")
    assert "vm/web1 adopted" in host(*adopt, "--interface", f"{MAC}=front,192.0.2.11", "--owner", "team-web")
    wait_until(lambda: [each["admitted"] for each in host.vm("web1")["interfaces"]] == [True], 30, 0.5)
    wait_until(lambda: host.vm("web1")["hasPassport"], 30, 0.5)
    assert "vm-1" not in host("rogues")
    assert "web1" in host("unprotected")
    assert "passport" in host.host.virsh("dumpxml", "vm-1")
    shown = host("describe", "vm", "web1")
    for words in ("running", "observes", "on bridge br0", "in its domain's metadata"):
        assert words in shown

    document = host("get", "vm", "web1", "-o", "yaml").replace("mode: observe", "mode: enforce")
    changed = subprocess.run(
        host.host.command(*BUCKLER, "diff", "-f", "-"), input=document, capture_output=True, text=True, check=False
    )
    assert changed.returncode == 1, changed.stderr
    host("apply", "-f", "-", "--wait", "30", stdin=document)
    assert "web1" not in host("unprotected")
    assert "enforces" in host("describe", "vm", "web1")

    host("vm", "quarantine", "web1", "--reason", "odd connections")
    assert "quarantined" in host("vm", "list")
    host("vm", "release", "web1", "--reason", "checked")
    host("status", "--wait", "30")
    history = host("vm", "history", "web1")
    for words in ("adopted", "quarantine", "odd connections", "checked"):
        assert words in history
    assert "intact" in host("ledger", "verify")


def test_an_auditor_verifies_with_what_a_host_witnessed_and_proves_one_entry(host: Host, tmp_path: Path) -> None:
    def caught_up() -> bool:
        found = json.loads(host("ledger", "checkpoint", "-o", "json"))
        return [each["size"] for each in found["witnesses"]] == [found["size"]]

    wait_until(caught_up, 30, 0.5)
    export, witness, proof = (tmp_path / name for name in ("pool.ledger", "h1.witness", "entry.proof"))
    witness.write_text(host("agent", "witness"))
    host("ledger", "export", str(export))
    key = json.loads(export.read_text().splitlines()[0])["rootKey"]
    told = host("ledger", "verify", "--file", str(export), "--root-key", key, "--witness", str(witness))
    assert "and they are these (cosigned by host" in told
    host("ledger", "prove", "2", str(proof))
    assert "proven: entry 2" in host("ledger", "verify", "--proof", str(proof), "--root-key", key)
    assert json.loads(host("agent", "status", "-o", "json"))["witness"]["refused"] == ""
    cut = tmp_path / "cut.ledger"
    cut.write_text("".join(export.read_text().splitlines(keepends=True)[:-1]))
    command = host.host.command(*BUCKLER, "ledger", "verify", "--file", str(cut), "--root-key", key)
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (failed.returncode, "truncated" in failed.stderr) == (5, True), failed


def test_what_bound_a_vm_is_told_by_its_own_host(host: Host) -> None:
    told = json.loads(host("vm", "policy", "web1", "-o", "json"))
    assert told
    assert all(each["revisions"] and each["binding"] for each in told if each["cards"])
    now = host("vm", "policy", "web1", "--at", str(time.time()))
    assert f"{MAC} on network front (enforce)" in now
    # In quarantine it was bound by something else, and before and after it by the same.
    bindings = [each["binding"] for each in told if each["cards"]]
    assert len(set(bindings)) >= 2
    entries = {entry["index"]: entry["kind"] for entry in json.loads(host("vm", "history", "web1", "-o", "json"))}
    named = {entries[number] for each in told for number in each["entries"] if number in entries}
    assert "interface.admitted" in named


def test_a_stranger_stays_closed_and_is_reported(host: Host) -> None:
    host.start(2, "52:54:00:00:0f:02")
    wait_until(lambda: "vm-2" in host("rogues"), 30, 0.5)
    device = host.host.virsh("domiflist", "vm-2").split()[0]
    taps = json.loads(host("agent", "status", "-o", "json"))["taps"]
    assert device not in taps


def test_a_host_that_cannot_be_emptied_says_who_stays_and_takes_vms_again(host: Host) -> None:
    name = json.loads(host("host", "list", "-o", "json"))[0]["name"]
    command = host.host.command(*BUCKLER, "host", "drain", name, "--reason", "kernel update")
    assert "dry run" in host("host", "drain", name, "--dry-run")
    assert "active" in host("host", "list")
    drained = subprocess.run(command, capture_output=True, text=True, check=False)
    assert drained.returncode == 1, drained
    assert "web1" in drained.stderr
    assert "drain" in host("host", "show", name)
    assert "active" in host("host", "undrain", name)
    assert json.loads(host("host", "show", name, "-o", "json"))["state"] == "active"
