"""ports/guard.py in memory. Drops no frame."""

from __future__ import annotations

from buckler.model.shield import GuardState


class InMemoryGuard:
    """Holds the last state; ``remove`` is also how a test takes the table away behind the agent's back."""

    def __init__(self) -> None:
        self._state: GuardState | None = None

    def observe(self) -> GuardState | None:
        return self._state

    def apply(self, state: GuardState) -> None:
        self._state = state

    def remove(self) -> None:
        self._state = None
