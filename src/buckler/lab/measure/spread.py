"""Medians with an interval, and percentiles. Pure; knows nothing of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

_Z95 = 1.96


class Spread(msgspec.Struct, frozen=True):
    """The median of ``count`` values, and an interval that holds the true one 95 times of 100 (by order statistics)."""

    count: int
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:g} ({self.low:g} to {self.high:g})"


def spread(values: Sequence[float], digits: int = 1) -> Spread:
    """Raises ValueError when there is nothing to describe."""
    if not values:
        raise ValueError("no values")
    ordered, count = sorted(values), len(values)
    half = _Z95 * math.sqrt(count) / 2
    low = max(math.floor(count / 2 - half), 0)
    high = min(math.ceil(count / 2 + half), count - 1)
    return Spread(count, *(round(value, digits) for value in (_median(ordered), ordered[low], ordered[high])))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` (0 to 1) of all do not exceed: the nearest rank. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
