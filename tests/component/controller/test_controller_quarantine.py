"""Quarantine over the API: one step, pending where a host is away, kept over restarts, undone exactly, escaped by nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.client.agentside import ControllerRefused
from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import EventBatch
from buckler.model.event import Event, EventKind
from buckler.model.operatorapi.documents import ApplyRequest, LabelRequest, Reference, SourceFile
from buckler.model.operatorapi.vms import Allowance, QuarantineRequest

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, WEB, WEB_UUID

SCANS = QuarantineRequest(reason="it scans", wait=20)
CLEANED = QuarantineRequest(reason="cleaned", wait=20)
REPAIR = """\
apiVersion: buckler.io/v1
kind: Flow
metadata: {name: repair}
spec:
  description: What is in quarantine fetches its patches
  owner: incident-response
  reason: it has to be repaired
  review: 2036-12-31
  tier: quarantine
  from: [{vm: {matchLabels: {buckler.io/quarantine: remediation}}}]
  to: [{vm: {matchLabels: {role: db}}}]
  ports: [{protocol: TCP, port: 8530}]
"""


def held(agent: Agent) -> str:
    """Everything that bears on packets."""
    assert agent.newest is not None
    return agent.newest.root


def started(agents: list[Agent], controller: ControllerProcess, *texts: str) -> None:
    for agent in agents:
        agent.start()
    assert controller.apply(*(texts or SHOP), wait=20).waiting == ()


def stands(controller: ControllerProcess) -> dict[str, bool]:
    with controller.operator() as client:
        view = client.vm("web")
    assert view.quarantine is not None
    return {each.host: each.enforced for each in view.quarantine.hosts}


def status_of(refused: pytest.ExceptionInfo[OperatorFailed]) -> int:
    return refused.value.problem.status


def test_release_gives_every_host_exactly_the_programs_and_addresses_of_before(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    started(agents, controller, *SHOP, REPAIR)
    before = [held(agent) for agent in agents]
    for allow in Allowance:
        with controller.operator() as client:
            view = client.quarantine("web", QuarantineRequest("it scans", allow, wait=20))
            assert (view.quarantined, view.waiting) == (True, ())
            assert [held(agent) for agent in agents] != before
            assert client.release("web", CLEANED).waiting == ()
            assert client.vm("web").quarantine is None
        assert [held(agent) for agent in agents] == before


def test_a_host_that_is_away_is_shown_as_pending_until_it_has_closed_and_the_others_do_not_wait_for_it(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    started(agents, controller)
    agents[1].acknowledges = False
    command = ["--socket", controller.socket, "vm", "quarantine", "web", "--reason", "it scans", "--wait", "1"]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 4
    assert "host-a: enforced" in told.output
    assert "host-b: pending" in told.output
    assert stands(controller) == {"host-a": True, "host-b": False}
    controller.kill()
    controller.start()
    assert stands(controller) == {"host-a": True, "host-b": False}
    agents[1].acknowledges = True
    wait_for("the stream is back", lambda: controller.operator().host("host-b").connected)
    agents[1].acknowledge()
    wait_for("both have closed", lambda: stands(controller) == {"host-a": True, "host-b": True})
    shown = CliRunner().invoke(main, ["--socket", controller.socket, "vm", "show", "web"]).output
    assert "it scans" in shown
    assert "host-b: enforced" in shown


def test_a_quarantine_closes_though_an_opening_before_it_is_stuck(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    started(agents, controller)
    agents[1].acknowledges = False
    assert controller.apply(SHOP[-1].replace("5432", "5433"), wait=1).waiting
    with controller.operator() as client:
        waiting = client.quarantine("web", QuarantineRequest("it scans", wait=3)).waiting
    assert [each.host for each in waiting] == ["host-b"]
    assert stands(controller) == {"host-a": True, "host-b": False}


def test_remediation_opens_what_the_quarantine_tier_says_and_nothing_else(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    started(agents, controller)
    remediation = QuarantineRequest("unpatched", Allowance.REMEDIATION, wait=20)
    with controller.operator() as client:

        def verdicts() -> list[str]:
            asked = (("web", "db", 5432), ("web", "db", 8530), ("db", "web", 8530))
            return [client.explain(a, b, "TCP", port).verdict for a, b, port in asked]

        assert verdicts() == ["allow", "deny", "deny"]
        assert client.quarantine("web", remediation).quarantine.allow is Allowance.REMEDIATION
        assert verdicts() == ["deny", "deny", "deny"], "by default remediation opens nothing"
        controller.apply(REPAIR)
        assert verdicts() == ["deny", "allow", "deny"]
        client.quarantine("web", SCANS)
        assert verdicts() == ["deny", "deny", "deny"], "said again without it, nothing is left open"
        client.quarantine("web", remediation)
        assert verdicts() == ["deny", "allow", "deny"]
        client.quarantine("db", remediation)
        assert verdicts() == ["deny", "deny", "deny"], "two in quarantine do not meet"
        told = [(entry.kind, entry.detail.get("allow", "")) for entry in client.history("web")][1:]
    assert told == [("vm.quarantined", "remediation"), ("vm.quarantined", ""), ("vm.quarantined", "remediation")]


def test_what_is_not_there_is_not_quarantined_and_nothing_is_without_a_reason(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        for name, tenant in (("nobody", ""), ("web", "other")):
            for act in (client.quarantine, client.release):
                with pytest.raises(OperatorFailed) as refused:
                    act(name, SCANS, tenant)
                assert status_of(refused) == 404
        client.delete(Reference("VM", "web"))
        with pytest.raises(OperatorFailed) as refused:
            client.quarantine("web", SCANS)
        assert status_of(refused) == 404
        for request, act in (
            (QuarantineRequest(" "), client.quarantine),
            (QuarantineRequest(" "), client.release),
            (QuarantineRequest("done", Allowance.REMEDIATION), client.release),
        ):
            with pytest.raises(OperatorFailed) as refused:
                act("db", request)
            assert status_of(refused) == 400
        assert client.quarantine("db", QuarantineRequest("off, and no host has it")).quarantined
        assert client.release("db", QuarantineRequest("it was another")).quarantine is None
        assert [entry.kind for entry in client.history("db")] == ["vm.registered", "vm.quarantined", "vm.released"]


def test_a_quarantined_vms_domain_is_not_registered_under_another_name(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    other = WEB.replace(WEB_UUID, "99999999-9999-4999-8999-999999999999").replace(
        "52:54:00:00:00:01", "52:54:00:00:00:09"
    )
    innocent = WEB.replace("name: web", "name: innocent").replace("10.0.0.1", "10.0.0.99")
    with controller.operator() as client:
        client.quarantine("web", QuarantineRequest("it scans"))
        for texts in ((other,), (other, innocent)):
            files = tuple(SourceFile(f"{number}.yaml", text) for number, text in enumerate(texts))
            with pytest.raises(OperatorFailed) as refused:
                client.apply(ApplyRequest(files=files))
            assert status_of(refused) == 409
        assert client.vm("web").quarantined
        assert client.release("web", QuarantineRequest("cleaned")).quarantine is None
        controller.apply(other)


def test_twenty_at_once_are_one_quarantine_and_labels_change_beside_it(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    started(agents, controller)

    def act(number: int) -> None:
        with controller.operator() as client:
            if number % 2:
                with suppress(OperatorFailed):  # who meets another's change is told so, and changes nothing
                    client.label(Reference("VM", "web"), LabelRequest(set={"zone": f"z{number}"}, overwrite=True))
            else:
                client.quarantine("web", SCANS)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(40)))
    with controller.operator() as client:
        assert client.vm("web").quarantined
        assert client.explain("web", "db", "TCP", 5432).verdict == "deny"
        assert [entry.kind for entry in client.history("web")].count("vm.quarantined") == 1


def test_a_host_ends_no_quarantine(controller: ControllerProcess, agents: list[Agent]) -> None:
    started(agents, controller)
    with controller.operator() as client:
        vm = client.quarantine("web", SCANS).id
    host = agents[0].client
    with pytest.raises(ControllerRefused) as refused:
        host.send_events(EventBatch((Event(EventKind.VM_RELEASED, 1.0, sequence=1, vm=vm),)))
    assert refused.value.status == 403
    for path in ("/api/v1/vms/web/release", "/agent/v1/vms/web/release"):
        with pytest.raises(ControllerRefused) as refused:
            host._call("POST", path, QuarantineRequest("I say so"), None)
        assert refused.value.status == 404
    with controller.operator() as client:
        assert client.vm("web").quarantined
