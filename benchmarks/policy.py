"""Measures the policy engine: full resolve, single changes to the finished objects, the whole matrix, explain.

`./bench policy` takes pools of 1k, 10k and 100k VMs (100, 1k, 10k rules; 2,000 label sets; 1,000 hosts; 20 tenants), each in a
process of its own, and one of 10k VMs in ONE network. `--quick` leaves out 100k. Times of changes are medians of 50, by the wall
clock, from the change to the signed-ready objects (canonical bytes and digests); the worst of them stands beside.

Then OVN's northd with the pool of 10k VMs (Debian's packages, fetched with apt, unpacked in a temporary folder): until its southbound
database holds a change, beside ours until it is durable (`policydurable.py` says what is in that). `--no-northd` leaves this out.

Then one host with 1k and 10k endpoints of one network in its kernel's maps, 200 of them its own (`policyhost.py`; needs root).
`--no-host` leaves this out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
from policydurable import measure_durable
from policyhost import measure as measure_host
from policynorthd import measure_northd
from policypool import Counting, Made, Size, make_pool, make_vm

from buckler.model.pool import ShieldMode, Vm
from buckler.policy.allpairs import list_blocks
from buckler.policy.current import Current
from buckler.policy.explain import explain
from buckler.policy.filling import fill
from buckler.policy.language import FlowSpec, PolicySpec, Port

SIZES = {
    "1k": Size(1_000, 100, identities=500),
    "10k": Size(10_000, 1_000),
    "100k": Size(100_000, 10_000),
    "flat_10k": Size(10_000, 1_000, tenants=1),
}
HOSTS = {"host_1k": (1_000, 200), "host": (10_000, 200)}
"""Endpoints that the host knows, and how many of them live there."""
_OWN = "BUCKLER_BENCH_IN_ITS_OWN_NAMESPACES"
NORTHD, RATIO = "northd", "northd_ratio_10k"
ROUNDS = 50
AIMS = {
    "full_10k_s": 2.0,
    "address_10k_ms": 5.0,
    "label_10k_ms": 5.0,
    "reach_10k_s": 1.0,
    "full_100k_s": 30.0,
    "rss_100k_mib": 2048.0,
    "label_100k_ms": 20.0,
    "host_mib": 4096.0,
    RATIO: 50.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--quick", action="store_true", help="without the pool of 100k VMs")
    parser.add_argument("--no-northd", action="store_true", help="without OVN's northd, which needs apt")
    parser.add_argument("--no-host", action="store_true", help="without the host's kernel maps, which need root")
    parser.add_argument("--only", choices=(*SIZES, NORTHD, *HOSTS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only in HOSTS:
        if not os.environ.get(_OWN):
            parser.error("a host is made in network and mount namespaces of its own: leave --only out")
        print(json.dumps(_named(asked.only, measure_host(*HOSTS[asked.only]))))
        return
    if asked.only:
        told = beside_northd() if asked.only == NORTHD else measure(asked.only, SIZES[asked.only])
        print(json.dumps(told))
        return
    figures: dict[str, float] = {}
    failed: list[str] = []
    left_out = {"100k"} if asked.quick else set()
    left_out |= {NORTHD} if asked.no_northd else set()
    left_out |= set(HOSTS) if asked.no_host else {"host"} if asked.quick else set()
    for name in (*SIZES, NORTHD, *HOSTS):
        if name in left_out:
            continue
        own = ["unshare", "--net", "--mount", "env", f"{_OWN}=yes"] if name in HOSTS else []
        command = [*own, sys.executable, __file__, "--only", name]
        run = subprocess.run(command, check=False, capture_output=True, text=True)
        if run.returncode:
            print(f"{name} was not measured: {run.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            failed.append(name)
            continue
        told = json.loads(run.stdout)
        figures |= told
        for key, value in told.items():
            print(f"{key:28} {value:12,.3f}{_aim(key, value)}", flush=True)
    if asked.json:
        Path(asked.json).write_text(json.dumps(figures, indent=2) + "\n")
    if failed:
        sys.exit(1)


def _named(name: str, found: dict[str, float]) -> dict[str, float]:
    """The larger host's figures have the short names."""
    return {key.replace("host_", f"{name}_", 1): value for key, value in found.items()}


def _aim(key: str, value: float) -> str:
    if key not in AIMS:
        return ""
    is_met = value >= AIMS[key] if key == RATIO else value <= AIMS[key]
    return f"   (aim {AIMS[key]:g}: {'met' if is_met else 'MISSED'})"


def beside_northd() -> dict[str, float]:
    """Measure one change of 10k VMs there and here; the smaller of the two ratios is the one that counts."""
    size = SIZES["10k"]
    made = make_pool(size)
    found = measure_durable(made, _changes(made, size, random.Random(7))) | measure_northd(made)
    for word in ("address", "rule"):
        found[f"northd_ratio_{word}_10k"] = found[f"northd_{word}_10k_ms"] / found[f"ours_{word}_10k_ms"]
    return found | {RATIO: min(found["northd_ratio_address_10k"], found["northd_ratio_rule_10k"])}


def measure(name: str, size: Size) -> dict[str, float]:
    """Measure one pool; names of figures end in its name and their unit."""
    made, numbering = make_pool(size), Counting()
    began = time.perf_counter()
    current = fill(made.pool, made.documents, numbering)
    delta = current.settle()
    found: dict[str, float] = {f"full_{name}_s": time.perf_counter() - began}
    found[f"objects_{name}"] = len(delta.fresh)
    found[f"objects_{name}_mib"] = sum(map(len, delta.fresh.values())) / 2**20
    found |= _reach(name, current)
    found |= _explain(name, made)
    chance = random.Random(7)
    for word, change in _changes(made, size, chance).items():
        found |= _change(f"{word}_{name}", current, change)
    found[f"rss_{name}_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _change(word: str, current: Current, change: Callable[[Current, int], None]) -> dict[str, float]:
    times, sizes = [], []
    for number in range(ROUNDS):
        began = time.perf_counter()
        change(current, number)
        delta = current.settle()
        times.append((time.perf_counter() - began) * 1000)
        sizes.append(sum(map(len, delta.fresh.values())))
    times.sort()
    sizes.sort()
    return {
        f"{word}_ms": times[ROUNDS // 2],
        f"{word}_worst_ms": times[-1],
        f"{word}_bytes": sizes[ROUNDS // 2],
    }


def _changes(made: Made, size: Size, chance: random.Random) -> dict[str, Callable[[Current, int], None]]:
    """Name each kind of change; every host receives its bytes."""
    vms = list(made.pool.vms)

    def put(current: Current, place: int, vm: Vm) -> None:
        vms[place] = vm
        current.put_vm(vm)

    def address(current: Current, number: int) -> None:
        place = chance.randrange(len(vms))
        vm = vms[place]
        card = msgspec.structs.replace(vm.interfaces[0], addresses=(f"10.{place % size.tenants}.254.{number + 1}",))
        put(current, place, msgspec.structs.replace(vm, interfaces=(card,)))

    def label(current: Current, _: int) -> None:
        place = chance.randrange(len(vms))
        chosen = chance.choice(made.label_sets[place % size.tenants])
        put(current, place, msgspec.structs.replace(vms[place], labels=chosen))

    def new_label(current: Current, number: int) -> None:
        place = chance.randrange(len(vms))
        vm = vms[place]
        put(current, place, msgspec.structs.replace(vm, labels={**vm.labels, "release": f"r{number}"}))

    def vm(current: Current, number: int) -> None:
        fresh = size.vms + number
        current.put_vm(make_vm(size, fresh, chance.choice(made.label_sets[fresh % size.tenants])))

    def rule(current: Current, number: int) -> None:
        document = chance.choice(made.documents[1:])
        ports = (Port("TCP", 20000 + number),)
        spec = document.spec
        if isinstance(spec, PolicySpec):
            first = msgspec.structs.replace(spec.ingress[0], ports=ports)
            spec = msgspec.structs.replace(spec, ingress=(first, *spec.ingress[1:]))
        elif isinstance(spec, FlowSpec):
            spec = msgspec.structs.replace(spec, ports=ports)
        current.put_documents((msgspec.structs.replace(document, spec=spec),))

    def rule_gone(current: Current, number: int) -> None:
        document = made.documents[1 + number % (len(made.documents) - 1)]
        current.drop_documents((document.key,))

    return {
        "address": address,
        "label": label,
        "new_label_set": new_label,
        "vm": vm,
        "rule": rule,
        "rule_gone": rule_gone,
    }


def _reach(name: str, current: Current) -> dict[str, float]:
    modes = dict.fromkeys(current.identities(), frozenset({ShieldMode.ENFORCE}))
    began = time.perf_counter()
    blocks = list(list_blocks(current.rows, modes))
    seconds = time.perf_counter() - began
    users = current.identities()
    pairs = sum(_count(users, block.senders) * _count(users, block.receivers) for block in blocks)
    return {f"reach_{name}_s": seconds, f"reach_{name}_blocks": len(blocks), f"reach_{name}_vm_pairs": pairs}


def _count(users: Any, ends: Any) -> int:
    return sum(users[number] for number, _ in ends)


def _explain(name: str, made: Made) -> dict[str, float]:
    times = []
    for number in range(10):
        one, other = made.pool.vms[number * 20], made.pool.vms[number * 20 + 20 * (len(made.pool.vms) // 40)]
        began = time.perf_counter()
        explain(made.pool, made.documents, one.id, other.id, "TCP", 443)
        times.append((time.perf_counter() - began) * 1000)
    return {f"explain_{name}_ms": sorted(times)[5]}


if __name__ == "__main__":
    main()
