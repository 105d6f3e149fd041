"""What a VM used, as one host measured it at one moment. Owns the form and the sums, not the measuring."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from buckler.model.ids import VmId

MOST = 2**62
"""No figure is larger: whatever would be is cut here, so that every store and reader can hold it."""


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """Counts that never go back.

    CPU time is of the whole hypervisor process. Packets and bytes are those that the VM's shields let pass, counted in
    the kernel at its taps: ``sent`` by the VM, ``received`` by it; ``refused`` are packets of both directions.
    """

    cpu_ns: int = 0
    read_bytes: int = 0
    read_requests: int = 0
    written_bytes: int = 0
    write_requests: int = 0
    sent_packets: int = 0
    sent_bytes: int = 0
    received_packets: int = 0
    received_bytes: int = 0
    refused_packets: int = 0


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """``totals`` are one host's share: what it measured of the VM over all its stays there. All hosts' shares make the VM's.

    ``sequence`` rises with every sample of a host and is never used again, so what is missing shows. ``memory`` is what
    its hypervisor process holds now, in bytes.
    """

    vm: VmId
    at: float
    memory: int
    totals: Totals
    sequence: int = 0


def add(one: Totals, other: Totals) -> Totals:
    """Sum field by field."""
    return _each(lambda a, b: a + b, one, other)


def highest(one: Totals, other: Totals) -> Totals:
    """Keep the higher of each field: a total told late or twice takes nothing away."""
    return _each(max, one, other)


def rise(now: Totals, before: Totals) -> Totals:
    """By how much each field is above ``before``; never negative."""
    return _each(lambda a, b: a - b, now, before)


def is_sound(totals: Totals) -> bool:
    """Say whether all figures can be what they are said to be."""
    return all(0 <= figure <= MOST for figure in msgspec.structs.astuple(totals))


def _each(combine: Callable[[int, int], int], one: Totals, other: Totals) -> Totals:
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Totals(*(min(max(combine(a, b), 0), MOST) for a, b in pairs))
