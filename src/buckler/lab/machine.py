"""Runs programs of the machine the lab stands on, and inside its namespaces. Knows nothing of hosts or guests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

NAMESPACES = Path("/run/netns")


class LabFailed(Exception):
    """Something the lab asked for did not come about; the message says what."""


class GuestCrashed(LabFailed):
    """A guest's own kernel has given up: QEMU's emulation can corrupt the memory of a guest that moves on a busy machine."""


def run(*command: str, timeout: float = 60, stdin: str = "") -> str:
    """Run a program and return what it wrote. Raises LabFailed with its own words when it fails."""
    done = attempt(*command, timeout=timeout, stdin=stdin)
    if done.returncode != 0:
        words = done.stderr.strip() or done.stdout.strip()
        raise LabFailed(f"{' '.join(command)}: exit code {done.returncode}: {words}")
    return done.stdout


def attempt(*command: str, timeout: float = 60, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program whose failure is an answer too."""
    try:
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as expired:
        raise LabFailed(f"{' '.join(command)}: no end after {timeout:g} s") from expired


def inside(pid: int, *command: str) -> tuple[str, ...]:
    """Return ``command`` as a program of the namespaces in which ``pid`` is the first process."""
    return ("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "--wd=/", "--", *command)


def within(namespace: str, *command: str) -> tuple[str, ...]:
    """Return ``command`` as a program of a network namespace."""
    return ("nsenter", f"--net={NAMESPACES / namespace}", "--", *command)


def processes_of(namespaces: Sequence[str]) -> dict[int, str]:
    """Find all processes of the machine that live in one of the network namespaces: pid → command line."""
    inodes = {(NAMESPACES / name).stat().st_ino for name in namespaces if (NAMESPACES / name).exists()}
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/net").stat().st_ino in inodes:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
    return found


def is_alive(pid: int) -> bool:
    """Say whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def root_of(pid: int) -> Path:
    """Return the root folder as ``pid`` sees it."""
    return Path(f"/proc/{pid}/root")


def is_root() -> bool:
    """Say whether we may make namespaces at all."""
    return os.geteuid() == 0
