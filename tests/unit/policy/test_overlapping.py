"""Two tenants with the same addresses: every answer is about the network that was asked, and about no other."""

from ipaddress import ip_address

import pytest

from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.explain import explain
from buckler.policy.source import Source
from tests.policyworld import Store

NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {{name: {tenant}, tenant: {tenant}}}
spec: {{bridge: {bridge}, cidrs: [10.50.0.0/24, "fd50::/64"]}}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {{name: {tenant}-1, tenant: {tenant}}}
spec:
  uuid: 50500000-0000-4000-8000-00000000000{number}
  interfaces: [{{mac: "52:54:00:09:00:01", network: {tenant}, addresses: [10.50.0.11, "fd50::11"]}}]
---
"""
POLICY = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: from-outside, tenant: red}
spec:
  description: d
  owner: o
  reason: r
  review: 2036-12-31
  subject: {}
  ingress: [{action: allow, from: [{world: true}]}]
"""


@pytest.mark.parametrize("address", ["10.50.0.210", "fd50::d2", "203.0.113.7"])
def test_an_address_that_nobody_has_is_outside_in_each_network_that_has_its_prefix(address):
    text = NETWORK.format(tenant="red", bridge="br0", number=1) + NETWORK.format(tenant="blue", bridge="br1", number=2)
    reading = read_documents([Source("x.yaml", text + POLICY)])
    assert not reading.problems
    pool = Store().pool(reading.documents)
    protocol, echo = ("ICMPv6", 128) if ip_address(address).version == 6 else ("ICMP", 8)
    for vm, verdict in (("red-1", "allow"), ("blue-1", "deny")):
        told = explain(pool, reading.documents, address, vm, protocol, echo << 8)
        assert (told.verdict, [path.network for path in told.paths]) == (verdict, [vm.partition("-")[0]])


def test_a_tenant_is_told_nothing_of_another_tenants_networks():
    text = NETWORK.format(tenant="red", bridge="br0", number=1) + NETWORK.format(tenant="blue", bridge="br1", number=2)
    wide = POLICY.replace("{world: true}", "{cidr: 10.50.0.0/16}, {addresses: near}")
    group = "kind: AddressGroup\nmetadata: {name: near, tenant: red}\nspec: {cidrs: [10.50.0.0/17]}\n"
    documents = read_documents([Source("x.yaml", f"{text}{wide}---\napiVersion: buckler.io/v1\n{group}")]).documents
    told = " ".join(each.message for each in check_documents(documents))
    assert "network red" in told
    assert "blue" not in told
