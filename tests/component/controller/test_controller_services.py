"""Virtual addresses of services from documents to hosts: who serves now, for ever the same number, nobody else's address."""

from __future__ import annotations

import time

import pytest

from buckler.client.agentside import ControllerRefused
from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import (
    AddressClaim,
    AddressSource,
    ClaimBatch,
    ClaimOutcome,
    ObservedDomain,
    ObservedInterface,
)
from buckler.model.bundle import ServiceMember, VirtualService
from buckler.model.ids import VmId
from buckler.model.operatorapi.documents import ApplyRequest, Reference

from .conftest import Agent, ControllerProcess, wait_for
from .shop import DB, DB_MAC, DB_UUID, WEB, WEB_MAC, WEB_UUID, flow, vm

NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec: {bridge: br0, cidrs: [10.0.0.0/24], dhcpServers: [10.0.0.99], addressClaims: {limit: 2}}
"""
SPARE = vm("spare", "33333333-3333-4333-8333-333333333333", "52:54:00:00:00:03", "10.0.0.3", "db")


def service(address: str = "10.0.0.100", name: str = "data") -> str:
    return f"""\
apiVersion: buckler.io/v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{role: db}}}}
  ports: [{{protocol: TCP, port: 5432}}]
  network: front
  virtualAddress: {address}
"""


def told(agent: Agent) -> tuple[VirtualService, ...]:
    return agent.policy().segments[0].services if agent.newest is not None else ()


def members(agent: Agent) -> list[tuple[str, str]]:
    return [(each.address, each.mac) for one in told(agent) for each in one.members]


def delete(controller: ControllerProcess, kind: str, name: str) -> None:
    with controller.operator() as client:
        client.apply(ApplyRequest(delete=(Reference(kind, name),), wait=20))


@pytest.fixture
def running(controller: ControllerProcess, agents: list[Agent]) -> tuple[ControllerProcess, list[Agent]]:
    for agent in agents:
        agent.start()
    controller.apply(NETWORK, WEB, DB, flow(), service(), wait=20)
    return controller, agents


def test_hosts_are_told_who_serves_now_and_a_number_is_never_anothers(
    running: tuple[ControllerProcess, list[Agent]],
) -> None:
    controller, agents = running
    for agent in agents:
        (first,) = told(agent)
        assert (first.name, first.tenant, first.address) == ("data", "default", "10.0.0.100")
        assert [(each.protocol, each.first, each.last) for each in first.ports] == [(6, 5432, 5432)]
        assert first.members == (ServiceMember("10.0.0.2", DB_MAC),)
    controller.apply(SPARE, wait=20)
    assert members(agents[1]) == [("10.0.0.2", DB_MAC), ("10.0.0.3", "52:54:00:00:00:03")]
    controller.apply(vm("db", DB_UUID, DB_MAC, "10.0.0.2", "resting"), wait=20)
    assert members(agents[0]) == [("10.0.0.3", "52:54:00:00:00:03")]
    controller.apply(
        vm("spare", "33333333-3333-4333-8333-333333333333", "52:54:00:00:00:03", "10.0.0.4", "db"), wait=20
    )
    assert members(agents[0]) == [("10.0.0.4", "52:54:00:00:00:03")]
    delete(controller, "VM", "spare")
    assert members(agents[0]) == []
    delete(controller, "Service", "data")
    assert told(agents[0]) == ()
    controller.apply(service("10.0.0.101", "other"), wait=20)
    controller.kill()
    controller.start()
    controller.apply(service(), wait=20)
    wait_for("both stand again", lambda: len(told(agents[0])) == 2)
    assert {each.address: each.number for each in told(agents[0])} == {"10.0.0.100": 1, "10.0.0.101": 2}


def test_nobody_can_have_its_address_by_document_or_claim(running: tuple[ControllerProcess, list[Agent]]) -> None:
    controller, (one, _) = running
    with pytest.raises(OperatorFailed) as failed:
        controller.apply(vm("thief", "44444444-4444-4444-8444-444444444444", "52:54:00:00:00:04", "10.0.0.100", "x"))
    (clash,) = failed.value.problem.problems
    assert (clash.path, "10.0.0.100 is VM thief's" in clash.message, bool(clash.hint)) == (
        "spec.virtualAddress", True, True
    )  # fmt: skip
    card = ObservedInterface(WEB_MAC, "bridge", "br0", "tap0", True)
    one.observe(ObservedDomain(WEB_UUID, "web", "running", interfaces=(card,)))
    with controller.operator() as client:
        web = client.vm("web").id

    def claim(address: str) -> ClaimOutcome:
        wanted = AddressClaim(VmId(web), WEB_MAC, address, AddressSource.DETECTED, time.time())
        (outcome,) = one.client.send_claims(ClaimBatch((wanted,))).outcomes
        return outcome

    wait_for("the host's word of web is in", lambda: claim("10.0.0.51") is ClaimOutcome.GRANTED)
    assert claim("10.0.0.100") is ClaimOutcome.REFUSED
    with pytest.raises(OperatorFailed) as late:
        controller.apply(service("10.0.0.51", "late"))
    assert "VM web's by detected" in str([each.message for each in late.value.problem.problems])


def test_explain_tells_whose_address_it_is_and_each_member(running: tuple[ControllerProcess, list[Agent]]) -> None:
    controller, _ = running
    controller.apply(SPARE)
    with controller.operator() as client:
        open_, closed = (client.explain("web", "10.0.0.100", "TCP", port) for port in (5432, 22))
    assert (open_.verdict, [each.to for each in open_.paths]) == ("allow", ["db", "spare"])
    assert [each.address for each in open_.services[0].members] == ["10.0.0.2", "10.0.0.3"]
    assert "service data in network front" in open_.text
    assert (closed.verdict, closed.paths) == ("deny", ())


def test_no_host_joins_with_its_address(running: tuple[ControllerProcess, list[Agent]]) -> None:
    controller, _ = running
    controller.apply(service("198.51.100.9", "far"))
    with pytest.raises(ControllerRefused, match=r"198\.51\.100\.9 is service far's virtual address"):
        Agent(controller, "host-i", 9)
