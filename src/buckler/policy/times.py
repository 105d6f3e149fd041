"""Windows of time as values: cut off, asked, listed. Knows no clock, no zone and no document."""

from __future__ import annotations

import msgspec

NOW = 0
"""The moment at which times were asked for."""


class Times(msgspec.Struct, frozen=True):
    """When something holds, from some moment on: from the first to before the second. 0: since before; 0: for good.

    ``known``: of what is later nothing is known; 0: everything is.
    """

    windows: tuple[tuple[int, int], ...]
    known: int = 0


ALWAYS = Times(((0, 0),))
NEVER = Times(())


def ended(times: Times, end: int, now: float = 0) -> Times:
    """Cut times off at an end."""
    if end <= now:
        return Times(())
    windows = tuple((first, min(last or end, end)) for first, last in times.windows if first < end)
    return Times(windows, 0 if times.known and end <= times.known else times.known)


def edges_of(times: Times) -> tuple[int, ...]:
    """List every moment at which times begin or end, rising."""
    return tuple(sorted({edge for window in times.windows for edge in window if edge}))


def holds_at(times: Times | None, moment: int) -> bool:
    """Say whether something holds at a moment; 0: now."""
    return times is None or any(first <= moment and (not last or moment < last) for first, last in times.windows)
