"""From what the world says now to totals that neither a restart nor a move makes smaller. Pure; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from buckler.model.program import Direction
from buckler.model.sample import Sample, Totals, add, highest, rise
from buckler.ports.performance import Reading
from buckler.ports.state import Share
from buckler.ports.telemetry import FIRST_REFUSAL, ReasonCount


class Inherited(msgspec.Struct, frozen=True):
    """What all earlier hosts came to when the VM arrived (``base``), and what this one had measured of it until then.

    A VM that comes back brings along what this host told others before: that must not be added again.
    """

    base: Totals = Totals()
    start: Totals = Totals()


def read_domain(share: Share, reading: Reading) -> Share:
    """Add what a domain used since it was last read. What it did not tell stays as it was, for the next time."""
    seen = Totals(*(before if now is None else now for now, before in zip(_told(reading), _known(share), strict=True)))
    is_same = share.run == reading.run and seen.cpu_ns >= share.seen.cpu_ns
    if not is_same:
        seen = Totals(*(now or 0 for now in _told(reading)))
    return msgspec.structs.replace(
        share,
        totals=add(share.totals, rise(seen, share.seen) if is_same else seen),
        memory=share.memory if reading.memory is None else reading.memory,
        run=reading.run,
        seen=seen,
    )


def read_taps(share: Share, taps: Mapping[int, Totals]) -> Share:
    """Add what all taps that the VM has now counted; taps that are gone were closed before."""
    totals = share.totals
    for ifindex, now in taps.items():
        totals = add(totals, _rise_of_tap(now, share.taps.get(ifindex, Totals())))
    return msgspec.structs.replace(share, totals=totals, taps=dict(taps))


def close_tap(share: Share, ifindex: int, last: Totals) -> Share:
    """Add what a tap counted to the end. An index that comes back begins at zero."""
    totals = add(share.totals, _rise_of_tap(last, share.taps.get(ifindex, Totals())))
    taps = {index: seen for index, seen in share.taps.items() if index != ifindex}
    return msgspec.structs.replace(share, totals=totals, taps=taps)


def packets_of(counts: Mapping[tuple[int, int], ReasonCount]) -> Totals:
    """Sum a tap's counts per reason: what passed in each direction, and what did not."""
    passed = {direction: ReasonCount(0, 0) for direction in Direction}
    refused = 0
    for (direction, reason), count in counts.items():
        if reason >= FIRST_REFUSAL or reason == 0:
            refused += count.packets
        else:
            before = passed[Direction(direction)]
            passed[Direction(direction)] = ReasonCount(before.packets + count.packets, before.bytes + count.bytes)
    sent, received = passed[Direction.EGRESS], passed[Direction.INGRESS]
    return Totals(
        sent_packets=sent.packets,
        sent_bytes=sent.bytes,
        received_packets=received.packets,
        received_bytes=received.bytes,
        refused_packets=refused,
    )


def sample_of(share: Share, at: float) -> Sample:
    """Tell a share as it is now."""
    return Sample(share.vm, at, share.memory, share.totals)


def take_base(given: Totals, known: Totals, share: Totals) -> Inherited:
    """Go on from what the host before gave; if that is less than what was known here, it had not heard of it."""
    return Inherited(highest(given, known), share)


def total_of(inherited: Inherited, share: Totals) -> Totals:
    """All hosts' shares, as far as this host was told."""
    return add(inherited.base, rise(share, inherited.start))


def _rise_of_tap(now: Totals, before: Totals) -> Totals:
    """A tap's counts never go back while it lives; those that are smaller began anew."""
    is_same = all(a >= b for a, b in zip(msgspec.structs.astuple(now), msgspec.structs.astuple(before), strict=True))
    return rise(now, before) if is_same else now


def _told(reading: Reading) -> tuple[int | None, ...]:
    return (
        reading.cpu_ns,
        reading.read_bytes,
        reading.read_requests,
        reading.written_bytes,
        reading.write_requests,
    )


def _known(share: Share) -> tuple[int, ...]:
    seen = share.seen
    return (seen.cpu_ns, seen.read_bytes, seen.read_requests, seen.written_bytes, seen.write_requests)
