"""Where things are pinned: a folder on a bpf file system. Owns the names of pins, not what they hold."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from buckler.drivers.ebpf import libbpf
from buckler.drivers.ebpf.libbpf import KernelRefused
from buckler.model.ids import Digest

DEFAULT_PINS = Path("/sys/fs/bpf/buckler")
_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True)


class Pins:
    """Folders ``maps``, ``hooks``, ``policies`` and ``links`` below one root, readable by root only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.maps, self.hooks, self.policies, self.links = (root / n for n in ("maps", "hooks", "policies", "links"))

    def prepare(self) -> None:
        """Mount a bpf file system where none is yet and make the folders."""
        if not _is_bpffs(self.root):
            self.root.parent.mkdir(parents=True, exist_ok=True)
            if not _is_bpffs(self.root.parent):
                _mount(self.root.parent)
        for folder in (self.root, self.maps, self.hooks, self.policies, self.links):
            folder.mkdir(mode=0o700, exist_ok=True)

    def policy(self, digest: Digest) -> Path:
        """The pin of a program's map."""
        return self.policies / digest.removeprefix("sha256:")

    def link(self, ifindex: int, hook: str) -> Path:
        """The pin of a link."""
        return self.links / f"{ifindex}-{hook}"


def digest_of_pin(path: Path) -> Digest:
    """Name the program behind a pin."""
    return Digest(f"sha256:{path.name}")


def _is_bpffs(path: Path) -> bool:
    if not path.exists():
        return False
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        raise KernelRefused(ctypes.get_errno(), f"statfs {path}")
    return int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF == _MAGIC


def _mount(path: Path) -> None:
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        raise KernelRefused(ctypes.get_errno(), f"mount a bpf file system on {path}")


def replace_pin(fd: int, path: Path) -> None:
    """Pin ``fd`` at ``path``, whatever was pinned there."""
    path.unlink(missing_ok=True)
    libbpf.pin(fd, path)
