"""ports/guard in memory. ``alter`` is what a hand at nft would do."""

from __future__ import annotations

from collections.abc import Callable

from buckler.model.shield import GuardState


class InMemoryGuard:
    """One guard of one imagined host."""

    def __init__(self) -> None:
        self._state: GuardState | None = None
        self._watchers: list[Callable[[], None]] = []

    def observe(self) -> GuardState | None:
        """See the port."""
        return self._state

    def apply(self, state: GuardState) -> None:
        """See the port."""
        self._state = state
        self._tell()

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """See the port. Tells at once, in the thread that changes something."""
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)

    def remove(self) -> None:
        """See the port."""
        self._state = None
        self._tell()

    def alter(self) -> None:
        """Change a rule behind the driver's back: drift."""
        self._state = None
        self._tell()

    def _tell(self) -> None:
        for changed in list(self._watchers):
            changed()
