"""Addresses by claim against a real controller: the first claimant in the pool, limits, leases, and what is refused."""

from __future__ import annotations

import time

import msgspec
import pytest

from buckler.client.agentside import ControllerAway
from buckler.client.operator import OperatorFailed
from buckler.ledger.entry import read_entry
from buckler.model.agentapi import (
    AddressClaim,
    AddressSource,
    ClaimBatch,
    ClaimOutcome,
    ObservedDomain,
    ObservedInterface,
)
from buckler.model.ids import VmId
from buckler.model.operatorapi.vms import VmView

from .conftest import Agent, ControllerProcess, wait_for
from .shop import DB, DB_MAC, DB_UUID, WEB_MAC, WEB_UUID, vm

NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec:
  bridge: br0
  cidrs: [10.0.0.0/24, "fd00:5::/64"]
  dhcpServers: [10.0.0.99]
  addressClaims: {limit: 2}
"""
WEB = vm("web", WEB_UUID, WEB_MAC, "", "web")
GRANTED, REFUSED, LATER = ClaimOutcome.GRANTED, ClaimOutcome.REFUSED, ClaimOutcome.LATER


def running(uuid: str, mac: str, state: str = "running") -> ObservedDomain:
    return ObservedDomain(uuid, uuid[:2], state, interfaces=(ObservedInterface(mac, "bridge", "br0", "tap0", True),))


@pytest.fixture
def pool(controller: ControllerProcess, agents: list[Agent]) -> tuple[ControllerProcess, Agent, Agent]:
    """Web runs on the first host and has no address by its document; db runs on the second and has 10.0.0.2."""
    one, two = agents
    controller.apply(NETWORK, WEB, DB)
    for agent in agents:
        agent.start()
    wait_for("both hosts have a manifest", lambda: all(agent.newest for agent in agents))
    one.observe(running(WEB_UUID, WEB_MAC))
    two.observe(running(DB_UUID, DB_MAC))
    return controller, one, two


def view(controller: ControllerProcess, name: str = "web") -> VmView:
    with controller.operator() as client:
        return client.vm(name)


def claim_of(controller: ControllerProcess, name: str, address: str, lease: int | None = None) -> AddressClaim:
    shown = view(controller, name)
    mac = shown.interfaces[0].mac
    if lease is None:
        return AddressClaim(VmId(shown.id), mac, address, AddressSource.DETECTED, time.time())
    return AddressClaim(VmId(shown.id), mac, address, AddressSource.DHCP, time.time(), lease, "10.0.0.99")


def send(agent: Agent, *claims: AddressClaim) -> tuple[ClaimOutcome, ...]:
    return agent.client.send_claims(ClaimBatch(claims)).outcomes


def sources(controller: ControllerProcess, name: str = "web") -> dict[str, str]:
    return view(controller, name).interfaces[0].sources


def enforced(agent: Agent) -> set[str]:
    """The addresses of web as the host was told last."""
    assert agent.newest is not None
    (segment,) = agent.policy().segments
    found = {address for each in segment.endpoints if each.name == "web" for address in each.addresses}
    assert found <= set(segment.identities)
    return found


def told(controller: ControllerProcess, kind: str) -> list[dict[str, object]]:
    with controller.operator() as client:
        texts = [each.entry for each in client.ledger_page().entries]
    entries = [read_entry(text) for text in texts]
    return [{"cause": entry.cause, **entry.detail} for entry in entries if entry.kind == kind]


def test_a_vm_with_nothing_but_dhcp_gets_its_address_everywhere(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, two = pool
    assert send(one, claim_of(controller, "web", "10.0.0.50", 3600)) == (GRANTED,)
    assert sources(controller)["10.0.0.50"] == "dhcp"
    assert "implied" in sources(controller).values()
    wait_for("both hosts know the address", lambda: all("10.0.0.50" in enforced(agent) for agent in (one, two)))
    (entry,) = told(controller, "address.changed")
    assert (entry["address"], entry["change"], entry["source"], entry["server"]) == (
        "10.0.0.50", "granted", "dhcp", "10.0.0.99"
    )  # fmt: skip


def test_two_vms_on_two_hosts_race_for_one_address(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, two = pool
    assert send(two, claim_of(controller, "db", "10.0.0.50")) == (GRANTED,)
    for _ in range(3):
        assert send(one, claim_of(controller, "web", "10.0.0.50")) == (REFUSED,)
    assert send(one, claim_of(controller, "web", "10.0.0.2")) == (REFUSED,)
    assert send(one, claim_of(controller, "web", "10.0.0.2", 60)) == (REFUSED,)
    refusals = told(controller, "address.refused")
    assert [entry["address"] for entry in refusals] == ["10.0.0.50", "10.0.0.2"]
    assert {entry["cause"] for entry in refusals} == {"it is another interface's"}
    assert not {"10.0.0.50", "10.0.0.2"} & set(sources(controller))


def test_the_limit_holds_and_refusals_end_in_silence(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, _ = pool
    claims = [claim_of(controller, "web", f"10.0.0.{number}") for number in range(50, 100)]
    assert send(one, *claims) == (GRANTED, GRANTED, *(REFUSED,) * 48)
    refusals = told(controller, "address.refused")
    assert len(refusals) == 32
    assert "not recorded" in str(refusals[-1]["note"])
    assert send(one, claim_of(controller, "web", "fd00:5::50")) == (REFUSED,)
    assert len(told(controller, "address.refused")) == 32


def test_a_host_claims_only_for_what_it_runs(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, two = pool
    mine = claim_of(controller, "web", "10.0.0.50")
    assert send(two, mine) == (LATER,)
    stranger = msgspec.structs.replace(mine, vm=VmId("nobody"))
    other_card = msgspec.structs.replace(mine, mac=DB_MAC)
    nonsense = msgspec.structs.replace(mine, address="10.0.0.300")
    declared = msgspec.structs.replace(mine, source=AddressSource.DECLARED)
    negative = msgspec.structs.replace(claim_of(controller, "web", "10.0.0.50", 60), lease=-5)
    assert set(send(one, stranger, other_card, nonsense, declared, negative)) == {REFUSED}
    unknown = msgspec.structs.replace(claim_of(controller, "web", "10.0.0.50", 60), server="10.0.0.98")
    assert send(one, unknown) == (REFUSED,)
    assert send(one, mine) == (GRANTED,)


def test_a_lease_ends_and_renews(tmp_path) -> None:
    controller = ControllerProcess(tmp_path, **{"agent-lost-after": 1.5})
    controller.start()
    agent = Agent(controller, "host-a", 1)
    try:
        controller.apply(NETWORK, WEB)
        agent.start()
        wait_for("a manifest", lambda: agent.newest is not None)
        agent.observe(running(WEB_UUID, WEB_MAC))
        assert send(agent, claim_of(controller, "web", "10.0.0.50", 4), claim_of(controller, "web", "10.0.0.51", 2)) == (
            GRANTED, GRANTED
        )  # fmt: skip
        wait_for("the short lease is over", lambda: "10.0.0.51" not in sources(controller))
        assert send(agent, claim_of(controller, "web", "10.0.0.50", 3600)) == (GRANTED,)
        time.sleep(4)
        assert sources(controller)["10.0.0.50"] == "dhcp"
        wait_for("the host was told", lambda: "10.0.0.51" not in enforced(agent) and "10.0.0.50" in enforced(agent))
        over = [entry for entry in told(controller, "address.changed") if entry["change"] == "released"]
        assert [(entry["address"], entry["cause"]) for entry in over] == [("10.0.0.51", "the lease is over")]
    finally:
        agent.tell_over()
        controller.kill()
        agent.stop()


def test_what_is_declared_wins_over_later_claims_and_never_takes_one_away(
    pool: tuple[ControllerProcess, Agent, Agent],
) -> None:
    controller, one, two = pool
    assert send(one, claim_of(controller, "web", "10.0.0.50")) == (GRANTED,)
    with pytest.raises(OperatorFailed) as refused:
        controller.apply(vm("db", DB_UUID, DB_MAC, "10.0.0.50", "db"))
    assert "10.0.0.50 is VM web's by detected" in str(refused.value.problem)
    controller.apply(vm("web", WEB_UUID, WEB_MAC, "10.0.0.50", "web"))
    assert sources(controller)["10.0.0.50"] == "declared"
    wait_for("the claim is over", lambda: any(e["change"] == "released" for e in told(controller, "address.changed")))
    assert sources(controller)["10.0.0.50"] == "declared"
    assert send(two, claim_of(controller, "db", "10.0.0.50")) == (REFUSED,)


def test_without_a_controller_nothing_is_granted_and_a_restart_keeps_what_was(
    pool: tuple[ControllerProcess, Agent, Agent],
) -> None:
    controller, one, _ = pool
    claim = claim_of(controller, "web", "10.0.0.50")
    later = claim_of(controller, "web", "10.0.0.51")
    assert send(one, claim) == (GRANTED,)
    controller.kill()
    with pytest.raises(ControllerAway):
        send(one, later)
    controller.start()
    assert sources(controller)["10.0.0.50"] == "detected"
    assert "10.0.0.51" not in sources(controller)
    assert send(one, later) == (GRANTED,)


def test_a_tighter_network_takes_the_newest_back(pool: tuple[ControllerProcess, Agent, Agent]) -> None:
    controller, one, _ = pool
    assert send(one, claim_of(controller, "web", "10.0.0.50")) == (GRANTED,)
    assert send(one, claim_of(controller, "web", "10.0.0.51")) == (GRANTED,)
    controller.apply(NETWORK.replace("limit: 2", "limit: 1"))
    wait_for("the second is gone", lambda: "10.0.0.51" not in sources(controller))
    assert sources(controller)["10.0.0.50"] == "detected"
