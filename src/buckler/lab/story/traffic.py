"""Allowed traffic that has to outlive moves: speaking, idle and pouring, from a guest or from outside. Judges only itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from buckler.lab.datacentre import DataCentre, OutsideJob
from buckler.lab.fleet import UNSERVED
from buckler.lab.machine import LabFailed
from buckler.lab.story.cast import wait_until
from buckler.lab.story.crossfire import OUTSIDE
from buckler.lab.story.figures import Survived
from buckler.lab.story.probing import Job, Kept, keep, kept, pour

SPEAKING_MS = 20


class Traffic:
    """What one station keeps open: flows that speak every 20 ms, ``idle`` ones that speak when asked, a transfer.

    It is made when all of them have had an answer. Raises LabFailed when one does not even begin.
    """

    def __init__(
        self,
        centre: DataCentre,
        who: str,
        speaking: Sequence[str],
        idle: Sequence[str] = (),
        poured: str = "",
        interval_ms: int = SPEAKING_MS,
    ) -> None:
        self._who = who
        self._speaking = _keep(centre, who, "speaking", list(speaking), interval_ms) if speaking else None
        self._idle = _keep(centre, who, "idle", list(idle), 0) if idle else None
        self._pour = _pour(centre, who, poured) if poured else None
        wait_until(f"all flows of {who} speak", self._has_begun, seconds=15)

    def _has_begun(self) -> bool:
        for job, wanted in ((self._speaking, 3), (self._idle, 1)):
            flows = kept(job.read()) if job else ()
            if job and not (flows and all(flow.answered >= wanted for flow in flows)):
                return False
        return self._pour is None or int(self._pour.read().get("received", 0)) > 0

    def ask_idle(self) -> None:
        """Let the idle flows speak once more. Raises LabFailed when one does not answer."""
        if self._idle is None:
            return
        before = {flow.target: flow.answered for flow in kept(self._idle.read())}
        self._idle.ask_again()

        def all_answered() -> bool:
            return all(flow.answered > before[flow.target] for flow in kept(self._idle.read())) if self._idle else True

        try:
            wait_until(f"the idle flows of {self._who} answer", all_answered, seconds=15)
        except LabFailed as failed:
            raise LabFailed(f"{failed}: {[str(flow) for flow in kept(self._idle.read())]}") from failed

    def has_gone_on(self, seconds: float = 20) -> None:
        """Wait until every speaking flow and the transfer got a new answer. Raises LabFailed, naming those that did not."""
        before = {flow.target: flow.answered for flow in self._spoken()}
        poured = self._poured()

        def lagging() -> tuple[str, ...]:
            return tuple(str(flow) for flow in self._spoken() if flow.answered <= before[flow.target])

        try:
            wait_until(
                f"the flows of {self._who} go on",
                lambda: not lagging() and (self._pour is None or self._poured() > poured),
                seconds,
            )
        except LabFailed as failed:
            words = self._pour.read() if self._pour else ""
            raise LabFailed(f"{failed}: {lagging()} {words}") from failed

    def forget_gap(self) -> None:
        """Begin to measure the longest gap anew."""
        if self._speaking:
            self._speaking.ask_again()

    def gap_ms(self) -> int:
        """Return the longest that a speaking flow waited for an answer since the last ``forget_gap``."""
        return _longest(self._spoken())

    def stop(self) -> Survived:
        """End it all; say what was still alive until then."""
        flows = [flow for job in (self._speaking, self._idle) if job for flow in kept(job.stop())]
        dead = [f"{self._who}: {flow}" for flow in flows if not flow.lives]
        resets = sum("tcp/" in flow.target and flow.state != "open" for flow in flows)
        received = 0
        if self._pour:
            counts = self._pour.stop()
            received, is_open = int(counts["received"]), counts["state"] == "open"
            resets += not is_open
            if not is_open or int(counts["wrong"]) or not received:
                dead.append(f"{self._who}: the transfer: {counts}")
        return Survived(
            flows=len(flows) + (self._pour is not None),
            resets=resets,
            dead=tuple(dead),
            mib_poured=round(received / 2**20, 2),
            longest_gap_ms=_longest(flows),
        )

    def _spoken(self) -> tuple[Kept, ...]:
        return kept(self._speaking.read()) if self._speaking else ()

    def _poured(self) -> int:
        return int(self._pour.read()["received"]) if self._pour else 0


def _longest(flows: Iterable[Kept]) -> int:
    """ICMP errors do not count: the kernel that makes them lets a second pass between two of them."""
    return max((flow.gap_ms for flow in flows if not flow.target.endswith(f"/{UNSERVED}")), default=0)


def add_up(parts: Sequence[Survived]) -> Survived:
    """Return one result for many traffics."""
    return Survived(
        flows=sum(part.flows for part in parts),
        resets=sum(part.resets for part in parts),
        dead=tuple(words for part in parts for words in part.dead),
        mib_poured=round(sum(part.mib_poured for part in parts), 2),
        longest_gap_ms=max((part.longest_gap_ms for part in parts), default=0),
    )


def _keep(centre: DataCentre, who: str, name: str, targets: list[str], interval_ms: int) -> Job | OutsideJob:
    if who == OUTSIDE:
        return centre.start_outside("keep", name, str(interval_ms), *targets)
    return keep(centre, who, name, targets, interval_ms)


def _pour(centre: DataCentre, who: str, target: str) -> Job | OutsideJob:
    if who == OUTSIDE:
        return centre.start_outside("pour", "poured", "256", target)
    return pour(centre, who, "poured", target)
