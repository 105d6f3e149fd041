"""ports/performance.py in memory: what it was fed, for domains that run. Measures nothing."""

from __future__ import annotations

from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.model.domain import DomainState
from buckler.ports.performance import Reading


class InMemoryPerformance:
    """``figures`` by uuid; ``run`` of each domain rises with every start."""

    def __init__(self, hypervisor: InMemoryHypervisor) -> None:
        self._hypervisor = hypervisor
        self.figures: dict[str, Reading] = {}

    def readings(self) -> list[Reading]:
        """See the port."""
        running = [domain for domain in self._hypervisor.domains() if domain.state == DomainState.RUNNING.value]
        return [self._reading(domain.uuid) for domain in running]

    def _reading(self, uuid: str) -> Reading:
        run = f"run-{self._hypervisor.starts[uuid]}"
        known = self.figures.get(uuid)
        return known if known is not None and known.run == run else Reading(uuid, run, 0, 0, 0, 0, 0, 0)
