"""One change of the pool until it is durable: worked out, signed, committed to the store's file. Publishes to no host.

From the changed VM or document: the engine's new objects, each signed, and the signed root that binds them, in one transaction of the
product's own store (SQLite, synchronous, the folder of temporary files). What a host's stream then sends is in that file. Not in it: the
API's reading and checking of documents, and a manifest for every host (`ours_manifests_10k_ms` tells what a thousand of these would add).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from policypool import Counting, Made

from buckler.drivers.store.database import Database, open_database
from buckler.model.agentapi import ObjectEnvelope, ObjectKind
from buckler.model.ids import HostId, Revision
from buckler.policy.current import Current, fill
from buckler.policy.delta import Delta
from buckler.ports.publication import PublishedManifest
from buckler.trust.statement import Kind, sign

ROUNDS = 21
_COMMON = HostId("every-host")
Change = Callable[[Current, int], None]


def measure_durable(made: Made, changes: dict[str, Change]) -> dict[str, float]:
    """Give medians in milliseconds for the changes named ``address`` and ``rule``."""
    current, key = fill(made.pool, made.documents, Counting()), Ed25519PrivateKey.generate()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="buckler-durable-") as folder:
        store = open_database(f"sqlite:///{Path(folder) / 'store.db'}")
        _keep(store, current.settle(), key, Revision(1))
        revision = 1
        for word in ("address", "rule"):
            times = []
            for number in range(ROUNDS):
                revision += 1
                began = time.perf_counter()
                changes[word](current, number)
                _keep(store, current.settle(), key, Revision(revision))
                times.append((time.perf_counter() - began) * 1000)
            found[f"ours_{word}_10k_ms"] = sorted(times)[ROUNDS // 2]
        found["ours_manifests_10k_ms"] = _manifests(store, made, key, Revision(revision + 1))
        store.close()
    return found


def _keep(store: Database, delta: Delta, key: Ed25519PrivateKey, revision: Revision) -> None:
    root = sign(Kind.MANIFEST, delta.root.encode(), key)
    with store.write() as unit:
        known = unit.objects.known(delta.fresh)
        for digest, content in delta.fresh.items():
            if digest not in known:
                statement = sign(Kind.OBJECT, digest.encode(), key)
                unit.objects.put(digest, ObjectEnvelope(ObjectKind.SEGMENT, content.decode(), statement))
        unit.manifests.put(PublishedManifest(_COMMON, revision, "open", root, time.time()))


def _manifests(store: Database, made: Made, key: Ed25519PrivateKey, revision: Revision) -> float:
    root = f"{random.Random(1).randbytes(32).hex()}"
    began = time.perf_counter()
    with store.write() as unit:
        for host in made.pool.hosts:
            statement = sign(Kind.MANIFEST, f"{host.id} {revision} {root}".encode(), key)
            unit.manifests.put(PublishedManifest(host.id, revision, "open", statement, time.time()))
    return (time.perf_counter() - began) * 1000
