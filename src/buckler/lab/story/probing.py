"""What guests can really reach, asked from inside them. Believes nothing that Buckler says."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from buckler.lab.datacentre import DataCentre
from buckler.lab.machine import LabFailed
from buckler.lab.plan import SERVED, GuestPlan
from buckler.model.operatorapi.answers import PortRange, Reach

PATIENCE_MS = 2500
REPEATS = 3
REPORTED = 0.8
"""Seconds in which a probe has written down what it saw; on a machine without time for that it is longer."""
ECHO = {"icmp4": ("ICMP", 8 << 8), "icmp6": ("ICMPv6", 128 << 8)}


class Service(NamedTuple):
    """Something one guest may ask of another: ``tcp``, ``udp`` or ``icmp``, IP version, port (0 for ICMP)."""

    protocol: str
    version: int
    port: int

    def target(self, guest: GuestPlan) -> str:
        """Write it as the probe reads it."""
        address = guest.ipv4 if self.version == 4 else guest.ipv6
        return f"{self.protocol}/{address}" + (f"/{self.port}" if self.port else "")

    def is_within(self, ranges: Iterable[PortRange]) -> bool:
        """Say whether what policy allows covers it."""
        protocol, port = ECHO.get(f"{self.protocol}{self.version}", (self.protocol.upper(), self.port))
        return any(
            allowed.protocol == "any" or (allowed.protocol == protocol and allowed.port <= port <= allowed.end_port)
            for allowed in ranges
        )


class Meeting(NamedTuple):
    """One guest asking a service of another."""

    origin: str
    to: str
    service: Service

    def __str__(self) -> str:
        what = f"{self.service.protocol.upper()} {self.service.port or 'echo'}"
        return f"{self.origin} → {self.to} {what} (IPv{self.service.version})"


SERVICES = tuple(
    Service(protocol, version, port)
    for version in (4, 6)
    for protocol, port in [*((spec[:3], int(spec[4:])) for spec in SERVED), ("icmp", 0)]
)


def every_meeting(guests: Iterable[GuestPlan]) -> frozenset[Meeting]:
    """Every pair of different guests, both ways, with every service."""
    names = [guest.name for guest in guests]
    return frozenset(Meeting(a, b, service) for a in names for b in names if a != b for service in SERVICES)


def expected_meetings(reach: Reach, guests: Iterable[GuestPlan]) -> frozenset[Meeting]:
    """What must succeed according to ``buckler reach``; whom it does not know may reach and be reached by nobody."""
    allowed = {(pair.origin, pair.to): pair.allowed for pair in reach.pairs}
    return frozenset(
        meeting
        for meeting in every_meeting(guests)
        if meeting.service.is_within(allowed.get((meeting.origin, meeting.to), ()))
    )


def probe_meetings(
    centre: DataCentre, guests: tuple[GuestPlan, ...], hoped: frozenset[Meeting] = frozenset()
) -> frozenset[Meeting]:
    """Try every meeting, all guests at once; return those that succeeded. A refusal by RST has got through too.

    What was ``hoped`` for and found no answer is asked again: on a busy machine an answer may come too late.
    """
    found = _ask(centre, guests, every_meeting(guests))
    for _ in range(REPEATS):
        if missing := hoped - found:
            found |= _ask(centre, guests, missing)
    return found


def _ask(centre: DataCentre, guests: tuple[GuestPlan, ...], meetings: frozenset[Meeting]) -> frozenset[Meeting]:
    by_name = {guest.name: guest for guest in guests}

    def ask(origin: str) -> set[Meeting]:
        asked = {each.service.target(by_name[each.to]): each for each in meetings if each.origin == origin}
        answers = scan(centre, origin, list(asked))
        return {asked[target] for target, answer in answers.items() if is_reached(answer)}

    with ThreadPoolExecutor(max_workers=len(guests)) as pool:
        return frozenset().union(*pool.map(ask, sorted({each.origin for each in meetings})))


def scan(centre: DataCentre, guest: str, targets: list[str], patience_ms: int = PATIENCE_MS) -> dict[str, str]:
    """Let a guest try targets; return an answer for each of them."""
    answer = centre.execute(guest, f"probe scan {patience_ms} {' '.join(targets)}")
    found = dict(line.rsplit(" ", 1) for line in answer.output.splitlines())
    if answer.code or set(found) != set(targets):
        raise LabFailed(f"the probe in {guest} failed: {answer.output}")
    return found


def is_reached(answer: str) -> bool:
    """Say whether a probe's answer proves that packets went through."""
    return answer in ("open", "refused")


class Job:
    """A probe that runs in a guest until it is stopped, and the counts it leaves."""

    def __init__(self, centre: DataCentre, guest: str, verb: str, name: str, arguments: str) -> None:
        self._centre, self._guest, self._path = centre, guest, f"/tmp/{name}"  # noqa: S108  (in the guest)
        command = (
            f"rm -f {self._path}; probe {verb} {self._path} {arguments} >/dev/null 2>&1 & echo $! >{self._path}.pid"
        )
        self._run(command)

    def read(self) -> dict[str, str]:
        """Return what was counted so far, as words in pairs."""
        words = self._run(f"cat {self._path} 2>/dev/null || true").split()
        return dict(zip(words[::2], words[1::2], strict=True))

    def read_settled(self) -> dict[str, str]:
        """Return what was counted when all that had come before the call is written down."""
        time.sleep(REPORTED)
        return self.read()

    def ask_again(self) -> None:
        """Let idle flows speak once more; forget the longest gap."""
        self._run(f"kill -USR1 $(cat {self._path}.pid)")

    def stop(self) -> dict[str, str]:
        """End it and return what it counted."""
        self._run(
            f"p=$(cat {self._path}.pid); kill $p 2>/dev/null; "
            "n=0; while [ -d /proc/$p ] && [ $n -lt 50 ]; do usleep 50000; n=$((n+1)); done"
        )
        counts = self.read()
        if not counts:
            raise LabFailed(f"the probe in {self._guest} left no counts in {self._path}")
        return counts

    def _run(self, command: str) -> str:
        answer = self._centre.execute(self._guest, command)
        if answer.code:
            raise LabFailed(f"in {self._guest}: {command}: {answer.output}")
        return answer.output


def hammer(centre: DataCentre, guest: str, name: str, targets: list[str], interval_ms: int = 5) -> Job:
    """Send a packet every ``interval_ms`` until stopped. Counts ``sent`` and ``answered``."""
    return Job(centre, guest, "hammer", name, f"{interval_ms} 0 {' '.join(targets)}")


def watch(centre: DataCentre, guest: str, name: str, what: list[str]) -> Job:
    """Count what arrives in a guest: packets from an address, requests like ``tcp/ADDRESS/PORT``, until stopped."""
    return Job(centre, guest, "watch", name, f"0 {' '.join(what)}")


class Kept(NamedTuple):
    """One flow of ``keep``: its state is ``open`` or how it ended; ``wrong`` bytes or datagrams; the longest wait for an answer."""

    target: str
    state: str
    sent: int
    answered: int
    wrong: int
    gap_ms: int

    def __str__(self) -> str:
        return f"{self.target} {self.state}, {self.sent} sent, {self.answered} answered, {self.wrong} wrong, {self.gap_ms} ms"

    @property
    def lives(self) -> bool:
        """Nobody ended it, it speaks, and what came back is what was sent."""
        return self.state == "open" and self.answered > 0 and not self.wrong


def kept(counts: dict[str, str]) -> tuple[Kept, ...]:
    """Read what ``keep`` counted."""
    return tuple(_kept(name, text) for name, text in counts.items())


def _kept(name: str, text: str) -> Kept:
    state, *numbers = text.split(",")
    sent, answered, wrong, gap = map(int, numbers)
    return Kept(name, state, sent, answered, wrong, gap)


def keep(centre: DataCentre, guest: str, name: str, targets: list[str], interval_ms: int = 20) -> Job:
    """Open a flow to each target once and let it speak every ``interval_ms`` (0: when asked) until stopped."""
    return Job(centre, guest, "keep", name, f"{interval_ms} {' '.join(targets)}")


def pour(centre: DataCentre, guest: str, name: str, target: str, kib_per_second: int = 256) -> Job:
    """Keep a transfer running whose every byte is compared, until stopped."""
    return Job(centre, guest, "pour", name, f"{kib_per_second} {target}")


def hold(centre: DataCentre, guest: str, name: str, target: str) -> Job:
    """Keep one TCP connection talking until stopped."""
    return Job(centre, guest, "hold", name, f"50 {target}")


def arrived(watched: dict[str, str]) -> int:
    """Add up what a watch counted."""
    return sum(int(count) for count in watched.values())
