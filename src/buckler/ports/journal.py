"""What was seen, and how far it was taken in: event intake, observations, flows, counters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from buckler.model.agentapi import Counter, Observation
from buckler.model.flow import FlowRecord
from buckler.model.ids import HostId, VmId
from buckler.model.sample import Sample


class Intakes(Protocol):
    """How far each host's events are stored: each is stored exactly once."""

    def through(self, host: HostId) -> int:
        """The highest stored sequence; 0 before the first."""

    def advance(self, host: HostId, through: int) -> None:
        """Note that everything up to ``through`` is stored by this transaction."""


class Observations(Protocol):
    """The newest state that each host reported."""

    def get(self, host: HostId) -> Observation | None:
        """One host's."""

    def all(self) -> dict[HostId, Observation]:
        """Every host's."""

    def put(self, host: HostId, observation: Observation) -> None:
        """Replace the host's."""


class StoredFlow(msgspec.Struct, frozen=True):
    """``cursor`` rises with each record; ``shed`` counts events known to be missing just before this one."""

    cursor: int
    flow: FlowRecord
    shed: int = 0


class FlowQuery(msgspec.Struct, frozen=True):
    """Empty fields match everything. Without ``after`` (0) the newest ``limit`` are meant.

    ``verdict`` may be ``observed``: allowed only because the VM's shield observes. ``allow`` matches those too.
    ``tenant``: an end is called as a VM of it is, or was; records know names only.
    """

    verdict: str = ""
    origin: str = ""
    to: str = ""
    after: int = 0
    limit: int = 100
    tenant: str = ""


class CounterTotal(msgspec.Struct, frozen=True):
    """A count over all epochs and hosts. ``hosts`` are those that counted (HostId)."""

    local: str
    peer: str
    direction: str
    verdict: str
    policy: str
    rule: str
    packets: int
    bytes: int
    hosts: tuple[str, ...]
    changed: float = 0


class Counters(Protocol):
    """What hosts counted, per rule and pair. Telling the same twice changes nothing."""

    def put(self, host: HostId, counters: Iterable[Counter], at: float) -> None:
        """Take a host's counts: within an epoch the higher one, a higher epoch added to those before. ``at`` is now."""

    def count(self, host: HostId) -> int:
        """How many different counts of a host are stored."""

    def totals(self) -> tuple[CounterTotal, ...]:
        """Sums over hosts by both ends, direction and rule; what was shed by host, as verdict ``shed``."""


class Flows(Protocol):
    """A bounded ring of flow records."""

    def put(self, host: HostId, flows: Iterable[FlowRecord], shed: int, batch: str = "") -> None:
        """Add a host's records, unless its last ``batch`` was the same one. Beyond the ring's size the oldest of whoever has most are forgotten."""

    def find(self, query: FlowQuery) -> tuple[StoredFlow, ...]:
        """Matching records, oldest first."""


class StoredSample(msgspec.Struct, frozen=True):
    host: HostId
    sample: Sample


class VmSamples(msgspec.Struct, frozen=True):
    """``before`` are the last ones of each host that are older than all of ``samples``: what to count on from."""

    before: tuple[StoredSample, ...]
    samples: tuple[StoredSample, ...]


class SampleIntake(msgspec.Struct, frozen=True):
    """``through`` is the highest sequence that came from a host; ``shed`` how many below it never came."""

    through: int
    shed: int


class Samples(Protocol):
    """What VMs used, as each host told it: a bounded ring for each host."""

    def intakes(self) -> dict[HostId, SampleIntake]:
        """How far each host's samples are stored."""

    def put(self, host: HostId, samples: Iterable[Sample], heard: Iterable[int]) -> int:
        """Add a host's samples whose numbers are new; each is stored once. Returns how far they are stored now.

        ``heard`` are all numbers that came, also of samples that are not to be kept: any other is missing.
        """

    def of_vm(self, vm: VmId, since: float, until: float, limit: int) -> VmSamples:
        """The newest ``limit`` within the time, oldest first."""
