"""An imported cluster lets through exactly what the published semantics let through, all pairs, by brute force."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.policy.draft import LABEL_NAMESPACE
from buckler.policy.importers.kubernetes.cluster import import_kubernetes
from tests.randompolicy import Chooser, Drawn, Seeded
from tests.unit.importers import kubeworld
from tests.unit.importers.imported import Imported
from tests.unit.importers.kubesemantics import Cluster

pytestmark = pytest.mark.proof

REVIEW = "2030-01-01"
PROTOCOLS = ("TCP", "UDP", "SCTP")
ASKED = (1, 2, 53, 80, 81, 443, 500, 8080, 9000, 65535)


def compare(choose: Chooser) -> int:
    sources, spaces, pods, policies = kubeworld.cluster(choose)
    imported = Imported(import_kubernetes(sources, REVIEW))
    truth = Cluster(spaces, pods, policies)
    titles = {f"{pod['namespace']}/{pod['name']}": pod for pod in pods}
    named = {f"{vm.labels[LABEL_NAMESPACE]}/{vm.name.partition('.')[2]}" for vm in imported.draft.pool.vms}
    assert named == set(titles)
    asked = 0
    for one, source in titles.items():
        for other, target in titles.items():
            for protocol in PROTOCOLS if one != other else ():
                for port in ASKED:
                    expected = truth.allows(source, target, protocol, port)
                    assert imported.reaches(one, other, protocol, port) == expected, (one, other, protocol, port)
                    asked += 1
    for title, pod in titles.items():
        for outside in kubeworld.OUTSIDE:
            for protocol, port in ((protocol, port) for protocol in ("TCP", "UDP") for port in (53, 80, 8080)):
                inward = imported.reaches(outside, title, protocol, port)
                assert inward == truth.allows(outside, pod, protocol, port), (outside, title, protocol, port)
                outward = imported.reaches(title, outside, protocol, port)
                assert outward == truth.allows(pod, outside, protocol, port), (title, outside, protocol, port)
                asked += 2
    return asked


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_verdict_of_small_clusters(data):
    compare(Drawn(data.draw))


def test_tens_of_thousands_of_verdicts():
    clusters = int(os.environ.get("BUCKLER_TEST_CLUSTERS", "60"))
    asked = sum(compare(Seeded(seed)) for seed in range(clusters))
    assert asked > 400 * clusters
