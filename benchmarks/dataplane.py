"""``./bench dataplane``: what the shield costs a packet, beside no filter and the filters of others. About 7 minutes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.net import filters, table  # noqa: E402 - neither the benchmarks nor the tests are a package of ours
from benchmarks.net.cost import Cost, measure_cost  # noqa: E402 - the same
from benchmarks.net.figures import Figure, Machine, describe_machine  # noqa: E402 - the same
from benchmarks.net.memory import Memory, measure_memory  # noqa: E402 - the same
from benchmarks.net.throughput import measure, open_flow  # noqa: E402 - the same
from benchmarks.net.world import World, build_traffic  # noqa: E402 - the same

Install = Callable[[World], object]
Measured = TypeVar("Measured")
SIZES = {"10": 10, "1k": 1_000, "10k": 10_000, "100k": 100_000}
SHIELDS: dict[str, Install] = {
    **{f"shield_{size}": partial(filters.install_shield, entries=SIZES[size]) for size in ("10", "1k", "100k")},
    "shield_both_ends_100k": partial(filters.install_shield, entries=100_000, both=True),
    "shield_both_ends_and_guard_100k": partial(filters.install_shield, entries=100_000, both=True, guard=True),
}
PEERS: dict[str, Install] = {
    f"{name}_{size}": partial(install, rules=SIZES[size])
    for name, install, sizes in (
        ("nft_map", filters.install_nft_map, ("10", "1k", "10k", "100k")),
        ("nft_linear", filters.install_nft_linear, ("10", "1k", "10k")),
        ("ebtables", filters.install_ebtables, ("10", "1k", "10k")),
        ("iptables_conntrack", filters.install_iptables, ("10", "1k", "10k")),
    )
    for size in sizes
}
ROUNDS, ROUNDS_OF_PEERS, DISTINCT = 13, 4, 20_000
QUICK_ROUNDS, QUICK_DISTINCT = 5, 4_000
HEADLINE_KNOWN, HEADLINE_NEW = "veth_known", "veth_new"


class Result(msgspec.Struct, frozen=True):
    """The figures by name, then all that was measured. Ratios of one shielded end, as the others filter one end."""

    known_ratio_10: float
    known_ratio_100k: float
    new_ratio_10: float
    new_ratio_100k: float
    known_ratio_tap_100k: float
    new_ratio_tap_100k: float
    established_ns: int
    new_denied_ns: int
    new_allowed_ns: int
    host_kib: float
    vm_kib: float
    per_10k_connections_kib: float
    machine: Machine
    seconds: float
    throughput: dict[str, dict[str, Figure]]
    cost: dict[str, Cost]
    memory: Memory
    left_out: dict[str, str]


def tell(text: str) -> None:
    """Say how far it is."""
    sys.stderr.write(f"dataplane: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Return 0: a slow machine is no failure."""
    parser = argparse.ArgumentParser(prog="./bench dataplane", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--table", type=Path, help="also write the tables (Markdown) to this file")
    parser.add_argument(
        "--quick", action="store_true", help="the shield and the smallest of the others, few rounds: 1 minute"
    )
    parser.add_argument(
        "--only", default="", help="only filters with this in their name (the shield is always measured)"
    )
    arguments = parser.parse_args()
    result = run(quick=arguments.quick, only=arguments.only)
    text = describe(result)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    if arguments.table:
        arguments.table.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 0


def run(*, quick: bool, only: str) -> Result:
    """Build all worlds, measure them in turns, take everything away again."""
    started, load = time.monotonic(), os.getloadavg()[0]
    chosen = {name: install for name, install in PEERS.items() if only in name and (not quick or name.endswith("_10"))}
    rounds = dict.fromkeys(SHIELDS, QUICK_ROUNDS if quick else ROUNDS)
    rounds |= dict.fromkeys(chosen, 2 if quick else ROUNDS_OF_PEERS)
    with tempfile.TemporaryDirectory(prefix="buckler-dataplane-") as folder, ExitStack() as stack:
        traffic = build_traffic(Path(folder))
        costs = {size: _alone(traffic, partial(_cost, size=size, quick=quick)) for size in ("10", "100k")}
        memory = _alone(traffic, measure_memory)
        bare = _open(stack, "none", traffic)
        worlds, left_out = _install(stack, SHIELDS | chosen, traffic)
        throughput = measure(bare, worlds, rounds, tell)
    big = costs["100k"]
    return Result(
        known_ratio_10=throughput["shield_10"][HEADLINE_KNOWN].ratio,
        known_ratio_100k=throughput["shield_100k"][HEADLINE_KNOWN].ratio,
        new_ratio_10=throughput["shield_10"][HEADLINE_NEW].ratio,
        new_ratio_100k=throughput["shield_100k"][HEADLINE_NEW].ratio,
        known_ratio_tap_100k=throughput["shield_100k"]["tap_known"].ratio,
        new_ratio_tap_100k=throughput["shield_100k"]["tap_new"].ratio,
        established_ns=max(big.established_from_vm, big.established_to_vm, big.established_udp),
        new_denied_ns=big.denied,
        new_allowed_ns=big.allowed_new_port,
        host_kib=memory.host,
        vm_kib=memory.vm,
        per_10k_connections_kib=memory.per_10k_connections,
        machine=describe_machine(load),
        seconds=round(time.monotonic() - started, 1),
        throughput=throughput,
        cost=costs,
        memory=memory,
        left_out=left_out,
    )


def _open(stack: ExitStack, name: str, traffic: Path) -> World:
    world = World(name, traffic)
    stack.callback(world.close)
    return world


def _install(stack: ExitStack, installs: dict[str, Install], traffic: Path) -> tuple[dict[str, World], dict[str, str]]:
    """Make a world for each filter; what this machine has not got is named, not hidden."""
    worlds, left_out = {}, {}
    for name, install in installs.items():
        tell(f"sets up {name}")
        world = _open(stack, name, traffic)
        try:
            install(world)
        except (OSError, RuntimeError) as failure:
            if name in SHIELDS:
                raise
            left_out[name] = str(failure).replace("\n", " ")
            continue
        open_flow(world)
        worlds[name] = world
    return worlds, left_out


def _alone(traffic: Path, measure_it: Callable[[World], Measured]) -> Measured:
    tell("measures the program alone")
    world = World("alone", traffic)
    try:
        return measure_it(world)
    finally:
        world.close()


def _cost(world: World, size: str, *, quick: bool) -> Cost:
    return measure_cost(world, SIZES[size], QUICK_DISTINCT if quick else DISTINCT)


def describe(result: Result) -> str:
    """The tables."""
    return "\n\n".join(
        [
            f"{table.write_machine(result.machine)} Taken in {result.seconds:.0f} s.",
            table.write_ratios(result.throughput, result.left_out),
            table.write_rates(result.throughput),
            table.write_costs(result.cost),
            table.write_memory(result.memory),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
