"""The step about hands that meddle: an interface's programs are detached, the guard's table is deleted."""

from __future__ import annotations

import sys
import time

from defusedxml import ElementTree

from buckler.lab.host import virsh
from buckler.lab.machine import LabFailed
from buckler.lab.plan import OUTSIDE_IPV4, OUTSIDE_IPV6
from buckler.lab.story.cast import Cast, wait_until
from buckler.lab.story.figures import DriftRepaired
from buckler.lab.story.probing import arrived, hammer, watch
from buckler.model.event import EventKind

VM = "attacker"
OBSERVERS = ("web1", "web2", "app", "db")
TABLE = ("nft", "--stateless", "list", "table", "bridge")


def drift_repaired(cast: Cast) -> DriftRepaired:
    """Take away the attacker's shield, then the guard of its host, while it attacks and is attacked from outside."""
    victim = cast.guest(VM)
    targets = [f"tcp/{cast.guest(name).ipv4}/22" for name in OBSERVERS]
    targets += [f"udp/{cast.guest(name).ipv6}/53" for name in OBSERVERS]
    recorded = _repairs(cast)
    watches = [watch(cast.centre, name, "drift", [victim.ipv4, victim.ipv6]) for name in OBSERVERS]
    inward = watch(cast.centre, VM, "inward", [OUTSIDE_IPV4, OUTSIDE_IPV6])
    attack = hammer(cast.centre, VM, "drift", targets)
    outside = cast.centre.start_outside("hammer", "drift", "5", "0", f"udp/{victim.ipv4}/53", f"tcp/{victim.ipv4}/22")
    time.sleep(0.5)
    filter_back = _detach_filters(cast)
    wait_until("the first repair is in the ledger", lambda: _repairs(cast) > recorded)
    between = _repairs(cast)
    guard_back = _delete_guard(cast)
    wait_until("the second repair is in the ledger", lambda: _repairs(cast) > between)
    outside.stop()
    sent, leaked = int(attack.stop()["sent"]), sum(arrived(job.stop()) for job in watches)
    leaked_to_vm = arrived(inward.stop())
    cast.tell(f"filters back after {filter_back:.2f} s, guard back after {guard_back:.2f} s")
    cast.tell(f"of {sent} packets from the VM {leaked} leaked; towards it {leaked_to_vm} leaked in the gap")
    return DriftRepaired(sent, leaked, leaked_to_vm, filter_back, guard_back, _repairs(cast) - recorded)


def _tap_of(cast: Cast, guest: str) -> tuple[str, str]:
    host = cast.centre.host_of(guest)
    tree = ElementTree.fromstring(virsh(cast.centre.pid(host), "dumpxml", guest))
    target = tree.find("devices/interface/target")
    if target is None:
        raise LabFailed(f"{guest} has no tap")
    return host, target.attrib["dev"]


def _detach_filters(cast: Cast) -> float:
    host, tap = _tap_of(cast, VM)
    return float(cast.centre.run_on(host, sys.executable, "-m", "buckler.lab.story.filters", tap))


def _delete_guard(cast: Cast) -> float:
    """Delete every table of the bridge family; return the seconds until the same rules stand again."""
    host = cast.centre.host_of(VM)
    names = [line.split()[2] for line in _lines(cast, host, "nft", "list", "tables") if line.startswith("table bridge")]
    if not names:
        raise LabFailed(f"{host} has no guard to begin with")
    before = {name: _lines(cast, host, *TABLE, name) for name in names}
    for name in names:
        cast.centre.run_on(host, "nft", "delete", "table", "bridge", name)
    return wait_until(
        "the guard stands again",
        lambda: all(_lines(cast, host, *TABLE, name) == rules for name, rules in before.items()),
        pause=0.01,
    )


def _lines(cast: Cast, host: str, *command: str) -> list[str]:
    done = cast.centre.attempt_on(host, *command)
    return sorted(line.strip() for line in done.stdout.splitlines()) if done.returncode == 0 else []


def _repairs(cast: Cast) -> int:
    """Count the ledger's entries about repairs."""
    return sum(entry.kind == EventKind.DRIFT_REPAIRED for entry in cast.ledger())
