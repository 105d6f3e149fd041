"""The figures as Markdown, for docs/design/performance.md. Owns no figure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.net.cost import Cost
from benchmarks.net.figures import Figure, Machine
from benchmarks.net.memory import Memory

_LOADS = {
    "tap_known": "64 B, one flow, tap to tap",
    "tap_new": "64 B, all new, tap to tap",
    "veth_known": "64 B, one flow, to a socket",
    "veth_new": "64 B, all new, to a socket",
    "tcp_bytes": "TCP throughput",
    "tcp_connections": "TCP connections",
}
_COSTS = {
    "established_from_vm": "established TCP, from the VM",
    "established_to_vm": "established TCP, to the VM",
    "established_udp": "established UDP",
    "denied": "new and denied (TCP)",
    "denied_not_remembered": "new and denied, nothing remembered (SCTP)",
    "allowed_new_port": "new and allowed, a new source port each",
    "allowed_new_peer_and_port": "new and allowed, a new peer and new ports each",
}


def write_machine(machine: Machine) -> str:
    """One line."""
    return (
        f"Linux {machine.kernel}, {machine.cpus} cores ({machine.processor}); load average {machine.load_before} before, "
        f"{machine.load_after} after."
    )


def write_ratios(throughput: Mapping[str, Mapping[str, Figure]], left_out: Mapping[str, str]) -> str:
    """Ratio to no filter, median and quartiles; the rows in the order in which they were measured."""
    lines = ["| filter | " + " | ".join(_LOADS.values()) + " |", "|---" * (len(_LOADS) + 1) + "|"]
    for name, loads in throughput.items():
        cells = [_write_ratio(loads[load]) for load in _LOADS]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    lines += [
        f"| {name.replace('_', ' ')} | not measured: {why} |" + " |" * (len(_LOADS) - 1)
        for name, why in left_out.items()
    ]
    return "\n".join(lines)


def write_rates(throughput: Mapping[str, Mapping[str, Figure]]) -> str:
    """A second, with the filter; the first row is no filter at all."""
    rows = {"no filter": {load: _bare(throughput, load) for load in _LOADS}}
    rows |= {name.replace("_", " "): {load: loads[load].rate for load in _LOADS} for name, loads in throughput.items()}
    lines = ["| filter | " + " | ".join(_LOADS.values()) + " |", "|---" * (len(_LOADS) + 1) + "|"]
    for name, rates in rows.items():
        lines.append(f"| {name} | " + " | ".join(_write_rate(load, rates[load]) for load in _LOADS) + " |")
    return "\n".join(lines)


def write_costs(costs: Mapping[str, Cost]) -> str:
    """Nanoseconds by size of the policy."""
    lines = ["| ns in the program | " + " | ".join(costs) + " |", "|---" * (len(costs) + 1) + "|"]
    for field, text in _COSTS.items():
        lines.append(f"| {text} | " + " | ".join(str(getattr(cost, field)) for cost in costs.values()) + " |")
    return "\n".join(lines)


def write_memory(memory: Memory) -> str:
    """KiB, one line."""
    return (
        f"A host's maps {memory.host:,.0f} KiB, each tap {memory.vm:,.0f} KiB more, 10,000 connections "
        f"{memory.per_10k_connections:,.0f} KiB, a program of 100,000 entries {memory.policy_100k:,.0f} KiB, "
        f"100,000 known addresses {memory.known_addresses_100k:,.0f} KiB."
    )


def _bare(throughput: Mapping[str, Mapping[str, Figure]], load: str) -> float:
    rates = sorted(loads[load].rate_without for loads in throughput.values())
    return rates[len(rates) // 2]


def _write_ratio(figure: Figure) -> str:
    return f"{figure.ratio:.2f} ({figure.ratio_low:.2f}-{figure.ratio_high:.2f})"


def _write_rate(load: str, rate: float) -> str:
    if load == "tcp_bytes":
        return f"{rate * 8 / 1e9:.2f} Gbit/s"
    return f"{rate:,.0f}"
