"""The machine as ``buckler up`` finds and changes it: sockets, settings, the hook. Never overwrites what is not ours."""

from __future__ import annotations

import os
import platform
import re
import socket
from pathlib import Path

from buckler.agent import hook
from buckler.agent.install import HOOK_PATH, install_hook
from buckler.agent.settings import DEFAULT_PATH as AGENT_SETTINGS
from buckler.agent.settings import read_settings as read_agent_settings
from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.operatorapi import SOCKET
from buckler.up.plan import Facts, Hook

CONTROLLER_SETTINGS = Path("/etc/buckler/controller.yaml")
HOOK_SOURCE = Path(hook.__file__)
HOOK_MARK = b"libvirt's qemu hook: hands its arguments and the domain's XML to the agent"
LIBVIRT_SOCKETS = (Path("/run/libvirt/libvirt-sock"), Path("/run/libvirt/virtqemud-sock"))
BPFFS = Path("/sys/fs/bpf")
LOCAL = ("https://127.0.0.1:", "https://localhost:", "https://[::1]:")
CONTROLLER_TEXT = """\
# The controller's settings; `buckler up` wrote them. Only this machine's agent reaches it: see names and listen-address.
pool: {pool}
listen-address: 127.0.0.1
names: ["127.0.0.1", "localhost"]
"""
AGENT_TEXT = """\
# The agent's settings; `buckler up` wrote them. Name the ports of bridges that are no VM's: others stay closed.
outside: []                # towards the world, like [eno1]
tunnel: []                 # towards the pool's other hosts, like [vxlan100]
fabric-address: 127.0.0.1  # where the pool's other hosts reach this one; a pool of one machine needs no other
"""


def observe() -> Facts:
    """Look; change nothing."""
    controllers = _controllers()
    elsewhere = [url for url in controllers if not url.startswith(LOCAL)]
    return Facts(
        is_root=os.geteuid() == 0,
        kernel=kernel_version(platform.release()),
        has_libvirt=any(path.exists() for path in LIBVIRT_SOCKETS),
        has_bpffs=_is_bpffs(Path("/proc/mounts").read_text(encoding="utf-8"), BPFFS),
        has_controller_settings=CONTROLLER_SETTINGS.exists(),
        has_agent_settings=AGENT_SETTINGS.exists(),
        hook=_hook(),
        is_member=bool(controllers),
        controller_answers=controller_answers(),
        agent_answers=_listens(Path(read_agent_settings().socket)),
        pool_elsewhere=elsewhere[0] if elsewhere else "",
    )


def kernel_version(release: str) -> tuple[int, int]:
    """Read ``6.1.0-18-amd64``; what cannot be read is older than everything."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def controller_answers() -> bool:
    """Say whether a controller answers on its socket."""
    try:
        with OperatorClient(SOCKET) as client:
            client.status()
    except OperatorFailed as failed:
        return not failed.is_unreachable
    return True


def write_controller_settings() -> None:
    """Write settings for a controller that only this machine reaches."""
    pool = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().lower()) or "pool"
    _write(CONTROLLER_SETTINGS, CONTROLLER_TEXT.format(pool=pool), 0o600)


def write_agent_settings() -> None:
    """Write the agent's settings with what a person may want to fill in."""
    _write(AGENT_SETTINGS, AGENT_TEXT, 0o600)


def put_hook() -> None:
    """Put the hook where libvirt calls it, with the settings that it reads."""
    install_hook(read_agent_settings())


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _hook() -> Hook:
    if not HOOK_PATH.exists():
        return Hook.ABSENT
    content = HOOK_PATH.read_bytes()
    if content == HOOK_SOURCE.read_bytes():
        return Hook.OURS
    return Hook.OUTDATED if HOOK_MARK in content else Hook.FOREIGN


def _controllers() -> tuple[str, ...]:
    """Return the controllers of the pool that this host is a member of; none when it is no member."""
    folder = Path(read_agent_settings().state)
    if not (folder / "state.db").exists():
        return ()
    state = SqliteState(folder)
    try:
        membership = state.membership()
    finally:
        state.close()
    return membership.controllers if membership else ()


def _is_bpffs(mounts: str, path: Path) -> bool:
    lines = [line.split() for line in mounts.splitlines()]
    return any(len(fields) > 2 and fields[1] == str(path) and fields[2] == "bpf" for fields in lines)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
