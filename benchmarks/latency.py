"""``./bench latency``: from ``apply``, a quarantine or libvirt's hook to the kernel's proven acknowledgement, on the lab and with
200 VMs on a host."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from buckler.lab.datacentre import DataCentre, build_lab
from buckler.lab.fleet import fleet_documents, plan_fleet
from buckler.lab.host import virsh
from buckler.lab.machine import LabFailed
from buckler.lab.measure.calls import Tracer
from buckler.lab.measure.spread import percentile
from buckler.lab.plan import LabPlan
from buckler.lab.pool import Pool, raise_pool
from buckler.lab.sweep import sweep
from buckler.model.operatorapi.documents import ApplyRequest, LabelRequest, Reference, SourceFile
from buckler.model.operatorapi.vms import QuarantineRequest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.system.crowd import CROWD, crowd_documents, raise_crowd  # noqa: E402 - the tests are no package of ours

PREFIX = "bml"
TENANT = "shop"
PATIENCE = 30.0


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds of ``count`` changes."""

    count: int
    p50: float
    p99: float
    slowest: float

    def __str__(self) -> str:
        return f"{self.p50:g} | {self.p99:g} | {self.slowest:g} | {self.count}"


class Report(msgspec.Struct, frozen=True):
    """``hook``: how long libvirt waits for one step of a start. The others: from the request to every host's acknowledgement."""

    load_before: float
    load_after: float
    figures: dict[str, Latency]
    apply_p99_ms: float
    label_p99_ms: float
    quarantine_p99_ms: float
    crowd_apply_p99_ms: float
    crowd_quarantine_p99_ms: float


def latency(values: list[float]) -> Latency:
    return Latency(len(values), *(round(percentile(values, share) * 1000, 1) for share in (0.5, 0.99, 1.0)))


def say(line: str) -> None:
    """Progress goes beside the result."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> int:
    """Return 0: a slow machine is no failure."""
    parser = argparse.ArgumentParser(prog="./bench latency", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 changes of each kind instead of 200")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    report = measure(20 if arguments.quick else 200)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    sys.stdout.write(describe(report) + "\n")
    return 0


def measure(count: int) -> Report:
    load = os.getloadavg()[0]
    figures = on_the_lab(count) | in_a_crowd(max(count // 2, 20))
    return Report(
        load_before=round(load, 2),
        load_after=round(os.getloadavg()[0], 2),
        figures=figures,
        apply_p99_ms=figures["apply"].p99,
        label_p99_ms=figures["label"].p99,
        quarantine_p99_ms=figures["quarantine"].p99,
        crowd_apply_p99_ms=figures[f"apply, {CROWD} VMs"].p99,
        crowd_quarantine_p99_ms=figures[f"quarantine, {CROWD} VMs"].p99,
    )


def on_the_lab(count: int) -> dict[str, Latency]:
    """Two hosts, two guests."""

    def bring_up(centre: DataCentre) -> Pool:
        return raise_pool(centre, fleet_documents(1), say)

    def ask(pool: Pool) -> dict[str, Latency]:
        found = changes_of(pool, count, "client-1", fleet_documents(1)[0])
        found["hook"] = latency(hooks_of(pool, max(count // 10, 5)))
        return found

    return _on(plan_fleet(1, PREFIX), bring_up, ask)


def in_a_crowd(count: int) -> dict[str, Latency]:
    """Two hosts, one of them with 200 VMs: real taps, real shields, no QEMU."""
    say(f"{CROWD} simulated VMs on one host")

    def ask(pool: Pool) -> dict[str, Latency]:
        found = changes_of(pool, count, "crowd-1", crowd_documents()[0])
        return {f"{name}, {CROWD} VMs": value for name, value in found.items()}

    plan = msgspec.structs.replace(plan_fleet(1, PREFIX), guests=())
    return _on(plan, lambda centre: raise_crowd(centre, say), ask)


def _on(
    plan: LabPlan, bring_up: Callable[[DataCentre], Pool], ask: Callable[[Pool], dict[str, Latency]]
) -> dict[str, Latency]:
    try:
        return ask(bring_up(build_lab(plan, say)))
    finally:
        sweep(plan.folder, plan.prefix)


def changes_of(pool: Pool, count: int, vm: str, policies: SourceFile) -> dict[str, Latency]:
    """Change a policy (never twice to the same), a label and a quarantine, each waited for until every kernel has proven it."""
    if "port: 8080}" not in policies.text:
        raise LabFailed("the documents have no port 8080 to change")
    reference = Reference(kind="VM", name=vm, tenant=TENANT)
    with pool.operator() as client:

        def apply(number: int) -> bool:
            changed = policies.text.replace("port: 8080}", f"port: 8080, endPort: {8081 + number}}}")
            request = ApplyRequest(files=(SourceFile(policies.name, changed),), wait=PATIENCE)
            return not client.apply(request).waiting

        def label(number: int) -> bool:
            role = {"role": ("client", "nobody")[number % 2 == 0]}
            return not client.label(reference, LabelRequest(set=role, overwrite=True, wait=PATIENCE)).waiting

        def quarantine(_: int) -> bool:
            """Until every kernel has closed; what the change order still does after that opens nothing and is not waited for."""
            return not client.quarantine(vm, QuarantineRequest(reason="measured", wait=PATIENCE), TENANT).waiting

        def release(_: int) -> bool:
            client.release(vm, QuarantineRequest(reason="measured", wait=PATIENCE), TENANT)
            return is_enforced(pool)

        taken: dict[str, list[float]] = {}
        for number in range(count):
            for name, change in (("apply", apply), ("label", label)):
                taken.setdefault(name, []).append(timed(name, change, number))
        for number in range(count):
            for name, change in (("quarantine", quarantine), ("release", release)):
                taken.setdefault(name, []).append(timed(name, change, number))
        return {name: latency(each) for name, each in taken.items()}


def timed(name: str, change: Callable[[int], bool], number: int) -> float:
    """Seconds until the change is enforced everywhere. Raises LabFailed when it is not."""
    began = time.monotonic()
    if not change(number):
        raise LabFailed(f"{name}: not enforced after {PATIENCE:g} s")
    return time.monotonic() - began


def is_enforced(pool: Pool) -> bool:
    with pool.operator() as client:
        status = client.status()
        return status.rollout is None and all(host.enforced >= host.wanted for host in status.hosts)


def hooks_of(pool: Pool, starts: int) -> list[float]:
    """Start and destroy a guest; return how long each run of the hook kept libvirt waiting."""
    centre, guest = pool.centre, pool.centre.plan.guest("server-1")
    pid = centre.pid(centre.host_of(guest.name))
    tracer = Tracer(centre)
    try:
        for _ in range(starts):
            virsh(pid, "destroy", guest.name)
            virsh(pid, "start", guest.name)
    finally:
        calls = tracer.close()
    return [call.ended - call.began for call in calls if call.kind == "hook" and call.ended < float("inf")]


def describe(report: Report) -> str:
    """Say it as a table of a document."""
    lines = ["| milliseconds | p50 | p99 | slowest | times |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {figure} |" for name, figure in report.figures.items()]
    return "\n".join([*lines, "", f"load {report.load_before:g} before, {report.load_after:g} after"])


if __name__ == "__main__":
    sys.exit(main())
