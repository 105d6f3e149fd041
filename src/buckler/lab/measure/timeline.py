"""When QEMU itself says that a guest stopped and went on, told by its monitor with its own clock. Moves nothing."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import msgspec

from buckler.lab.datacentre import DataCentre
from buckler.lab.host import CONNECTION
from buckler.lab.machine import LabFailed, inside

_LINE = re.compile(r"event (STOP|RESUME) at (\d+\.\d+) for domain '?([^':]+)'?")


class Downtime(msgspec.Struct, frozen=True):
    """One move as the guest lived it: Unix times of STOP at the source and of RESUME at the destination."""

    stopped: float
    resumed: float

    @property
    def milliseconds(self) -> float:
        """How long the guest stood still."""
        return (self.resumed - self.stopped) * 1000


class Timeline:
    """Follows the monitors of all guests on every host until closed."""

    def __init__(self, centre: DataCentre) -> None:
        self._files: dict[str, Path] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        for host in centre.plan.hosts:
            path = centre.plan.folder / f"{host.name}.monitor"
            words = ("virsh", "-c", CONNECTION, "qemu-monitor-event", "--loop")
            with path.open("wb") as file:
                # Its output is a file: stdbuf lets each line be seen when it is written.
                process = subprocess.Popen(
                    inside(centre.pid(host.name), "stdbuf", "-oL", *words),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.DEVNULL,
                )
            self._files[host.name] = path
            self._processes.append(process)
        time.sleep(0.5)

    def downtime(self, guest: str, source: str, destination: str, since: float, patience: float = 3.0) -> Downtime:
        """Return the last move of ``guest`` that began after ``since`` (Unix time). Raises LabFailed."""
        deadline = time.monotonic() + patience
        while True:
            stops = self._times(source, "STOP", guest, since)
            resumes = self._times(destination, "RESUME", guest, since)
            if stops and resumes:
                return Downtime(stops[-1], resumes[-1])
            if time.monotonic() > deadline:
                raise LabFailed(f"the monitors do not tell when {guest} stopped ({stops}) and went on ({resumes})")
            time.sleep(0.05)

    def close(self) -> None:
        """Follow no longer."""
        for process in self._processes:
            process.terminate()
            process.wait(10)

    def _times(self, host: str, what: str, guest: str, since: float) -> list[float]:
        found = _LINE.findall(self._files[host].read_text(errors="replace"))
        return [float(at) for event, at, domain in found if (event, domain) == (what, guest) and float(at) >= since]
