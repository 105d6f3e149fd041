"""One machine of the lab: a process tree in its own network, mount, UTS, IPC and PID namespaces, and libvirt in it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from buckler.lab.guest.image import GuestImage
from buckler.lab.machine import LabFailed, attempt, inside, root_of, run, within
from buckler.lab.plan import LIBVIRT_PORT, HostPlan

INIT = Path(__file__).parent / "host_init.sh"
CONNECTION = "qemu:///system"

# In the lab only: libvirt listens without authentication, on the fabric's address, which no guest can reach.
LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
tcp_port = "{port}"
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
host_uuid = "{uuid}"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
migration_address = "{address}"
migration_host = "{address}"
"""


def start_machine(plan: HostPlan) -> int:
    """Start the namespaces of a machine; return the pid of its first process as the outside sees it."""
    command = within(
        plan.namespace,
        *("unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--uts", "--ipc"),
        *("/bin/bash", str(INIT), plan.name),
    )
    log = subprocess.PIPE
    starter = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        pid = _first_child(starter.pid)
        if pid and (root_of(pid) / "run/lab/ready").exists():
            return pid
        if starter.poll() is not None:
            words = starter.stderr.read().decode() if starter.stderr else ""
            raise LabFailed(f"{plan.name} did not start: {words.strip()}")
        time.sleep(0.01)
    raise LabFailed(f"{plan.name} did not start within 20 s")


def start_libvirt(plan: HostPlan, pid: int, image: GuestImage) -> None:
    """Give the host what its guests boot, configure libvirt and start it; return when it answers."""
    root = root_of(pid)
    shutil.copyfile(image.kernel, root / "run/lab/boot/vmlinuz")
    shutil.copyfile(image.initramfs, root / "run/lab/boot/initramfs")
    (root / "etc/machine-id").write_text(plan.uuid.replace("-", "") + "\n")
    settings = {"address": plan.address, "port": LIBVIRT_PORT, "uuid": plan.uuid}
    (root / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF.format(**settings))
    (root / "etc/libvirt/qemu.conf").write_text(QEMU_CONF.format(**settings))
    start_libvirtd(pid)


def start_libvirtd(pid: int) -> None:
    """Start (or start again) libvirt's daemon in a host."""
    run(*inside(pid, "libvirtd", "-d", "-l"))
    deadline = time.monotonic() + 30
    while attempt(*inside(pid, "virsh", "-q", "-c", CONNECTION, "list")).returncode != 0:
        if time.monotonic() > deadline:
            raise LabFailed("libvirtd does not answer after 30 s")
        time.sleep(0.05)


def restart_libvirtd(pid: int) -> None:
    """Stop libvirt's daemon, whose guests live on, and start it again."""
    run(
        *inside(pid, "/bin/sh", "-c", "p=$(cat /run/libvirtd.pid); kill $p; while [ -d /proc/$p ]; do sleep 0.02; done")
    )
    start_libvirtd(pid)


def virsh(pid: int, *arguments: str, timeout: float = 60) -> str:
    """Run virsh in a host. Raises LabFailed with libvirt's words."""
    return run(*inside(pid, "virsh", "-q", "-c", CONNECTION, *arguments), timeout=timeout)


def running_domains(pid: int) -> list[str]:
    """Names of a host's running domains."""
    return virsh(pid, "list", "--name").split()


def start_service(pid: int, log: str, *command: str) -> None:
    """Start a program in a machine that goes on by itself, as a service manager would; output goes to /var/log."""
    line = 'exec setsid --fork "$@" >>"/var/log/$0.log" 2>&1 </dev/null'
    run(*inside(pid, "/bin/sh", "-c", line, log, *command))


def _first_child(pid: int) -> int:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(children[0]) if children else 0
