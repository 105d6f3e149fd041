"""Who plays in the story: the running pool with its guests, and where to tell what happens. Owns no step."""

from __future__ import annotations

import time
from collections.abc import Callable

from buckler.client.operator import OperatorClient
from buckler.lab.datacentre import DataCentre
from buckler.lab.machine import LabFailed
from buckler.lab.plan import GuestPlan
from buckler.lab.pool import Pool
from buckler.lab.story.probing import Meeting, expected_meetings, probe_meetings
from buckler.ledger.entry import Entry, read_entry

Progress = Callable[[str], None]
TENANT = "shop"
"""Whose the example's VMs are."""


class Cast:
    """What every step needs."""

    def __init__(self, pool: Pool, tell: Progress) -> None:
        self.pool = pool
        self.tell = tell

    @property
    def centre(self) -> DataCentre:
        """The hosts and guests below Buckler."""
        return self.pool.centre

    @property
    def guests(self) -> tuple[GuestPlan, ...]:
        """All guests, the rogue among them."""
        return self.centre.plan.guests

    def guest(self, name: str) -> GuestPlan:
        """Find one guest."""
        return self.centre.plan.guest(name)

    def operator(self) -> OperatorClient:
        """Return a client of the controller; close it after use."""
        return self.pool.operator()

    def expected(self) -> frozenset[Meeting]:
        """What must succeed now, according to ``buckler reach``."""
        with self.operator() as client:
            return expected_meetings(client.reach(TENANT), self.guests)

    def probed(self, hoped: frozenset[Meeting] = frozenset()) -> frozenset[Meeting]:
        """What really succeeds now; what is ``hoped`` for is given more than one chance."""
        return probe_meetings(self.centre, self.guests, hoped)

    def page(self, guest: str) -> str:
        """Return a guest's web page as the outside sees it; empty when there is none."""
        done = self.centre.attempt_outside("get", f"tcp/{self.guest(guest).ipv4}/80")
        return done.stdout.strip() if done.returncode == 0 else ""

    def ledger(self) -> list[Entry]:
        """Read the whole ledger, unverified: ``buckler ledger verify`` is asked for that."""
        entries: list[Entry] = []
        with self.operator() as client:
            while True:
                page = client.ledger_page(after=len(entries))
                entries += [read_entry(each.entry) for each in page.entries]
                if not page.entries or len(entries) >= page.size:
                    return entries


def differences(one: frozenset[Meeting], other: frozenset[Meeting]) -> tuple[str, ...]:
    """Say where two findings differ, at most the first twenty."""
    return tuple(sorted(str(meeting) for meeting in one ^ other))[:20]


def wait_until(what: str, is_so: Callable[[], bool], seconds: float = 20, pause: float = 0.1) -> float:
    """Wait for something to be so; return after how many seconds it was. Raises LabFailed."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            raise LabFailed(f"not within {seconds:g} s: {what}")
        time.sleep(pause)
    return time.monotonic() - began
