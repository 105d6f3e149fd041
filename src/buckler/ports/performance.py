"""The door to what the hypervisor measures of its domains."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Reading(msgspec.Struct, frozen=True):
    """One running domain's figures; None is what it did not tell this time, because it was busy.

    ``run`` names one life of the domain's process, from its start or arrival to its end: figures of another run began at
    zero. Within a run CPU time never goes back; sums over disks may, when a disk is taken out.
    """

    uuid: str
    run: str
    cpu_ns: int | None = None
    memory: int | None = None
    read_bytes: int | None = None
    read_requests: int | None = None
    written_bytes: int | None = None
    write_requests: int | None = None


class Performance(Protocol):
    """May raise buckler.ports.hypervisor.HypervisorFailed."""

    def readings(self) -> list[Reading]:
        """Ask for all active domains in one call, which waits for none of them."""
