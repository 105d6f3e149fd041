"""Takes a lab away, whatever state it is in, and tells what would remain of one. Touches nothing without the prefix."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from buckler.lab.machine import NAMESPACES, LabFailed, attempt, processes_of, run
from buckler.lab.state import read_state

PLACES = ("/etc/buckler", "/etc/libvirt", "/run/buckler", "/run/libvirt", "/var/lib/buckler", "/var/lib/libvirt")
BPF_FOLDER = Path("/sys/fs/bpf")


def namespaces_of(prefix: str) -> list[str]:
    """Name the network namespaces of a lab that exist, in whole or in part."""
    if not NAMESPACES.exists():
        return []
    return sorted(entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith(f"{prefix}-"))


def sweep(folder: Path, prefix: str) -> None:
    """End every process in the lab's namespaces, then remove these and the lab's folder. Raises LabFailed."""
    state = read_state(folder)
    names = namespaces_of(prefix)
    deadline = time.monotonic() + 20
    while found := processes_of(names):
        if time.monotonic() > deadline:
            raise LabFailed(f"these processes do not end: {found}")
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    for name in names:
        run("ip", "netns", "del", name)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()
    if state and state.made_netns_folder:
        _remove_netns_folder()


def take_snapshot(prefix: str) -> frozenset[str]:
    """Describe all that a lab could leave on the machine, one line each; compare before and after."""
    return frozenset(
        [
            *(f"process {pid} {line}" for pid, line in processes_of(namespaces_of(prefix)).items()),
            *(f"namespace {name}" for name in namespaces_of(prefix)),
            *(f"interface {card.name}" for card in Path("/sys/class/net").iterdir()),
            *(f"mount {point}" for point in _mounts() if not _is_of_others(point, prefix)),
            *(f"nft {line}" for line in attempt("nft", "list", "tables").stdout.splitlines()),
            *(f"bpf pin {path}" for path in BPF_FOLDER.rglob("*")),
            *(f"file {path}" for place in PLACES for path in _files_below(Path(place))),
            *(f"file {path}" for path in _files_below(Path("/var/lib/buckler-lab") / prefix)),
        ]
    )


def _mounts() -> list[Path]:
    return [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def _is_of_others(mount: Path, prefix: str) -> bool:
    """Other programs mount beside us; the lab mounts nothing among temporary files, and only namespaces of its prefix."""
    is_foreign_namespace = mount.parent == NAMESPACES and not mount.name.startswith(f"{prefix}-")
    return is_foreign_namespace or mount.is_relative_to(tempfile.gettempdir())


def _files_below(place: Path) -> list[Path]:
    return [place, *place.rglob("*")] if place.exists() else []


def _remove_netns_folder() -> None:
    """``ip netns`` mounts its folder on first use and leaves it: when that was our doing and nobody else's is in it."""
    if NAMESPACES.exists() and not any(NAMESPACES.iterdir()):
        subprocess.run(["umount", str(NAMESPACES)], capture_output=True, check=False)
        if not NAMESPACES.is_mount():
            NAMESPACES.rmdir()
