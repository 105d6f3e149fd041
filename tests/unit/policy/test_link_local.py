"""A network that says ``linkLocal: false`` has interfaces without the IPv6 address of their MAC, in every form of the pool."""

from __future__ import annotations

import pytest

from buckler.policy.bundle import build_bundle
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.packet import Packet
from buckler.policy.pool import link_local_address, singled_out, stations
from buckler.policy.reference import judge
from buckler.policy.source import Source

TEXT = """apiVersion: buckler.io/v1
kind: Network
metadata: {name: net}
spec: {bridge: br0%s}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: one}
spec: {uuid: 11111111-0000-4000-8000-000000000001, interfaces: [{mac: "52:54:00:00:00:01", network: net, addresses: [10.0.0.1]}]}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: two}
spec: {uuid: 11111111-0000-4000-8000-000000000002, interfaces: [{mac: "52:54:00:00:00:02", network: net, addresses: [10.0.0.2]}]}
---
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: open}
spec:
  {description: d, owner: o, reason: r, review: 2030-01-01, subject: {}, ingress: [{action: allow, from: [{vm: {}}]}], egress: [{action: allow, to: [{vm: {}}]}]}
"""
ONE, TWO = (link_local_address(f"52:54:00:00:00:0{n}") for n in (1, 2))


def drafted(more: str) -> Draft:
    reading = read_documents([Source("a.yaml", TEXT % more)])
    assert not reading.problems, reading.problems
    again = tuple(document_from_dict(document_to_dict(each)) for each in reading.documents)
    return draft_pool(again)


@pytest.mark.parametrize(("more", "has"), [("", True), (", linkLocal: true", True), (", linkLocal: false", False)])
def test_nobody_speaks_by_a_link_local_address_where_the_network_has_none(more: str, has: bool):
    draft = drafted(more)
    judged = judge(draft.pool, draft.documents, Packet("net", ONE, TWO, 6, 80))
    assert (judged.egress is not None, judged.ingress is not None) == (has, has)
    assert judge(draft.pool, draft.documents, Packet("net", "10.0.0.1", "10.0.0.2", 6, 80)).allowed
    assert [ONE in each.addresses for each in stations(draft.pool, singled_out(draft.documents))] == [has, False]
    (segment,) = build_bundle(draft.pool, draft.documents, draft.numbers).segments
    assert (ONE in segment.identities, ONE in segment.endpoints[0].addresses) == (has, has)


def test_a_word_that_is_no_truth_is_refused():
    assert read_documents([Source("a.yaml", TEXT % ", linkLocal: 'no'")]).problems
