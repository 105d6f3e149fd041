"""The pool's state as Prometheus metrics. Owns names and labels, counts nothing itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from buckler.model.operatorapi.pool import PoolStatus
from buckler.model.pool import HostState


def render_metrics(status: PoolStatus) -> bytes:
    """Write the metrics of one moment."""
    registry = CollectorRegistry()

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
