"""Documents by somebody who means harm: names that look like others, addresses that are not theirs, bombs."""

from __future__ import annotations

import pytest

from buckler.model.ids import HostId
from buckler.model.pool import Host, HostState
from buckler.policy.crosscheck import check_hosts
from buckler.policy.documents import read_documents
from buckler.policy.problem import Severity
from buckler.policy.source import Source
from tests.unit.policy.test_documents import NETWORK, UUID, policy, problems, vm

HOST = Host(HostId("h"), "h1", "", "192.0.2.1", ("192.0.2.1", "fd01::1"), state=HostState.REVOKED)


def one(address: str, more: str = "") -> str:
    return vm("v", f"{UUID}1, interfaces: [{{mac: '52:54:00:00:00:01', network: net, addresses: ['{address}']}}{more}]")


def network(spec: str, name: str = "net") -> str:
    return f"apiVersion: buckler.io/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (one("10.0.0.255") + "---\n" + NETWORK, "stands for all"),
        (one("10.0.0.0") + "---\n" + NETWORK, "stands for all"),
        (one("fd00::") + "---\n" + network("bridge: b, cidrs: ['fd00::/64']"), "stands for all"),
        (one("255.255.255.255") + "---\n" + NETWORK, "cannot be an interface's address"),
        (one("::ffff:10.0.0.5") + "---\n" + NETWORK, "is not taken"),
        (one("10.0.0.1") + "---\n" + network("bridge: b, gateway: [10.0.0.1]"), "is the gateway"),
        (
            one("10.0.0.5", ", {mac: '52:54:00:00:00:02', network: net, addresses: [10.0.0.5]}") + "---\n" + NETWORK,
            "10.0.0.5 is VM v's",
        ),
        (
            one("fe80::5054:ff:fe00:2", ", {mac: '52:54:00:00:00:02', network: net}") + "---\n" + NETWORK,
            "is VM v's",
        ),
        *((vm(word, UUID + "1"), "cannot be a VM's name") for word in ("world", "host", "group", "infra")),
        (vm("w\u0435b", UUID + "1"), "has not the right form"),
        (vm('"web\\u202e"', UUID + "1"), "has not the right form"),
        (vm('"web\\n"', UUID + "1"), "has not the right form"),
        *(
            (network(f"bridge: '{bridge}'"), "has not the right form")
            for bridge in (
                'br0" accept;',
                "br0 ",
                "../br0",
                "br/0",
                "br:0",
                "br\u04300",
                "-br0",
                ".",
                "br0123456789abcd",
            )
        ),
        (network("bridge: b", "one") + "---\n" + network("bridge: b", "two"), "is network"),
        (policy("ingress: [{action: allow, from: [{cidr: '::ffff:0:0/96'}]}]"), "IPv4-mapped"),
        (policy("ingress: [{action: allow, from: [{cidr: '::ffff:10.0.0.0/104'}]}]"), "IPv4-mapped"),
        (policy("ingress: [{action: allow, from: [{cidr: 'fe80::%1/64'}]}]"), "zone is not taken"),
        (policy("ingress: [{action: allow, from: [{cidr: '224.0.0.0/4'}]}]"), "multicast"),
        (policy(f"ingress: [{{action: allow, ports: [{{protocol: TCP, port: {'9' * 23}}}]}}]"), "9 is out of range"),
        (policy(f"ingress: [{{action: allow, ports: [{{protocol: TCP, port: -{'9' * 23}}}]}}]"), "9 is out of range"),
        (vm("v", f"{UUID}1, interfaces: [{{mac: 52-54-00-00-00-01, network: net}}]"), "has not the right form"),
        ("a: &a [1]\nb: [*a, *a]\n", "anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]\n", "is not taken"),
    ],
)
def test_it_is_refused(text: str, said: str) -> None:
    assert any(said in each for each in problems(text)), problems(text)


def test_a_vm_that_is_a_networks_router_is_warned_of() -> None:
    found = problems(one("10.0.0.1") + "---\n" + network("bridge: b, routers: [10.0.0.1], dhcpServers: [10.0.0.1]"))
    assert sum("believe this VM" in each for each in found) == 2


def test_small_prefixes_have_no_address_to_spare() -> None:
    text = one("10.0.0.0") + "---\n" + network("bridge: b, cidrs: [10.0.0.0/31]")
    assert not problems(text)


@pytest.mark.parametrize("text", [one("192.0.2.1"), one("fd01::1"), network("bridge: b, gateway: [192.0.2.1]")])
def test_what_is_a_hosts_is_nobody_elses_even_when_it_was_revoked(text: str) -> None:
    found = check_hosts(read_documents([Source("a.yaml", text)]).documents, (HOST,))
    assert [each.severity for each in found] == [Severity.ERROR]
    assert "host h1's" in found[0].message


def test_a_host_may_serve_a_network_as_its_gateway() -> None:
    text = network("bridge: b, gateway: ['fd01::1']")
    assert check_hosts(read_documents([Source("a.yaml", text)]).documents, (HOST,)) == ()
