"""One agent per host: two would undo each other's work. Owns the lock, not what happens under it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


class AlreadyRunning(Exception):
    """Another agent runs on this host."""


def take_lock(folder: Path) -> IO[bytes]:
    """Hold the lock for as long as the file is open; the kernel frees it when the process dies. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (folder / "agent.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise AlreadyRunning(f"another agent runs on this host (it holds {folder}/agent.lock)") from error
    return file
