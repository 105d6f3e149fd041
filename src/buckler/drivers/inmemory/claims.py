"""ports/claims in memory: gives what it was fed. Sees no frame."""

from __future__ import annotations

from collections import deque

from buckler.ports.claims import SeenClaim
from buckler.ports.telemetry import Shed


class InMemoryClaims:
    """``seen`` waits to be taken; ``lost`` is how many more there were."""

    def __init__(self) -> None:
        self.seen: deque[SeenClaim] = deque()
        self.lost = 0

    def claims(self, limit: int) -> list[SeenClaim]:
        """See the port."""
        return [self.seen.popleft() for _ in range(min(limit, len(self.seen)))]

    def shed(self) -> Shed:
        """See the port."""
        return Shed(self.lost, 0)
