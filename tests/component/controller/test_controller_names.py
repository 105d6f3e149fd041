"""Answers for names against a real controller: what they open and where, what is refused, and what ends them."""

from __future__ import annotations

import time

import pytest

from buckler.model.agentapi import ClaimOutcome, NameBatch, NameClaim, ObservedDomain, ObservedInterface
from buckler.model.ids import VmId

from .conftest import ELSEWHERE, Agent, ControllerProcess, wait_for
from .shop import DB_MAC, DB_UUID, WEB_MAC, WEB_UUID
from .test_controller_claims import told

GRANTED, REFUSED, LATER = ClaimOutcome.GRANTED, ClaimOutcome.REFUSED, ClaimOutcome.LATER
HEAD = "apiVersion: buckler.io/v1\n"
RESOLVER = "10.0.0.53"


def network(name: str, bridge: str, tenant: str) -> str:
    return (
        f"{HEAD}kind: Network\nmetadata: {{name: {name}, tenant: {tenant}}}\n"
        f"spec: {{bridge: {bridge}, cidrs: [10.0.0.0/24], gateway: [10.0.0.254], resolvers: [{RESOLVER}]}}\n"
    )


def vm(name: str, tenant: str, uuid: str, mac: str, net: str, address: str, role: str) -> str:
    return (
        f"{HEAD}kind: VM\nmetadata: {{name: {name}, tenant: {tenant}, labels: {{role: {role}}}}}\n"
        f"spec: {{uuid: {uuid}, interfaces: [{{mac: '{mac}', network: {net}, addresses: [{address}]}}]}}\n"
    )


NEAR = vm("near", "default", "33333333-3333-4333-8333-333333333333", "52:54:00:00:00:03", "front", "10.0.0.3", "dark")
WEB = vm("web", "default", WEB_UUID, WEB_MAC, "front", "10.0.0.1", "app")
OTHER = vm("other", "rival", DB_UUID, DB_MAC, "back", "10.0.0.1", "app")
POLICY = f"""\
{HEAD}kind: Policy
metadata: {{name: updates}}
spec:
  description: what everything may fetch
  owner: platform
  reason: patches
  review: "2030-01-01"
  tier: baseline
  subject: {{matchLabels: {{role: app}}}}
  egress:
  - {{name: out, action: allow, to: [{{dns: "*.example.org"}}], ports: [{{protocol: TCP, port: 443}}]}}
"""


def running(uuid: str, mac: str) -> ObservedDomain:
    return ObservedDomain(
        uuid, uuid[:2], "running", interfaces=(ObservedInterface(mac, "bridge", "br0", "tap0", True),)
    )


@pytest.fixture
def pool(controller: ControllerProcess, agents: list[Agent]) -> tuple[ControllerProcess, Agent, Agent]:
    """Two tenants with the same addresses; web and near on the first host, the rival's VM on the second."""
    one, two = agents
    controller.apply(network("front", "br0", "default"), network("back", "br1", "rival"), WEB, NEAR, OTHER, POLICY)
    for agent in agents:
        agent.start()
    wait_for("both hosts have a manifest", lambda: all(agent.newest for agent in agents))
    one.observe(running(WEB_UUID, WEB_MAC), running("33333333-3333-4333-8333-333333333333", "52:54:00:00:00:03"))
    two.observe(running(DB_UUID, DB_MAC))
    return controller, one, two


def claim(controller: ControllerProcess, vm: str = "web", name: str = "www.example.org", address: str = "203.0.113.7",
          seconds: int = 60, resolver: str = RESOLVER) -> NameClaim:  # fmt: skip
    with controller.operator() as client:
        shown = client.vm(vm, "rival" if vm == "other" else "default")
    return NameClaim(VmId(shown.id), shown.interfaces[0].mac, name, address, time.time(), seconds, resolver)


def send(agent: Agent, *claims: NameClaim) -> tuple[ClaimOutcome, ...]:
    return agent.client.send_names(NameBatch(claims)).outcomes


def verdict(controller: ControllerProcess, vm: str, address: str = "203.0.113.7", port: int = 443) -> str:
    with controller.operator() as client:
        return client.explain(vm, address, "TCP", port).verdict


def test_an_answer_opens_its_address_to_the_vms_of_its_network_and_to_no_other_tenants(
    pool: tuple[ControllerProcess, Agent, Agent],
) -> None:
    controller, one, two = pool
    assert [verdict(controller, each) for each in ("default/web", "rival/other")] == ["deny", "deny"]
    assert send(one, claim(controller)) == (GRANTED,)
    assert verdict(controller, "default/web") == "allow"
    assert verdict(controller, "default/web", port=80) == "deny"
    assert verdict(controller, "default/web", "203.0.113.8") == "deny"
    assert verdict(controller, "default/near") == "deny", "no policy means the name at this VM"
    assert verdict(controller, "rival/other") == "deny", "another tenant's resolver told it"
    with controller.operator() as client:
        (listed,) = client.names()
        text = client.explain("default/web", "203.0.113.7", "TCP", 443).paths[0].sides[0].text
    assert (listed.name, listed.address, listed.network, listed.tenant, listed.vm, listed.resolver) == (
        "www.example.org", "203.0.113.7", "front", "default", "web", RESOLVER
    )  # fmt: skip
    assert 3500 < listed.until - time.time() < 3600 + 900
    assert (
        f"203.0.113.7 was the answer for www.example.org (meant by *.example.org) that VM web got from {RESOLVER}"
        in text
    )
    (entry,) = told(controller, "name.changed")
    assert (entry["name"], entry["address"], entry["change"]) == ("www.example.org", "203.0.113.7", "learned")
    wait_for("the hosts' programs name the address", lambda: all(_is_known(agent) for agent in (one, two)))


def _is_known(agent: Agent) -> bool:
    return any(each.cidr == "203.0.113.7/32" for segment in agent.policy().segments for each in segment.cidr_identities)


def test_what_an_answer_may_never_open(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    """A VM that asks an attacker's name, or whose resolver lies, gets nothing of the pool's own."""
    controller, one, _ = pool
    forbidden = ("192.0.2.1", "198.51.100.1", "10.0.0.3", "10.0.0.2", "10.0.0.254", "10.0.0.1", "127.0.0.1", "169.254.169.254", "0.0.0.0",
                 "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "ff02::1", "::ffff:203.0.113.7", "2002:c000:201::1", "64:ff9b::c000:201",
                 "fe80::5054:ff:fe00:3", ELSEWHERE, "203.0.113.7/32", "203.0.113.07", "x", "")  # fmt: skip
    claims = [claim(controller, address=address) for address in forbidden]
    assert send(one, *claims) == (REFUSED,) * len(forbidden)
    assert send(one, claim(controller, resolver="10.0.0.54"), claim(controller, resolver="")) == (REFUSED, REFUSED)
    assert send(one, claim(controller, name="www.example.com"), claim(controller, name="example.org")) == (
        REFUSED,
        REFUSED,
    )
    assert send(one, claim(controller, "near")) == (REFUSED,), "no policy of that VM means it"
    with controller.operator() as client:
        assert client.names() == ()
    assert len(told(controller, "name.refused")) == len(forbidden) + 4, "one for each name and address"
    assert not told(controller, "name.changed")


def test_a_host_tells_only_of_what_it_runs(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, _, two = pool
    assert send(two, claim(controller)) == (LATER,)
    stranger = NameClaim(VmId("nobody"), WEB_MAC, "www.example.org", "203.0.113.7", time.time(), 60, RESOLVER)
    assert send(two, stranger) == (REFUSED,)
    assert verdict(controller, "default/web") == "deny"


def test_a_thousand_answers_are_bounded(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, _ = pool
    base = claim(controller)
    of_one_name = [NameClaim(base.vm, base.mac, base.name, f"198.18.0.{n}", base.at, 60, RESOLVER) for n in range(40)]
    assert send(one, *of_one_name).count(GRANTED) == 32
    of_many = [
        NameClaim(base.vm, base.mac, f"a{n}.example.org", f"198.18.{n // 200}.{n % 200 + 1}", base.at, 60, RESOLVER)
        for n in range(1000)
    ]
    assert send(one, *of_many).count(GRANTED) == 128 - 32
    with controller.operator() as client:
        assert len(client.names()) == 128
    assert len(told(controller, "name.refused")) == 32


def test_renewing_is_written_down_once_a_quarter_at_most(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, _ = pool
    assert send(one, claim(controller)) == (GRANTED,)
    with controller.operator() as client:
        before = client.status().revision
    for _ in range(5):
        assert send(one, claim(controller, seconds=0)) == (GRANTED,)
    assert len(told(controller, "name.changed")) == 1
    with controller.operator() as client:
        (listed,) = client.names()
    assert listed.until % 900 == 0
    assert before


def test_what_no_policy_means_any_more_ends(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, _ = pool
    assert send(one, claim(controller)) == (GRANTED,)
    controller.apply(POLICY.replace("*.example.org", "other.example.org"))

    def ended() -> bool:
        return any(each["change"] == "ended" for each in told(controller, "name.changed"))

    wait_for("the answer ended", ended)
    with controller.operator() as client:
        assert client.names() == ()
    assert verdict(controller, "default/web") == "deny"
