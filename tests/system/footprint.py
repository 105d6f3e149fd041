"""All that stands on a host for the sake of its guests, read with tools that are not ours. Judges nothing."""

import hashlib
import json
import shutil
import sqlite3
import tempfile
from pathlib import Path

from buckler.lab.host import CONNECTION
from buckler.lab.machine import processes_of
from buckler.lab.plan import BRIDGE, OUTSIDE_PORT, TUNNEL, UPLINK

PINS = "/sys/fs/bpf/buckler"
MAPS_OF_TAPS = ("tap_index", "own_addresses", "residents", "policies", "established", "waiting", "fragments")
STANDING = {"lo", BRIDGE, TUNNEL, UPLINK, OUTSIDE_PORT}
STATE = "var/lib/buckler/agent/state.db"
GOING_ON = {"remembered", "document/witness", "document/untold-flows"}


def guests_of(cast, host):
    return {name for name, place in cast.centre.domains().items() if place == host}


def remains(cast, host):
    """Name everything on a host that is there for the sake of a guest, by where it stands."""
    return kernel_of(cast, host) | {
        "domains": _on(cast, host, "virsh", "-q", "-c", CONNECTION, "list", "--all", "--name").split(),
        "processes": [line for line in _processes(cast, host) if "qemu-system" in line],
    }


def kernel_of(cast, host):
    """Taps, pins, entries of maps and of the guard's sets that stand for guests; how many connections they have is left out."""
    pins = _on(cast, host, "find", PINS, "-type", "f").split()
    guard = json.loads(_on(cast, host, "nft", "-j", "list", "table", "bridge", "buckler"))["nftables"]
    sets = {one["set"]["name"]: one["set"].get("elem", []) for one in guard if "set" in one}
    links = json.loads(_on(cast, host, "ip", "-j", "link"))
    return {
        "taps": sorted(card["ifname"] for card in links if card["ifname"] not in STANDING),
        "links": sorted(pin for pin in pins if "/links/" in pin and "-tap_" in pin),
        "programs": sorted(pin for pin in pins if "/policies/" in pin),
        **{f"map {name}": entries_of(cast, host, name) for name in MAPS_OF_TAPS},
        **{f"guard's {name}": [port for port in sets[name] if not is_standing(port)] for name in ("ports", "admitted")},
    }


def footprint(cast, host):
    """What an operation that came to nothing must leave as it was: kernel, domains with their metadata, the agent's memory."""
    domains = _on(cast, host, "virsh", "-q", "-c", CONNECTION, "list", "--all", "--name").split()
    return kernel_of(cast, host) | {
        "domains": {name: _domain(cast, host, name) for name in domains},
        "processes": len([line for line in _processes(cast, host) if "qemu-system" in line]),
        "memory": _memory(cast, host),
    }


def entries_of(cast, host, name):
    dump = json.loads(_on(cast, host, "bpftool", "-j", "map", "dump", "pinned", f"{PINS}/maps/{name}"))
    return [entry.get("key") for entry in dump if "error" not in str(entry.get("value"))]


def is_standing(port):
    """Say whether an element of the guard's sets, a port or a port and its bridge, is one of the host itself."""
    return (port["concat"][0] if isinstance(port, dict) else port) in STANDING


def _domain(cast, host, name):
    virsh = ("virsh", "-q", "-c", CONNECTION)
    xml = _on(cast, host, *virsh, "dumpxml", name)
    metadata = xml.partition("<metadata>")[2].partition("</metadata>")[0]
    persistent = "yes" in _on(cast, host, *virsh, "dominfo", name).partition("Persistent:")[2].split()[:1]
    return _on(cast, host, *virsh, "domstate", name).strip(), persistent, _digest(metadata)


def _memory(cast, host):
    """Digest what the agent has on disk of documents and residences; events and counters go on by their nature."""
    with tempfile.TemporaryDirectory() as folder:  # SQLite does not follow /proc/PID/root into the host
        for name in (STATE, f"{STATE}-wal"):
            shutil.copy(cast.centre.root(host) / name, folder)
        database = sqlite3.connect(Path(folder) / Path(STATE).name)
        kept = dict(database.execute("SELECT name, value FROM kept"))
        residences = dict(database.execute("SELECT vm, residence FROM residences"))
        objects = sorted(row[0] for row in database.execute("SELECT digest FROM pieces"))
        database.close()
    steady = {name: _digest(value) for name, value in kept.items() if name not in GOING_ON}
    return {"kept": steady, "residences": {vm: _digest(value) for vm, value in residences.items()}, "objects": objects}


def _processes(cast, host):
    return processes_of([cast.centre.plan.host(host).namespace]).values()


def _on(cast, host, *command):
    return cast.centre.run_on(host, *command)


def _digest(content):
    return hashlib.sha256(content if isinstance(content, bytes) else str(content).encode()).hexdigest()[:16]
