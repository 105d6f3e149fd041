"""ports/guard in memory. ``alter`` is what a hand at nft would do."""

from __future__ import annotations

from buckler.model.shield import GuardState


class InMemoryGuard:
    """One guard of one imagined host."""

    def __init__(self) -> None:
        self._state: GuardState | None = None

    def observe(self) -> GuardState | None:
        """See the port."""
        return self._state

    def apply(self, state: GuardState) -> None:
        """See the port."""
        self._state = state

    def remove(self) -> None:
        """See the port."""
        self._state = None

    def alter(self) -> None:
        """Change a rule behind the driver's back: drift."""
        self._state = None
