"""The ways in which libvirt moves a guest, each as an administrator would type it. Knows nothing of Buckler."""

from __future__ import annotations

import subprocess
import time
from enum import StrEnum
from typing import TYPE_CHECKING

from buckler.lab.host import CONNECTION
from buckler.lab.machine import LabFailed, inside

if TYPE_CHECKING:
    from buckler.lab.datacentre import DataCentre


class Way(StrEnum):
    """``direct``: virsh speaks with both hosts. ``p2p``: the source speaks with the destination. ``copy-storage``: disks go along."""

    DIRECT = "direct"
    P2P = "p2p"
    COPY_STORAGE = "copy-storage"


FLAGS = {
    Way.DIRECT: (),
    Way.P2P: ("--p2p",),
    Way.COPY_STORAGE: ("--copy-storage-all",),
}
_ALWAYS = ("--live", "--persistent", "--undefinesource")


class Move:
    """A move under way. ``wait`` must be called; ``abort`` asks libvirt to give it up."""

    def __init__(self, centre: DataCentre, guest: str, destination: str, way: Way = Way.DIRECT, *flags: str) -> None:
        self._centre, self._guest = centre, guest
        self.source = centre.host_of(guest)
        self._pid = centre.pid(self.source)
        if way is Way.COPY_STORAGE:
            centre.prepare_disk(guest, destination)
        uri = f"qemu+tcp://{centre.plan.host(destination).address}/system"
        words = ("migrate", *_ALWAYS, *FLAGS[way], *flags, guest, uri)
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            inside(self._pid, "virsh", "-q", "-c", CONNECTION, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def is_over(self) -> bool:
        """Say whether it ended, well or not."""
        return self._process.poll() is not None

    def abort(self) -> None:
        """Ask the source to give the move up. Raises LabFailed when there is nothing to give up (yet)."""
        self._centre.run_on(self.source, "virsh", "-q", "-c", CONNECTION, "domjobabort", self._guest)

    def wait(self, seconds: float = 120) -> float:
        """Return the seconds it took. Raises LabFailed with libvirt's words."""
        words, code = self.outcome(seconds)
        if code:
            raise LabFailed(f"moving {self._guest}: {words}")
        return time.monotonic() - self._began

    def outcome(self, seconds: float = 120) -> tuple[str, int]:
        """Return what virsh said and its exit code; a move that failed is an answer too."""
        try:
            words, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as expired:
            self._process.kill()
            self._process.communicate()
            raise LabFailed(f"{self._guest} does not get anywhere within {seconds:g} s") from expired
        return words.strip(), self._process.returncode
