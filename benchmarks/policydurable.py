"""One change of the pool until it is durable: worked out, signed, committed to the store's file. Publishes to no host.

From the changed VM or document: the engine's new objects and the signed root that binds them, in one transaction of the product's own
store (SQLite, synchronous, the folder of temporary files). Not in it: the API's reading and checking of documents, and what each host is
to be told: a row for each, of which a host's stream signs its manifest (`ours_manifests_10k_ms` tells what a thousand of these would add).
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
from buckler.model.ids import Digest, HostId, Revision
from buckler.policy.current import Current, fill
from buckler.policy.delta import Delta
from buckler.ports.publication import Order, PublishedManifest
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
        unit.objects.put(delta.fresh)
        unit.manifests.put(PublishedManifest(_COMMON, revision, "open", root, time.time()))


def _manifests(store: Database, made: Made, key: Ed25519PrivateKey, revision: Revision) -> float:
    root = Digest(f"sha256:{random.Random(1).randbytes(32).hex()}")
    began = time.perf_counter()
    with store.write() as unit:
        unit.manifests.set_orders(
            Order(host.id, revision, "open", root, Digest(""), time.time()) for host in made.pool.hosts
        )
    for host in made.pool.hosts:
        sign(Kind.MANIFEST, f"{host.id} {revision} {root}".encode(), key)
    return (time.perf_counter() - began) * 1000
