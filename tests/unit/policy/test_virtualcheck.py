"""Virtual addresses of services, as documents: every owner that clashes is told with its path, and what no shield can translate."""

from __future__ import annotations

import pytest

from buckler.model.agentapi import AddressSource
from buckler.model.ids import VmId, VmNumber, Zone
from buckler.policy.claim import Grant, ground_of, list_stale, owners_of, refuse_claim
from buckler.policy.claimcheck import Holding, check_holdings
from buckler.policy.crosscheck import check_documents, check_hosts
from buckler.policy.documents import Reading, read_documents
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.language import Document, Kind
from buckler.policy.pool import Pool, network_from_document, service_addresses, vm_from_document
from buckler.policy.problem import Problem, Severity
from buckler.policy.referring import settle_problems
from buckler.policy.source import Source
from tests.policyworld import host

NETWORK = """
apiVersion: buckler.io/v1
kind: Network
metadata: {name: net}
spec:
  bridge: br0
  cidrs: [10.9.0.0/24, "fd09::/64"]
  dhcpServers: [10.9.0.3]
  routers: ["fd09::2"]
  gateway: [10.9.0.1]
  resolvers: [10.9.0.4]
  addressClaims: {limit: 4}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: web1, labels: {app: web}}
spec:
  uuid: 50500000-0000-4000-8000-000000000001
  interfaces: [{mac: "52:54:00:09:00:01", network: net, addresses: [10.9.0.11]}]
---
apiVersion: buckler.io/v1
kind: Endpoint
metadata: {name: printer}
spec: {network: net, addresses: [10.9.0.90]}
"""


def service(address: str = "10.9.0.100", name: str = "shop", **changes: str) -> str:
    fields = {"selector": "{matchLabels: {app: web}}", "ports": "[{protocol: TCP, port: 80}]", "network": "net"}
    fields |= {"virtualAddress": f'"{address}"', **changes}
    spec = ", ".join(f"{key}: {value}" for key, value in fields.items() if value)
    tenant = ", tenant: other" if name.startswith("other") else ""
    return f"---\napiVersion: buckler.io/v1\nkind: Service\nmetadata: {{name: {name}{tenant}}}\nspec: {{{spec}}}\n"


def read(*texts: str) -> tuple[Document, ...]:
    reading = read_documents([Source("a.yaml", "".join(texts))])
    assert not reading.problems, reading.problems
    return reading.documents


def told(*texts: str) -> list[Problem]:
    reading = read_documents([Source("a.yaml", "".join(texts))])
    return [*reading.problems, *check_documents(reading.documents)]


def vms(count: int) -> str:
    return "".join(
        f"---\napiVersion: buckler.io/v1\nkind: VM\nmetadata: {{name: more{at}, labels: {{app: web}}}}\nspec:\n"
        f"  uuid: 50500000-0000-4000-8000-0000000001{at:02x}\n"
        f'  interfaces: [{{mac: "52:54:00:09:01:{at:02x}", network: net, addresses: [10.9.0.{150 + at}]}}]\n'
        for at in range(count)
    )


def test_a_virtual_address_that_is_nobodys_is_taken_and_kept_as_it_was_written():
    assert told(NETWORK, service(), service("fd09::100", "shop6", selector="{}")) == []
    (document,) = [each for each in read(NETWORK, service()) if each.kind is Kind.SERVICE]
    stored = document_to_dict(document)
    assert stored["spec"]["virtualAddress"] == "10.9.0.100"
    assert document_from_dict(stored).spec == document.spec
    (made,) = service_addresses([document])
    assert (made.network, made.address, made.ports) == ("net", "10.9.0.100", ((6, 80, 80),))


def test_a_service_without_one_says_nothing_of_it():
    (document,) = read(service(network="", virtualAddress=""))
    assert set(document_to_dict(document)["spec"]) == {"selector", "ports"}
    assert service_addresses([document]) == ()


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"network": ""}, "spec", "network is missing"),
        ({"virtualAddress": ""}, "spec.network", "has no network"),
        ({"address": "fe80::1"}, "spec.virtualAddress", "cannot be a virtual address"),
        ({"address": "127.0.0.1"}, "spec.virtualAddress", "cannot be an interface's"),
        ({"address": "224.0.0.9"}, "spec.virtualAddress", "cannot be an interface's"),
        ({"address": "10.9.0.0/24"}, "spec.virtualAddress", "right form"),
        ({"ports": "[{protocol: any}]"}, "spec.ports[0]", "has no any"),
        ({"ports": "[{protocol: TCP}, {protocol: ICMP, type: 8}]"}, "spec.ports[1]", "has no ICMP"),
        ({"ports": "[]"}, "spec.ports", "names no port"),
        (
            {"ports": "[" + ", ".join(f"{{protocol: TCP, port: {at}}}" for at in range(1, 18)) + "]"},
            "spec.ports",
            "at most 16",
        ),
        ({"translate": "8080"}, "spec.translate", "not implemented"),
    ],
)
def test_what_no_shield_translates_is_refused_by_itself(changes, path, words):
    found = read_documents([Source("a.yaml", service(**changes))]).problems
    assert any(each.path == path and words in each.message for each in found), found


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("10.9.0.11", "VM web1's"),
        ("10.9.0.90", "Endpoint printer's"),
        ("10.9.0.1", "the gateway"),
        ("fd09::2", "a router"),
        ("10.9.0.3", "a DHCP server"),
        ("10.9.0.4", "a resolver"),
        ("10.9.0.255", "stands for all"),
        ("10.9.0.0", "stands for all"),
        ("fd09::", "stands for all"),
    ],
)
def test_an_address_that_somebody_has_is_refused_with_path_and_hint(address, words):
    errors = [each for each in told(NETWORK, service(address)) if each.severity is Severity.ERROR]
    assert [(each.path, bool(each.hint)) for each in errors] == [("spec.virtualAddress", True)]
    assert words in errors[0].message
    assert errors[0].line


def test_two_services_cannot_have_one_address_but_in_two_networks_they_can():
    assert any("Service mail's" in each.message for each in told(NETWORK, service(), service(name="mail")))
    second = NETWORK.partition("---")[0].replace("name: net", "name: lan").replace("br0", "br1")
    found = told(NETWORK, "---", second, service(), service(name="mail", network="lan", selector="{}"))
    assert not [each for each in found if each.severity is Severity.ERROR]


def test_the_network_must_be_there_and_of_the_services_tenant():
    (unknown,) = told(NETWORK, service(network="nett"))
    assert (unknown.path, "not known" in unknown.message) == ("spec.network", True)
    assert "net" in unknown.hint
    (foreign,) = told(NETWORK, service(name="other-shop"))
    assert (foreign.path, "belongs to tenant" in foreign.message) == ("spec.network", True)


def test_a_network_that_is_wrong_in_itself_or_goes_is_told_once():
    wrong = "---\napiVersion: buckler.io/v1\nkind: Network\nmetadata: {name: net}\nspec: {bridge: br0, vlan: 9999}\n"
    reading = read_documents([Source("a.yaml", wrong + service())])
    found = settle_problems(reading, check_documents(reading.documents), reading.documents)
    assert [each.path for each in found] == ["spec.vlan"]
    documents = read(NETWORK, service())
    left = tuple(each for each in documents if each.kind is Kind.SERVICE)
    (still,) = settle_problems(Reading((), ()), check_documents(left), left, ["Network/default/net"])
    assert "still names network 'net'" in still.message


def test_outside_of_the_prefixes_or_served_by_nobody_is_a_warning():
    (far,) = told(NETWORK, service("10.96.0.1"))
    (idle,) = told(NETWORK, service(selector="{matchLabels: {app: nobody}}"))
    assert {far.severity, idle.severity} == {Severity.WARNING}
    assert "no prefix" in far.message
    assert "nothing answers" in idle.message
    assert told(NETWORK, service(selector="{matchLabels: {buckler.io/name: web1}}")) == []
    assert told(NETWORK, service(selector="{matchLabels: {buckler.io/id: 01900000-0000-7000-8000-000000000001}}")) == []


def test_more_members_than_a_shield_chooses_among_are_refused():
    assert told(NETWORK, vms(31), service()) == []
    (found,) = told(NETWORK, vms(32), service())
    assert (found.severity, found.path) == (Severity.ERROR, "spec.selector")
    assert "33 interfaces" in found.message
    assert told(NETWORK, vms(32), service("fd09::100")) == [], "addresses of that family may come by claims"


def test_a_hosts_address_is_refused():
    documents = read(NETWORK, service("192.0.2.7"))
    (found,) = check_hosts(documents, [host("hv1", "192.0.2.7")])
    assert found.path == "spec.virtualAddress"
    assert not check_hosts(documents, [host("hv1", "192.0.2.8")])


def test_an_address_that_a_vm_has_by_a_claim_is_refused():
    (found,) = check_holdings(read(NETWORK, service()), [Holding("net", "10.9.0.100", "default", "web1", "dhcp")])
    assert (found.path, "declare it" in found.hint) == ("spec.virtualAddress", False)
    assert not check_holdings(read(NETWORK, service()), [Holding("lan", "10.9.0.100", "default", "web1", "dhcp")])


def test_claims_of_it_are_refused_and_grants_of_it_end():
    documents = read(NETWORK, service(), service("fd09::100", "shop6"))
    network = network_from_document(documents[0], Zone(1))
    web = vm_from_document(documents[1], VmId("w"), VmNumber(1))
    pool = Pool((network,), (web,), services=service_addresses(documents))
    ground, owners = ground_of(pool), owners_of(pool.vms)
    for address, source, server in (
        ("10.9.0.100", AddressSource.DHCP, "10.9.0.3"),
        ("fd09::100", AddressSource.DETECTED, ""),
    ):
        wanted = Grant(web.id, "52:54:00:09:00:01", "net", address, source, server)
        assert "virtual address" in refuse_claim(ground, owners, [], wanted, 0)
        assert not refuse_claim(ground_of(Pool((network,), (web,))), owners, [], wanted, 0)
        (stale,) = list_stale(ground, owners, [wanted], (), 0)
        assert "virtual address" in stale.why
