"""The door to the guard: the host-wide filter that closes every bridge port that no shield stands at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from buckler.model.shield import GuardState


class GuardFailed(Exception):
    """The kernel refused; the old guard still stands."""


class Guard(Protocol):
    """One table, replaced or updated in one transaction."""

    def observe(self) -> GuardState | None:
        """Read back the guard; None when the table is missing or is not ours in every rule (drift)."""

    def apply(self, state: GuardState) -> None:
        """Make the guard equal to ``state`` atomically; a missing or altered table is rebuilt whole. Raises GuardFailed."""

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` from another thread soon after any rule changed, by whomever; returns a function that stops."""

    def remove(self) -> None:
        """Take the guard away (only when Buckler leaves a host)."""
