"""Forbidden packets from many sides at once, and eyes at every target that count what arrives. Judges nothing itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from buckler.lab.datacentre import OutsideJob
from buckler.lab.story.cast import Cast
from buckler.lab.story.probing import Job, arrived, hammer, watch

OUTSIDE = "outside"
"""The station outside the pool, named as if it were a guest."""


class Crossfire:
    """``shots``: who sends a packet every 5 ms to what in turn; ``eyes``: who counts which arrivals. Runs until it is stopped."""

    def __init__(self, cast: Cast, shots: Mapping[str, Sequence[str]], eyes: Mapping[str, Sequence[str]]) -> None:
        self._eyes: dict[str, Job | OutsideJob] = {who: _watch(cast, who, list(what)) for who, what in eyes.items()}
        self._shots: dict[str, Job | OutsideJob] = {who: _shoot(cast, who, list(what)) for who, what in shots.items()}

    def sightings(self) -> dict[str, int]:
        """Return how often each thing that eyes look for was seen so far, by whose eyes they are."""
        return {f"{who} saw {what}": int(n) for who, job in self._eyes.items() for what, n in job.read().items()}

    def stop(self, lost: Collection[str] = ()) -> tuple[int, int, tuple[str, ...]]:
        """Return (sent, passed, evidence): passed is what was answered and what was seen to arrive. ``lost`` can tell nothing."""
        shot = {who: job.stop() for who, job in self._shots.items() if who not in lost}
        seen = {who: job.stop() for who, job in self._eyes.items() if who not in lost}
        sent = sum(int(counts["sent"]) for counts in shot.values())
        passed = sum(int(counts["answered"]) for counts in shot.values()) + sum(map(arrived, seen.values()))
        evidence = [f"{who}: {counts}" for who, counts in shot.items()]
        evidence += [f"arrived at {who}: {counts}" for who, counts in seen.items()]
        return sent, passed, tuple(evidence)


def _shoot(cast: Cast, who: str, targets: list[str]) -> Job | OutsideJob:
    if who == OUTSIDE:
        return cast.centre.start_outside("hammer", "forbidden", "5", "0", *targets)
    return hammer(cast.centre, who, "forbidden", targets)


def _watch(cast: Cast, who: str, what: list[str]) -> Job | OutsideJob:
    if who == OUTSIDE:
        return cast.centre.start_outside("watch", "arrivals", "0", *what)
    return watch(cast.centre, who, "arrivals", what)
