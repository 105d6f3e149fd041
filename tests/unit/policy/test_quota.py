"""A quota of connections from the documents to the tap of a host's shield."""

from __future__ import annotations

import pytest

from buckler.model.bundle import Placed
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest, VmId, VmNumber, Zone
from buckler.policy.documents import read_documents
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.pieces import place_endpoint
from buckler.policy.pool import Pool, Singled, network_from_document, stations, vm_from_document
from buckler.policy.source import Source
from buckler.policy.standing import endpoint_of

HEAD = "apiVersion: buckler.io/v1\n"
NETWORK = f"{HEAD}kind: Network\nmetadata: {{name: front}}\nspec: {{bridge: br0%s}}\n"
VM = (
    f"{HEAD}kind: VM\nmetadata: {{name: web}}\nspec: {{uuid: 00000000-0000-4000-8000-000000000001"
    ", interfaces: [{mac: '52:54:00:50:00:01', network: front}]%s}\n"
)


def quota_of(network: str, vm: str) -> Placed:
    reading = read_documents([Source("f", NETWORK % network + "---\n" + VM % vm)])
    assert not reading.problems
    front, web = (document_from_dict(document_to_dict(each)) for each in reading.documents)
    pool = Pool((network_from_document(front, Zone(1)),), (vm_from_document(web, VmId("v"), VmNumber(1)),))
    (station,) = stations(pool, Singled())
    return place_endpoint(endpoint_of(station, 9), Digest(""))  # type: ignore[arg-type]


@pytest.mark.parametrize(("network", "vm", "wanted"), [
    ("", "", 0), (", connections: 100", "", 100), ("", ", connections: 7", 7), (", connections: 100", ", connections: 7", 7),
    (", connections: 7", ", connections: 65536", 65536),
])  # fmt: skip
def test_the_vms_own_quota_holds_before_its_networks(network: str, vm: str, wanted: int) -> None:
    placed = quota_of(network, vm)
    assert placed.connections == wanted
    assert (b"connections" in canonical_bytes(placed)) is bool(wanted)


@pytest.mark.parametrize(
    "text", [", connections: 0", ", connections: 65537", ", connections: many", ", connections: -1"]
)
def test_a_quota_that_no_shield_can_hold_is_refused(text: str) -> None:
    for written in (NETWORK % text, VM % text):
        (problem,) = read_documents([Source("f", written)]).problems
        assert problem.path == "spec.connections"
