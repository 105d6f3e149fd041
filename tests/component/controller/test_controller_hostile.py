"""A hostile host, a thief, an impatient operator: what they try against the rest of the pool, and what they get."""

from __future__ import annotations

import pytest

from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import TaskReport, TaskState
from buckler.model.operatorapi import (
    ApplyRequest,
    HostRequest,
    MigrateRequest,
    QuarantineRequest,
    Reference,
    SourceFile,
)

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, WEB, WEB_UUID
from .test_controller_life import domain, running


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
