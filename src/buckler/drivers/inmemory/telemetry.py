"""ports/telemetry in memory: gives what it was fed. Counts no packets."""

from __future__ import annotations

from collections import deque

from buckler.ports.telemetry import PairCount, ReasonCount, Shed, ShieldEvent, StagedCount


class InMemoryTelemetry:
    """``seen`` waits to be taken; ``lost`` is how many more there were."""

    def __init__(self) -> None:
        self.seen: deque[ShieldEvent] = deque()
        self.lost = 0
        self.counted: list[PairCount] = []
        self.drafted: list[StagedCount] = []
        self.judged: dict[int, dict[tuple[int, int], ReasonCount]] = {}

    def events(self, limit: int) -> list[ShieldEvent]:
        """See the port."""
        return [self.seen.popleft() for _ in range(min(limit, len(self.seen)))]

    def shed(self) -> Shed:
        """See the port."""
        return Shed(self.lost, 0)

    def reasons(self, ifindex: int) -> dict[tuple[int, int], ReasonCount]:
        """See the port."""
        return dict(self.judged.get(ifindex, {}))

    def pairs(self) -> list[PairCount]:
        """See the port."""
        return list(self.counted)

    def staged(self) -> list[StagedCount]:
        """See the port."""
        return list(self.drafted)

    def forget_pairs(self, vms: frozenset[int]) -> None:
        """See the port."""
        self.drafted = [each for each in self.drafted if each.count.vm not in vms]
        self.counted = [pair for pair in self.counted if pair.vm not in vms]

    def connections(self, ifindex: int) -> tuple[int, int]:  # noqa: ARG002 - nor a connection made
        """See the port."""
        return (0, 0)
