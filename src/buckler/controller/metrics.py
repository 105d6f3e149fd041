"""The pool's state, and what hosts counted, as Prometheus metrics. Owns names and labels, counts nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from buckler.model.ids import HostId
from buckler.model.operatorapi.pool import PoolStatus
from buckler.model.pool import HostState
from buckler.ports.journal import CounterTotal, SampleIntake


class Told(msgspec.Struct, frozen=True):
    """What hosts counted, since they joined: packets by verdict, and by host what they had to shed instead of telling it."""

    packets: Mapping[str, int]
    events_shed: Mapping[str, int]
    samples_shed: Mapping[str, int]


def sum_told(
    totals: Iterable[CounterTotal], intakes: Mapping[HostId, SampleIntake], hosts: Mapping[HostId, str]
) -> Told:
    """Add up what is stored."""
    packets, shed = dict.fromkeys(("allow", "deny"), 0), dict.fromkeys(hosts.values(), 0)
    for total in totals:
        if total.verdict in packets:
            packets[total.verdict] += total.packets
        elif total.verdict == "shed":
            for host in total.hosts:
                shed[hosts.get(HostId(host), host)] = shed.get(hosts.get(HostId(host), host), 0) + total.packets
    samples = dict.fromkeys(hosts.values(), 0) | {hosts.get(host, host): one.shed for host, one in intakes.items()}
    return Told(packets, shed, samples)


def render_metrics(status: PoolStatus, told: Told) -> bytes:
    """Write the metrics of one moment."""
    registry = CollectorRegistry()
    registry.register(_Counted(told))

    def show(name: str, text: str, value: float) -> None:
        Gauge(f"buckler_{name}", text, registry=registry).set(value)

    show("revision", "Newest committed revision of the pool.", status.revision)
    show("vms", "Registered VMs.", status.vms)
    show("policies", "Policies and flows in force.", status.policies)
    show("rogues", "Observed domains that nobody registered.", status.rogues)
    show("unprotected", "VMs whose shield does not enforce.", status.unprotected)
    show("ledger_entries", "Entries of the ledger.", status.ledger_entries)
    show(
        "rollout_waiting_hosts", "Hosts that a change waits for.", len(status.rollout.waiting) if status.rollout else 0
    )
    columns = {
        "wanted": Gauge("buckler_host_revision_wanted", "Revision published for a host.", ["host"], registry=registry),
        "enforced": Gauge(
            "buckler_host_revision_enforced", "Revision that its kernel proved.", ["host"], registry=registry
        ),
        "seen": Gauge("buckler_host_seen_seconds", "Unix time its agent was last heard.", ["host"], registry=registry),
        "connected": Gauge("buckler_host_connected", "Whether its stream is open.", ["host"], registry=registry),
    }
    for host in status.hosts:
        if host.state is not HostState.REVOKED:
            columns["wanted"].labels(host.name).set(host.wanted)
            columns["enforced"].labels(host.name).set(host.enforced)
            columns["seen"].labels(host.name).set(host.seen_at)
            columns["connected"].labels(host.name).set(host.connected)
    return generate_latest(registry)


class _Counted(Collector):
    """Counts that hosts keep: they rise only, also over restarts of the controller."""

    def __init__(self, told: Told) -> None:
        self._told = told

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See prometheus_client."""
        for name, text, label, counts in (
            ("packets", "Packets that shields decided, each end for itself.", "verdict", self._told.packets),
            ("events_shed", "Events that shields did not tell as flows.", "host", self._told.events_shed),
            ("samples_shed", "Performance samples that a host forgot untold.", "host", self._told.samples_shed),
        ):
            family = CounterMetricFamily(f"buckler_{name}", text, labels=[label])
            for value, count in sorted(counts.items()):
                family.add_metric([value], count)
            yield family
