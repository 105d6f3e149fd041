"""One hypervisor host in namespaces of its own, with its own libvirtd. Starts and ends it; installs no Buckler.

The recipe is measured (docs/adr): rprivate mounts, private /run, /etc/libvirt and state folders, virtlogd and
libvirtd under a PID 1 whose death ends everything in the namespace.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

LIBVIRTD_CONF = """
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "{uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
QEMU_CONF = """
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "logd"
"""
INIT = """#!/bin/bash
set -e
mount --make-rprivate /
hostname {name}
mount --bind {root}/run /run
mkdir -p /run/lock /run/libvirt
for folder in etc/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt; do
  mount --bind {root}/$folder /$folder
done
for folder in var/lib/buckler etc/buckler; do mkdir -p /$folder; done
mount -t bpf bpf /sys/fs/bpf
mount --bind {root}/var/lib/buckler /var/lib/buckler
mount --bind {root}/etc/buckler /etc/buckler
ip link set lo up
virtlogd -d
libvirtd -d
touch /run/ready
trap 'exit 0' TERM
while :; do sleep 3600 & wait $!; done
"""
FOLDERS = (
    "run", "etc/libvirt/hooks", "etc/libvirt/qemu/networks", "var/lib/libvirt/qemu", "var/lib/libvirt/images",
    "var/log/libvirt/qemu", "var/cache/libvirt/qemu", "var/lib/buckler", "etc/buckler",
)  # fmt: skip


class PrivateHost:
    """``run`` runs a command inside; ``uri`` reaches its libvirtd from outside."""

    def __init__(self, root: Path, name: str, pid: int) -> None:
        self.root = root
        self.name = name
        self.pid = pid

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.root}/run/libvirt/libvirt-sock"

    def command(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-u", "-i", "-p", "--wd=/", "--", *words]

    def run(self, *words: str, text: str | None = None, is_checked: bool = True) -> str:
        done = subprocess.run(self.command(*words), input=text, capture_output=True, text=True, timeout=60)
        if is_checked and done.returncode:
            raise AssertionError(f"{shlex.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def virsh(self, *words: str, text: str | None = None, is_checked: bool = True) -> str:
        return self.run("virsh", "-q", "-c", "qemu:///system", *words, text=text, is_checked=is_checked)

    def restart_libvirtd(self) -> None:
        self.stop_libvirtd()
        self.start_libvirtd()

    def stop_libvirtd(self) -> None:
        self.run(
            "sh",
            "-c",
            "kill $(cat /run/libvirtd.pid) && while kill -0 $(cat /run/libvirtd.pid) 2>/dev/null; do sleep 0.05; done",
        )

    def start_libvirtd(self) -> None:
        self.run("libvirtd", "-d")
        self._wait_for_libvirtd()

    def _wait_for_libvirtd(self) -> None:
        wait_until(lambda: self.virsh("list", is_checked=False) is not None and not self._is_silent(), 20)

    def _is_silent(self) -> bool:
        return (
            subprocess.run(self.command("virsh", "-q", "-c", "qemu:///system", "list"), capture_output=True).returncode
            != 0
        )


def wait_until(condition, seconds: float, step: float = 0.05) -> None:
    """Return when ``condition()`` is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(step)


@contextlib.contextmanager
def private_host(prefix: str = "ag") -> Iterator[PrivateHost]:
    """Bring one host up; take it and everything of it away at the end."""
    root = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
    name = root.name.replace("_", "x")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    (root / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
    (root / "etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    (root / "etc/libvirt/virtlogd.conf").write_text("")
    init = root / "init.sh"
    init.write_text(INIT.format(root=root, name=name))
    init.chmod(0o755)
    words = [
        "unshare",
        "--net",
        "--fork",
        "--kill-child",
        "--pid",
        "--mount-proc",
        "--mount",
        "--uts",
        "--ipc",
        str(init),
    ]
    with (root / "init.log").open("w") as log:
        outer = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: (root / "run/ready").exists() or outer.poll() is not None, 30)
        if outer.poll() is not None:
            raise AssertionError((root / "init.log").read_text())
        child = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()[0]
        host = PrivateHost(root, name, int(child))
        host._wait_for_libvirtd()
        yield host
    finally:
        outer.kill()  # --kill-child takes PID 1 of the namespace along, and with it everything inside
        outer.wait(10)
        wait_until(lambda: not _is_busy(root), 10)
        shutil.rmtree(root, ignore_errors=True)


def _is_busy(root: Path) -> bool:
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if str(root) in mounts.read_text() and int(mounts.parent.name) != os.getpid():
                return True
        except OSError:
            continue
    return False
