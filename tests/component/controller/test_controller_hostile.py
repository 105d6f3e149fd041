"""A hostile host, a thief, an impatient operator: what they try against the rest of the pool, and what they get."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import Acknowledgement, EventBatch, FlowBatch, Observation, TaskReport, TaskState
from buckler.model.bundle import Manifest
from buckler.model.event import Event, EventKind
from buckler.model.flow import FlowRecord
from buckler.model.ids import Revision
from buckler.model.operatorapi.documents import ApplyRequest, LabelRequest, Reference, SourceFile
from buckler.model.operatorapi.hosts import HostRequest
from buckler.model.operatorapi.vms import AdoptRequest, MigrateRequest, QuarantineRequest
from buckler.model.pool import Interface

from .conftest import Agent, ControllerProcess, wait_for
from .shop import NETWORK, SHOP, WEB, WEB_MAC, WEB_UUID
from .test_controller_life import ROGUE_MAC, ROGUE_UUID, domain, running


def refusal(problem: pytest.ExceptionInfo[OperatorFailed]) -> int:
    return problem.value.problem.status


def test_no_vm_is_sent_to_a_host_that_was_revoked_meanwhile(controller: ControllerProcess, agents: list[Agent]) -> None:
    source = running(agents)
    controller.apply(*SHOP, wait=20)
    source.observe(domain())
    with controller.operator() as client:
        order = client.migrate("web", MigrateRequest("host-b"))
        source.stop()
        source.tasks.clear()
        client.revoke("host-b", HostRequest(reason="its administrator is not ours"))
        assert client.task(order.id).state is TaskState.FAILED
        assert client.history("web")[-1].kind == "task.ended"
        source.start()
        wait_for("it is connected again", lambda: client.host("host-a").connected)
        source.client.report_task(TaskReport(order.id, TaskState.DONE))
        assert client.task(order.id).state is TaskState.FAILED
    assert source.tasks == []


def test_a_vm_does_not_leave_its_quarantine_by_being_registered_anew(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    renamed = WEB.replace("name: web", "name: innocent")
    with controller.operator() as client:
        client.quarantine("web", QuarantineRequest(reason="it scans"))
        for request in (
            ApplyRequest(delete=(Reference("VM", "web"),)),
            ApplyRequest(delete=(Reference("VM", "web"),), dry_run=True),
            ApplyRequest(files=(SourceFile("new.yaml", renamed),), delete=(Reference("VM", "web"),)),
        ):
            with pytest.raises(OperatorFailed) as refused:
                client.apply(request)
            assert refusal(refused) == 409
        controller.apply(WEB.replace("role: web", "role: other"))
        assert client.vm("web").quarantined
        client.release("web", QuarantineRequest(reason="cleaned"))
        client.delete(Reference("VM", "web"))


def test_one_change_does_not_write_and_delete_the_same_document(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    files = (SourceFile("shop.yaml", SHOP[0]),)
    with controller.operator() as client:
        with pytest.raises(OperatorFailed) as refused:
            client.apply(ApplyRequest(files=files, delete=(Reference("Network", "front"),)))
        assert refusal(refused) == 409
        assert client.document("Network", "default", "front")
        client.apply(ApplyRequest(delete=(Reference("VM", "web"), Reference("vm", "web"))))
        with pytest.raises(OperatorFailed) as refused:
            client.apply(ApplyRequest(delete=(Reference("Network", "front"),)))
        assert refusal(refused) == 422


def test_a_vm_named_like_anothers_id_is_not_taken_for_it(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        db = client.vm("db")
        controller.apply(
            WEB.replace("name: web", f"name: {db.id}")
            .replace(WEB_UUID, "99999999-9999-4999-8999-999999999999")
            .replace("52:54:00:00:00:01", "52:54:00:00:00:99")
            .replace("10.0.0.1", "10.0.0.99")
        )
        assert client.vm(db.id).name == "db"
        assert client.quarantine(db.id, QuarantineRequest(reason="it scans")).name == "db"


def test_a_host_that_lies_draws_no_vm_to_itself(controller: ControllerProcess, agents: list[Agent]) -> None:
    honest, liar = running(agents), agents[1]
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:
        web = client.vm("web").id
        honest.observe(domain())
        wait_for("its host writes the passport", lambda: web in newest(honest).adoptions)
        for at in (1e300, -1.0, time.time() + 1e6):
            liar.client.send_observation(Observation(at, Revision(0), (domain(),)))
            assert (client.vm("web").host, client.vm("web").state) == ("host-a", "running")
        time.sleep(0.5)
        assert web not in newest(liar).adoptions
        assert web in newest(honest).adoptions
        assert client.migrate("web", MigrateRequest("host-b")).source == "host-a"
        honest.observe(domain(state="shutoff"))
        assert client.vm("web").host == "host-b"


def test_two_hosts_that_differ_about_a_rogue_are_not_chosen_between(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    controller.apply(NETWORK)
    agents[0].observe(domain(ROGUE_UUID, "stray", ROGUE_MAC))
    agents[1].observe(domain(ROGUE_UUID, "stray", WEB_MAC))
    with controller.operator() as client:
        with pytest.raises(OperatorFailed) as refused:
            client.adopt(AdoptRequest(ROGUE_UUID, "found"))
        assert refusal(refused) == 409
        card = Interface(ROGUE_MAC, "front")
        assert client.adopt(AdoptRequest(ROGUE_UUID, "found", interfaces=(card,))).interfaces[0].mac == ROGUE_MAC


def test_what_a_host_tells_cannot_blind_those_who_read_it(controller: ControllerProcess, agents: list[Agent]) -> None:
    controller.apply(*SHOP)
    agent = agents[0]
    with controller.operator() as client:
        web = client.vm("web").id
    told = Event(EventKind.DOMAIN_STARTED, 1e300, sequence=1, vm=web, actor="uid:0(root)", detail={"a": 2**64})
    agent.client.send_events(EventBatch((told,)))
    flow = FlowRecord(-1e300, "", "web", "d\u202eb", "egress", "deny", "policy", "TCP", "", "", 1, 2, bytes=2**70)
    agent.client.send_flows(FlowBatch((flow,), shed=2**70))
    rogue = domain(ROGUE_UUID, "stray\0\x1b[2J", ROGUE_MAC, state="\0odd" * 1000)
    agent.client.send_observation(Observation(1e300, Revision(2**70), (rogue, domain(state="odd")), ("x" * 10**6,)))
    agent.client.acknowledge(Acknowledgement(Revision(-1), 1e300, ("y" * 10**6,) * 3))
    for command in ("rogues", "flows", "vm history web", "vm list", "host list", "host show host-a", "status"):
        shown = CliRunner().invoke(main, ["--socket", controller.socket, *command.split()])
        assert shown.exit_code == 0, (command, shown.output, shown.exception)
        assert not set(shown.output) & set("\0\x1b\u202e")
        assert len(shown.output) < 20_000
    with controller.operator() as client:
        entry = client.history("web")[-1]
        assert (entry.kind, entry.actor) == ("domain.started", "agent")
        assert abs(entry.at - time.time()) < 60
        assert client.vm("web").state == "unknown"


def test_label_quarantine_and_release_wait_for_the_kernels(controller: ControllerProcess, agents: list[Agent]) -> None:
    running(agents)
    controller.apply(*SHOP, wait=20)
    slow = agents[1]
    web = Reference("VM", "web")
    with controller.operator() as client:
        assert client.quarantine("web", QuarantineRequest(reason="it scans", wait=20)).waiting == ()
        assert client.quarantine("web", QuarantineRequest(reason="twice", wait=20)).waiting == ()
        slow.acknowledges = False
        waiting = client.label(web, LabelRequest(set={"role": "other"}, overwrite=True, wait=1)).waiting
        assert "host-b" in {each.host for each in waiting}
        command = ["--socket", controller.socket, "vm", "release", "web", "--reason", "cleaned", "--wait", "1"]
        told = CliRunner().invoke(main, command)
        assert (told.exit_code, "host-b" in told.stderr) == (4, True)
        slow.acknowledges = True
        slow.acknowledge()
        assert client.label(web, LabelRequest(set={"role": "web"}, overwrite=True, wait=20)).waiting == ()


def newest(agent: Agent) -> Manifest:
    assert agent.newest is not None
    return agent.newest
