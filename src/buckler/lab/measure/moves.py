"""Many moves of one fleet, each timed: by virsh, by QEMU's own clock, and by a client outside. Judges nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from buckler.lab.datacentre import DataCentre, build_lab, start_guests
from buckler.lab.fleet import fleet_documents, plan_fleet
from buckler.lab.measure.calls import Tracer
from buckler.lab.measure.timeline import Downtime, Timeline
from buckler.lab.plan import GuestPlan
from buckler.lab.pool import Pool, raise_pool
from buckler.lab.story.cast import Cast
from buckler.lab.story.crossfire import OUTSIDE, Crossfire
from buckler.lab.story.figures import Survived
from buckler.lab.story.fleetwork import forbidden, from_outside, idle, speaking
from buckler.lab.story.traffic import Traffic, add_up

MOVER, CLIENT = "server-1", "client-1"
FINE_MS = 2
"""The client outside speaks so often: its gap is known to that."""
Progress = Callable[[str], None]


class Timed(msgspec.Struct, frozen=True):
    """One move, in milliseconds: all of it as who asked for it saw it; the guest's standstill; the client's longest wait."""

    total_ms: float
    downtime_ms: float
    gap_ms: float


class Questions(msgspec.Struct, frozen=True):
    """Calls that lie between STOP and RESUME of ``moves``: ``hooks`` that libvirt waited for, ``asked`` by agents meanwhile."""

    moves: int
    hooks_seen: int
    hooks: int
    asked: int


class Range:
    """A lab with one pair, traffic that must live and a crossfire that must not pass. Close it."""

    def __init__(self, prefix: str, progress: Progress, *, bare: bool) -> None:
        self.plan = plan_fleet(1, prefix)
        self.centre: DataCentre = build_lab(self.plan, progress)
        if bare:
            start_guests(self.centre, self.plan.guests, {})
        else:
            raise_pool(self.centre, fleet_documents(1), progress)
        client, server = self.plan.guest(CLIENT), self.plan.guest(MOVER)
        self._inner = Traffic(self.centre, CLIENT, speaking(server), idle(server), f"tcp/{server.ipv4}/8080")
        outside = from_outside(server)
        self._outer = Traffic(self.centre, OUTSIDE, outside, outside, interval_ms=FINE_MS)
        self._fire = self._crossfire(client, server)
        self._timeline = Timeline(self.centre)

    def _crossfire(self, client: GuestPlan, server: GuestPlan) -> Crossfire:
        return Crossfire(Cast(Pool(self.centre), lambda _: None), *forbidden([(client, server)]))

    def move(self) -> Timed:
        """Move the server to the other host. Raises LabFailed, also when the client's connection does not go on."""
        source, destination = self._ends(MOVER)
        self._outer.forget_gap()
        began = time.time()
        seconds = self.centre.move(MOVER, destination).wait()
        downtime = self._timeline.downtime(MOVER, source, destination, began)
        self._outer.has_gone_on()
        return Timed(
            total_ms=round(seconds * 1000, 1),
            downtime_ms=round(downtime.milliseconds, 1),
            gap_ms=self._outer.gap_ms(),
        )

    def move_both(self) -> None:
        """Move server and client past each other at once."""
        moves = [self.centre.move(guest, self._ends(guest)[1]) for guest in (MOVER, CLIENT)]
        for each in moves:
            each.wait()

    def move_traced(self, count: int) -> Questions:
        """Move under the kernel's tracing."""
        tracer = Tracer(self.centre)
        downtimes: list[Downtime] = []
        try:
            for _ in range(count):
                source, destination = self._ends(MOVER)
                began = time.time()
                self.centre.move(MOVER, destination).wait()
                downtimes.append(self._timeline.downtime(MOVER, source, destination, began))
            time.sleep(0.5)
        finally:
            calls = tracer.close()
        touching = [call for call in calls if any(call.touches(each) for each in downtimes)]
        return Questions(
            moves=count,
            hooks_seen=sum(call.kind == "hook" for call in calls),
            hooks=sum(call.kind == "hook" for call in touching),
            asked=sum(call.kind == "question" for call in touching),
        )

    def check(self) -> None:
        """Raise LabFailed when a flow, the transfer or an idle connection does not go on."""
        for traffic in (self._inner, self._outer):
            traffic.has_gone_on()
            traffic.ask_idle()

    def close(self) -> tuple[Survived, int, int]:
        """Return what outlived all, and how many forbidden packets were sent and passed."""
        sent, passed, _ = self._fire.stop()
        survived = add_up([self._inner.stop(), self._outer.stop()])
        self._timeline.close()
        return survived, sent, passed

    def _ends(self, guest: str) -> tuple[str, str]:
        source = self.centre.host_of(guest)
        return source, next(host.name for host in self.plan.hosts if host.name != source)
