"""A VM's series out of what each of its hosts measured. Pure; measures and stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from buckler.model.ids import HostId
from buckler.model.operatorapi.traffic import SampleItem
from buckler.model.sample import Sample, Totals, add, highest
from buckler.ports.journal import StoredSample, VmSamples


def make_series(found: VmSamples, hosts: Mapping[HostId, str]) -> tuple[SampleItem, ...]:
    """At each sample the sum of all hosts' shares by then: no move makes it smaller, no host counts twice.

    What a host tells late is at its place in time; what it tells below an earlier word of its own is that earlier word.
    """
    shares: dict[HostId, Totals] = {}
    for stored in found.before:
        _take(shares, stored)
    items = []
    for stored in sorted(found.samples, key=lambda each: (each.sample.at, each.host, each.sample.sequence)):
        _take(shares, stored)
        items.append(_item(stored.sample, hosts.get(stored.host, stored.host), _sum(shares.values())))
    return tuple(items)


def _take(shares: dict[HostId, Totals], stored: StoredSample) -> None:
    shares[stored.host] = highest(shares.get(stored.host, Totals()), stored.sample.totals)


def _sum(shares: Iterable[Totals]) -> Totals:
    total = Totals()
    for share in shares:
        total = add(total, share)
    return total


def _item(sample: Sample, host: str, totals: Totals) -> SampleItem:
    return SampleItem(
        at=sample.at,
        host=host,
        memory=sample.memory,
        cpu_seconds=totals.cpu_ns / 1e9,
        read_bytes=totals.read_bytes,
        read_requests=totals.read_requests,
        written_bytes=totals.written_bytes,
        write_requests=totals.write_requests,
        sent_packets=totals.sent_packets,
        sent_bytes=totals.sent_bytes,
        received_packets=totals.received_packets,
        received_bytes=totals.received_bytes,
        refused_packets=totals.refused_packets,
    )
