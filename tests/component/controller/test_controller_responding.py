"""A Response acts on what hosts tell of refusals: for the hosts' own VMs, within its limit, once, and with its figures."""

from __future__ import annotations

import time
from itertools import count

import msgspec

from buckler.model.agentapi import FlowBatch
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.vms import QuarantineRequest

from .conftest import Agent, ControllerProcess, wait_for
from .shop import DB_MAC, DB_UUID, SHOP
from .test_controller_life import domain

RESPONSE = """\
apiVersion: buckler.io/v1
kind: Response
metadata: {name: scanners}
spec:
  description: no VM knocks at many doors
  owner: incident-response
  reason: worms do
  review: 2036-12-31
  mode: enforce
  trigger: {refusals: 10, peers: 5, within: 10}
  exempt: {matchLabels: {role: auditor}}
  action: quarantine
  limit: {vms: 1, within: 600}
"""
_NAMES = count(1)


def refusal(number: int, local: str = "web", **changes: object) -> FlowRecord:
    flow = FlowRecord(
        at=time.time(), host="liar", local=local, peer="world", direction="egress", verdict="deny", reason="policy",
        protocol="tcp", source="10.0.0.1", destination=f"10.0.0.{number}", source_port=4000, destination_port=22,
    )  # fmt: skip
    return msgspec.structs.replace(flow, **changes)


def tell(agent: Agent, *flows: FlowRecord) -> None:
    agent.client.send_flows(FlowBatch(flows, name=f"{agent.name}-{next(_NAMES)}"))


def ready(controller: ControllerProcess, agents: list[Agent], *texts: str) -> None:
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, *texts, wait=20)
    agents[0].observe(domain())
    agents[1].observe(domain(DB_UUID, "db", DB_MAC))


def is_quarantined(controller: ControllerProcess, vm: str = "web") -> bool:
    with controller.operator() as client:
        return client.vm(vm).quarantined


def outcomes(controller: ControllerProcess, vm: str = "web") -> list[object]:
    with controller.operator() as client:
        return [each.detail["outcome"] for each in client.history(vm) if each.kind == "response.triggered"]


def test_a_vm_that_scans_is_cut_off_with_rule_and_figures(controller: ControllerProcess, agents: list[Agent]) -> None:
    ready(controller, agents, RESPONSE)
    tell(agents[0], *(refusal(number) for number in range(1, 11)))
    assert not is_quarantined(controller), "ten are not more than ten"
    tell(agents[0], refusal(11))
    with controller.operator() as client:
        view = client.vm("web")
        told = client.history("web")[1:]
    assert view.quarantine is not None
    assert (view.quarantine.by, view.quarantine.response) == ("controller", "scanners")
    assert view.quarantine.reason.startswith("11 packets to 11 addresses at 1 ports refused within 10 s")
    assert [each.kind for each in told] == ["response.triggered", "vm.quarantined"]
    for each in told:
        assert (each.detail["response"], each.detail["refusals"], each.detail["peers"]) == ("scanners", 11, 11)
    wait_for("the hosts close", lambda: all(each.enforced for each in controller.operator().vm("web").quarantine.hosts))
    tell(agents[0], *(refusal(number) for number in range(1, 60)))
    late = tuple(refusal(number) for number in range(100, 160))
    with controller.operator() as client:
        client.release("web", QuarantineRequest("cleaned"))
    tell(agents[0], refusal(61))
    assert not is_quarantined(controller), "what it tried in quarantine does not count after it"
    time.sleep(1.1)  # a place is looked at once a second
    tell(agents[0], *late)
    assert not is_quarantined(controller), "nor what is told only after the release"


def test_only_what_a_vm_sent_itself_and_its_own_host_tells_counts(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    ready(controller, agents, RESPONSE)
    many = range(1, 60)
    tell(agents[1], *(refusal(number) for number in many))
    tell(agents[0], *(refusal(number, direction="ingress") for number in many))
    tell(agents[0], *(refusal(number, verdict="allow") for number in many))
    tell(agents[0], *(refusal(number, reason="no-connection") for number in many))
    tell(agents[0], *(refusal(number, reason="tcp-reset") for number in many))
    tell(agents[0], *(refusal(number, peer="group") for number in many))
    tell(agents[0], *(refusal(1) for _ in many))
    tell(agents[0], *(refusal(number, at=time.time() - 11 * number) for number in many))
    tell(agents[0], *(refusal(number, local="nobody") for number in many))
    assert not is_quarantined(controller)


def test_a_batch_that_comes_twice_counts_once(controller: ControllerProcess, agents: list[Agent]) -> None:
    ready(controller, agents, RESPONSE)
    batch = FlowBatch(tuple(refusal(number) for number in range(1, 8)), name="twice")
    for _ in range(3):
        agents[0].client.send_flows(batch)
    assert not is_quarantined(controller)
    agents[0].client.send_flows(msgspec.structs.replace(batch, name="another"))
    assert is_quarantined(controller)


def test_who_is_exempt_observed_or_beyond_the_limit_is_told_of_once_and_left_alone(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    ready(controller, agents, RESPONSE.replace("mode: enforce", "mode: observe"))
    scan = [refusal(number) for number in range(1, 40)]
    for _ in range(3):
        tell(agents[0], *scan)
    assert (is_quarantined(controller), outcomes(controller)) == (False, ["observed"])
    controller.apply(RESPONSE.replace("auditor", "web").replace("name: scanners", "name: spared"), wait=20)
    time.sleep(1.1)
    tell(agents[0], *scan)
    assert (is_quarantined(controller), outcomes(controller)) == (False, ["observed", "exempt"])
    controller.apply(RESPONSE, wait=20)
    tell(agents[1], *(refusal(number, "db") for number in range(1, 40)))
    assert is_quarantined(controller, "db")
    controller.apply(RESPONSE.replace("name: scanners", "name: spared").replace("vms: 1", "vms: 0"), wait=20)
    time.sleep(10.1)
    tell(agents[0], *(msgspec.structs.replace(each, at=time.time()) for each in scan))
    assert not is_quarantined(controller), "one VM in ten minutes is the limit, however many scan"
    assert outcomes(controller)[2:] == ["limited", "limited"]
