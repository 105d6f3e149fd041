"""``./bench memory``: what Buckler keeps in memory per host, per VM and per 10,000 connections, and what it computes when nothing
happens."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import msgspec

from buckler.lab.datacentre import DataCentre, build_lab
from buckler.lab.fleet import fleet_documents, plan_fleet
from buckler.lab.machine import LabFailed, inside, processes_of, run
from buckler.lab.plan import CONTROLLER
from buckler.lab.pool import Pool, raise_pool
from buckler.lab.sweep import sweep

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.system.crowd import CROWD, raise_crowd  # noqa: E402 - the tests are no package of ours

PREFIX = "bmm"
CONNECTIONS = 10_000
_TICKS = os.sysconf("SC_CLK_TCK")


class Kernel(msgspec.Struct, frozen=True):
    """Locked memory of a host's maps in KiB, as the kernel accounts for it, the whole and that of connection tables."""

    maps: int
    connections: int


class Process(msgspec.Struct, frozen=True):
    """``rss`` and ``unique`` memory in KiB; ``cpu`` is the share of one core over the idle time, in percent."""

    rss: int
    unique: int
    cpu: float


class Report(msgspec.Struct, frozen=True):
    """Memory in KiB, processor time in percent of one core."""

    load_before: float
    load_after: float
    idle_seconds: int
    kernel_per_host_kib: int
    kernel_per_vm_kib: float
    kernel_per_10k_connections_kib: int
    agent_per_vm_kib: float
    agent: Process
    controller: Process
    agent_of_many: Process
    controller_of_many: Process
    many: int


def say(line: str) -> None:
    """Progress goes beside the result."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> int:
    """Return 0: there is no wrong figure."""
    parser = argparse.ArgumentParser(prog="./bench memory", description=__doc__)
    parser.add_argument("--idle", type=int, default=30, help="seconds of idleness to measure (default: 30)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    report = measure(arguments.idle)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    sys.stdout.write(describe(report) + "\n")
    return 0


def measure(idle: int) -> Report:
    """One lab with one VM on each host, another with 200 on one."""
    load = os.getloadavg()[0]
    few = plan_fleet(1, PREFIX)
    none = msgspec.structs.replace(few, guests=())
    try:
        pool = raise_pool(build_lab(few, say), fleet_documents(1), say)
        one_vm = kernel_of(pool.centre, "host1")
        agent, controller = idle_of(pool, "buckler agent run", idle)
        filled = fill_tap(pool.centre, "host1")
    finally:
        sweep(few.folder, few.prefix)
    try:
        crowd = raise_crowd(build_lab(none, say), say)
        many = kernel_of(crowd.centre, "host1")
        agent_of_many, controller_of_many = idle_of(crowd, "tests.system.simulated_host", idle)
    finally:
        sweep(none.folder, none.prefix)
    per_vm = (many.maps - one_vm.maps) / (CROWD - 1)
    return Report(
        load_before=round(load, 2),
        load_after=round(os.getloadavg()[0], 2),
        idle_seconds=idle,
        kernel_per_host_kib=round(one_vm.maps - per_vm),
        kernel_per_vm_kib=round(per_vm, 1),
        kernel_per_10k_connections_kib=filled.connections - one_vm.connections,
        agent_per_vm_kib=round((agent_of_many.unique - agent.unique) / (CROWD - 1), 1),
        agent=agent,
        controller=controller,
        agent_of_many=agent_of_many,
        controller_of_many=controller_of_many,
        many=CROWD,
    )


def kernel_of(centre: DataCentre, host: str) -> Kernel:
    """Add up the maps that the host's agent made: all that a process of this host or a pin of its own holds."""
    own = _map_ids(centre, host)
    maps = [each for each in json.loads(run("bpftool", "-j", "map", "show")) if each["id"] in own]
    if not maps:
        raise LabFailed(f"{host} holds no maps")
    tables = [each for each in maps if each.get("name", "") in ("established", "waiting", "fragments")]
    return Kernel(_kib(maps), _kib(tables))


def _kib(maps: list[dict[str, int]]) -> int:
    return sum(int(each["bytes_memlock"]) for each in maps) // 1024


def _map_ids(centre: DataCentre, host: str) -> set[int]:
    """Pinned maps, and the inner ones that stand in those of maps."""
    pinned = centre.run_on(host, "find", "/sys/fs/bpf/buckler", "-type", "f", "-not", "-path", "*/links/*").split()
    found: set[int] = set()
    for pin in pinned:
        shown = centre.attempt_on(host, "bpftool", "-j", "map", "show", "pinned", pin)
        if shown.returncode != 0:
            continue  # a program
        each = json.loads(shown.stdout)
        found.add(int(each["id"]))
        if each["type"].endswith("_of_maps"):
            entries = json.loads(centre.run_on(host, "bpftool", "-j", "map", "dump", "pinned", pin))
            found |= {_inner_id(entry["value"]) for entry in entries if isinstance(entry.get("value"), list)}
    if not found & _connection_tables():
        raise LabFailed(f"no table of connections was found on {host}: what would be counted is not all")
    return found


def _inner_id(value: list[str]) -> int:
    """The bytes of an entry in a map of maps, as bpftool writes them: the inner map's number."""
    return int.from_bytes((int(each, 16) for each in value), sys.byteorder)


def _connection_tables() -> set[int]:
    maps = json.loads(run("bpftool", "-j", "map", "show"))
    return {each["id"] for each in maps if each.get("name") == "established" and each["type"] == "hash"}


def fill_tap(centre: DataCentre, host: str) -> Kernel:
    """Put connections into the table of a VM's tap by the door that a handover uses."""
    say(f"{CONNECTIONS} connections")
    tap = next(name for name in centre.run_on(host, "ls", "/sys/class/net").split() if name.startswith("vnet"))
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.component.carrying import fill; fill({tap!r}, {CONNECTIONS})"
    run(*inside(centre.pid(host), sys.executable, "-c", script))
    return kernel_of(centre, host)


def idle_of(pool: Pool, agent: str, seconds: int) -> tuple[Process, Process]:
    """Watch agent and controller while nothing happens."""
    plan = pool.centre.plan
    pids = [_pid_of(plan.hosts[0].namespace, agent), _pid_of(plan.controller.namespace, f"buckler {CONTROLLER} run")]
    time.sleep(5)
    say(f"nothing happens for {seconds} s")
    before = [_cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    used = [_cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    first, second = (_process(pid, share / seconds) for pid, share in zip(pids, used, strict=True))
    return first, second


def _pid_of(namespace: str, words: str) -> int:
    found = [pid for pid, line in processes_of([namespace]).items() if f" -m {words}" in line]
    if len(found) != 1:
        raise LabFailed(f"{len(found)} processes {words!r} in {namespace}, not one")
    return found[0]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _process(pid: int, share: float) -> Process:
    sizes = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:] if ":" in line
    )
    kib = {name: int(text.split()[0]) for name, text in sizes.items()}
    return Process(kib["Rss"], kib["Private_Clean"] + kib["Private_Dirty"], round(share * 100, 2))


def describe(report: Report) -> str:
    """Say it as tables of a document."""

    def row(name: str, process: Process) -> str:
        return f"| {name} | {process.rss / 1024:.0f} | {process.unique / 1024:.0f} | {process.cpu:g} |"

    return "\n".join(
        [
            "| kernel memory of the shield's maps | KiB |",
            "|---|---|",
            f"| a host without VMs | {report.kernel_per_host_kib} |",
            f"| each VM (one interface, no connections yet) | {report.kernel_per_vm_kib:g} |",
            f"| each 10,000 connections | {report.kernel_per_10k_connections_kib} |",
            "",
            f"| process | RSS, MiB | of its own, MiB | idle, % of a core ({report.idle_seconds} s) |",
            "|---|---|---|---|",
            row("agent, 1 VM", report.agent),
            row("controller, 2 VMs", report.controller),
            row(f"agent, {report.many} VMs", report.agent_of_many),
            row(f"controller, {report.many} VMs", report.controller_of_many),
            "",
            f"each VM costs its agent {report.agent_per_vm_kib:g} KiB; load {report.load_before:g} before, {report.load_after:g} after",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
