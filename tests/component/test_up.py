"""``buckler up`` on a host of its own: real controller, agent, libvirtd and kernel programs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.privatehost import PrivateHost, private_host, wait_until

BUCKLER = (sys.executable, "-m", "buckler")


@pytest.fixture
def host() -> Iterator[PrivateHost]:
    with private_host("up") as found:
        yield found


def is_enforced(host: PrivateHost) -> bool:
    try:
        status = json.loads(host.run(*BUCKLER, "status", "-o", "json", is_checked=False))
    except ValueError:
        return False
    return [each["connected"] and each["enforced"] >= each["wanted"] > 0 for each in status["hosts"]] == [True]


def processes(host: PrivateHost) -> list[str]:
    lines = host.run("ps", "-eo", "args").splitlines()
    return [line for line in lines if "-m buckler controller run" in line or "-m buckler agent run" in line]


def test_up_brings_a_host_up_once_and_takes_its_processes_down(host: PrivateHost, tmp_path: Path) -> None:
    assert "would start the agent" in host.run(*BUCKLER, "up", "--dry-run")
    assert not (host.root / "etc/buckler/controller.yaml").exists()
    log = tmp_path / "log"
    with log.open("w") as file:
        running = subprocess.Popen(host.command(*BUCKLER, "up"), stdout=file, stderr=file)
    try:
        wait_until(lambda: running.poll() is not None or "Buckler runs." in log.read_text(), 90, 0.2)
        assert running.poll() is None, log.read_text()
        assert is_enforced(host), log.read_text()
        assert len(processes(host)) == 2
        assert (host.root / "etc/libvirt/hooks/qemu").exists()
        again = host.run(*BUCKLER, "up")
        assert "Buckler runs." in again
        assert "start the" not in again
        assert len(processes(host)) == 2
        assert "would" not in host.run(*BUCKLER, "up", "--dry-run")
    finally:
        host.run("sh", "-c", 'for p in $(pgrep -fx ".* -m buckler up"); do kill -TERM $p; done', is_checked=False)
        code = running.wait(60)
    assert code == 0, log.read_text()
    assert processes(host) == []
    assert host.run("sh", "-c", "ls /sys/fs/bpf/buckler").split(), "the shields stay in the kernel"


def test_up_goes_on_after_a_restart_as_the_same_member(host: PrivateHost, tmp_path: Path) -> None:
    ids = []
    for turn in range(2):
        log = tmp_path / f"log{turn}"
        with log.open("w") as file:
            running = subprocess.Popen(host.command(*BUCKLER, "up"), stdout=file, stderr=file)
        wait_until(lambda: running.poll() is not None or "Buckler runs." in log.read_text(), 90, 0.2)  # noqa: B023
        assert running.poll() is None, log.read_text()
        wait_until(lambda: is_enforced(host), 30, 0.2)
        ids.append([each["id"] for each in json.loads(host.run(*BUCKLER, "host", "list", "-o", "json"))])
        host.run("sh", "-c", 'for p in $(pgrep -fx ".* -m buckler up"); do kill -INT $p; done')
        assert running.wait(60) == 0, log.read_text()
    assert len(ids[0]) == 1
    assert ids[0] == ids[1]


def test_a_foreign_hook_is_never_overwritten(host: PrivateHost) -> None:
    foreign = host.root / "etc/libvirt/hooks/qemu"
    foreign.write_text("#!/bin/sh\nexit 0\n")
    done = subprocess.run(host.command(*BUCKLER, "up"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another qemu hook" in done.stderr
    assert foreign.read_text() == "#!/bin/sh\nexit 0\n"
    assert processes(host) == []
