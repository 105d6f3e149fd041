"""Ratios of paired runs, and the machine they were taken on. Owns no measurement."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """What paired runs say: ``rate`` a second with the filter, ``ratio`` to none, both medians; quartiles; ``runs`` pairs."""

    rate: float
    rate_without: float
    ratio: float
    ratio_low: float
    ratio_high: float
    runs: int


class Machine(msgspec.Struct, frozen=True):
    """Where and beside what the figures were taken."""

    kernel: str
    processor: str
    cpus: int
    load_before: float
    load_after: float


def sum_up(pairs: list[tuple[float, float]]) -> Figure:
    """``pairs``: (with the filter, without it), taken one right after the other."""
    ratios = sorted(with_it / without for with_it, without in pairs if without)
    low, middle, high = quartiles(ratios)
    return Figure(
        rate=round(statistics.median(with_it for with_it, _ in pairs), 1),
        rate_without=round(statistics.median(without for _, without in pairs), 1),
        ratio=round(middle, 3),
        ratio_low=round(low, 3),
        ratio_high=round(high, 3),
        runs=len(pairs),
    )


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def describe_machine(load_before: float) -> Machine:
    """Name kernel and processor, without any path."""
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = found[0].partition(":")[2].strip() if found else platform.machine()
    return Machine(
        platform.release(), processor, os.cpu_count() or 1, round(load_before, 2), round(os.getloadavg()[0], 2)
    )
