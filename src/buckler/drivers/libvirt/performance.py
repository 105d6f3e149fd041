"""ports/performance.py on libvirt's bulk statistics. Keeps no figure; waits for no domain, busy or stuck."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import msgspec

from buckler.drivers.libvirt.connection import Connection
from buckler.ports.hypervisor import HypervisorFailed
from buckler.ports.performance import Reading

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STATS = libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_BLOCK
_FLAGS = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
_CPU_TIME = 4
_PATIENCE = 1.0

Figures = Mapping[str, Any]


class LibvirtPerformance:
    """On a connection of its own: statistics that take long keep no other question waiting.

    libvirt asks each QEMU in turn, and one that is stuck would keep it waiting for ever: so it is asked aside. Each
    domain's CPU time is read on its own, for which libvirt asks no QEMU: its bulk figure (9.0) waits for one that is
    stuck in spite of NOWAIT.
    """

    def __init__(self, uri: str = "qemu:///system", patience: float = _PATIENCE) -> None:
        self._connection = Connection(uri)
        self._boot = _BOOT.read_text().strip()
        self._patience = patience
        self._asking: threading.Thread | None = None
        self._told: list[Reading] | HypervisorFailed = []

    def readings(self) -> list[Reading]:
        """See the port."""
        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=self._ask, name="statistics", daemon=True)
            self._asking.start()
        self._asking.join(self._patience)
        told: dict[str, Reading] = {}
        if not self._asking.is_alive():
            if isinstance(self._told, HypervisorFailed):
                raise self._told
            told = {each.uuid: each for each in self._told}
        return [_with_figures(each, told.get(each.uuid)) for each in self._read_times()]

    def _ask(self) -> None:
        try:
            with self._connection.use() as connection:
                told = connection.getAllDomainStats(_STATS, _FLAGS)
                self._told = [_read(domain.UUIDString(), self._run(domain), figures) for domain, figures in told]
        except HypervisorFailed as error:
            self._told = error

    def _read_times(self) -> list[Reading]:
        found = []
        with self._connection.use() as connection:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                with suppress(libvirt.libvirtError):  # it ended meanwhile
                    found.append(Reading(domain.UUIDString(), self._run(domain), domain.info()[_CPU_TIME]))
        return found

    def _run(self, domain: Any) -> str:
        """Libvirt numbers runs from when its daemon began, so the host's boot is a part of the name."""
        return f"{self._boot}/{domain.ID()}"


def _read(uuid: str, run: str, figures: Figures) -> Reading:
    resident = figures.get("balloon.rss")
    return Reading(
        uuid=uuid,
        run=run,
        cpu_ns=None,
        memory=None if resident is None else int(resident) * 1024,
        read_bytes=_sum(figures, "rd.bytes"),
        read_requests=_sum(figures, "rd.reqs"),
        written_bytes=_sum(figures, "wr.bytes"),
        write_requests=_sum(figures, "wr.reqs"),
    )


def _with_figures(times: Reading, figures: Reading | None) -> Reading:
    """CPU time with what was told of the same run; without it when nothing was."""
    if figures is None or figures.run != times.run:
        return times
    return msgspec.structs.replace(figures, cpu_ns=times.cpu_ns)


def _sum(figures: Figures, name: str) -> int | None:
    """Over all disks; None unless every disk told: a busy domain tells none, one without disks reads nothing."""
    count = figures.get("block.count")
    if count is None:
        return None
    found = [figures.get(f"block.{number}.{name}") for number in range(count)]
    return None if None in found else sum(int(each) for each in found if each is not None)
