"""The ways in which libvirt moves a guest, each as an administrator would type it. Knows nothing of Buckler."""

from __future__ import annotations

import subprocess
import time
from enum import StrEnum

from buckler.lab.host import CONNECTION, virsh
from buckler.lab.machine import LabFailed, inside


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
    """A move under way, from the host whose first process is ``source`` to the one at ``address``.

    ``wait`` or ``outcome`` must be called; ``abort`` asks libvirt to give it up.
    """

    def __init__(self, source: int, guest: str, address: str, way: Way, flags: tuple[str, ...]) -> None:
        self._source, self._guest = source, guest
        uri = f"qemu+tcp://{address}/system"
        words = ("migrate", *_ALWAYS, *FLAGS[way], *flags, guest, uri)
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            inside(source, "virsh", "-q", "-c", CONNECTION, *words),
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
        virsh(self._source, "domjobabort", self._guest)

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
