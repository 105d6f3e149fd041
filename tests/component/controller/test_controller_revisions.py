"""Revisions of the documents over a real controller: told, shown, compared, put back."""

from __future__ import annotations

import threading

import pytest
from click.testing import CliRunner, Result

from buckler.__main__ import main
from buckler.client.operator import OperatorFailed
from buckler.model.agentapi import FlowBatch
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.documents import ApplyRequest, Reference, SourceFile
from buckler.model.operatorapi.impact import ImpactRequest
from buckler.model.operatorapi.revisions import RollbackRequest
from buckler.model.operatorapi.vms import QuarantineRequest

from .conftest import Agent, ControllerProcess, wait_for
from .shop import DB, NETWORK, SHOP, WEB, flow
from .test_controller_life import ledger


def commit(controller: ControllerProcess, comment: str, *texts: str, delete: tuple[Reference, ...] = ()) -> int:
    files = tuple(SourceFile(f"{number}.yaml", text) for number, text in enumerate(texts))
    with controller.operator() as client:
        return client.apply(ApplyRequest(files=files, delete=delete, comment=comment)).revision


PRINTER = """\
apiVersion: buckler.io/v1
kind: Endpoint
metadata: {name: printer, labels: {role: db}}
spec: {network: front, addresses: [10.0.0.9]}
"""


def say(controller: ControllerProcess, *words: str, text: str = "") -> Result:
    return CliRunner().invoke(main, ["--socket", str(controller.socket), "policy", *words], input=text)


def test_every_change_is_a_revision_with_author_comment_and_what_changed(controller: ControllerProcess) -> None:
    first = commit(controller, "the shop opens", *SHOP)
    second = commit(controller, "", flow(5433))
    third = commit(controller, "closed for good", delete=(Reference("Flow", "web-to-db"),))
    with controller.operator() as client:
        items = client.revisions().items
        assert [(each.revision, each.comment) for each in items] == [
            (third, "closed for good"), (second, ""), (first, "the shop opens")
        ]  # fmt: skip
        assert all(each.recorded and each.actor.startswith("uid:") for each in items)
        told = [[(one.kind, one.action, one.count, one.names) for one in each.changes] for each in items]
        assert told[0] == [("Flow", "deleted", 1, ("web-to-db",))]
        assert told[1] == [("Flow", "configured", 1, ("web-to-db",))]
        assert ("VM", "created", 2, ("db", "web")) in told[2]
        ports = [
            [each["spec"]["ports"][0]["port"] for each in client.revision(number).documents if each["kind"] == "Flow"]
            for number in (first, second, third)
        ]
        assert ports == [[5432], [5433], []]
        assert client.revision(third).made_by == items[0]
        with pytest.raises(OperatorFailed, match="no such revision"):
            client.revision(10**6)
    comments = {entry.detail.get("comment") for entry in ledger(controller)[1] if entry.detail.get("revision") == first}
    assert comments == {"the shop opens"}


@pytest.mark.parametrize("comment", ["x" * 2001, "a\0b"])
def test_a_comment_that_no_store_keeps_is_refused(controller: ControllerProcess, comment: str) -> None:
    with pytest.raises(OperatorFailed, match="the comment"):
        commit(controller, comment, NETWORK, WEB, DB)
    with controller.operator() as client:
        assert client.revisions().items == ()


def test_revisions_are_compared_in_fields_and_in_reach(controller: ControllerProcess) -> None:
    first = commit(controller, "", *SHOP)
    second = commit(controller, "", flow(5433))
    with controller.operator() as client:
        told = client.compare(first, second)
        assert [each.fields for each in told.documents] == [("spec.ports[0].port: 5432 → 5433",)]
        assert [(pair.origin, pair.to, pair.before, pair.after) for pair in told.reach] == [
            ("web", "db", ("TCP 5432",), ("TCP 5433",))
        ]
        assert (told.count.changed, told.count.gaining, told.count.losing) == (1, 1, 1)
        assert client.compare(first) == told
        assert client.compare(second).documents == ()
    words = say(controller, "diff", str(first), str(second))
    assert words.exit_code == 1
    assert "spec.ports[0].port: 5432 → 5433" in words.stdout
    assert "web → db: TCP 5432 ⇒ TCP 5433" in words.stdout
    assert say(controller, "diff", str(second)).exit_code == 0
    assert say(controller, "diff", "1", "2", "3").exit_code == 2
    assert say(controller, "diff", "99999").exit_code == 2


def test_what_hosts_enforce_is_held_against_the_documents(controller: ControllerProcess, agents: list[Agent]) -> None:
    slow = agents[1]
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    assert say(controller, "diff").exit_code == 0
    slow.acknowledges = False
    controller.apply(flow(5433), wait=1)
    told = say(controller, "diff")
    assert told.exit_code == 1
    assert "TCP 5432 ⇒ TCP 5433" in told.stdout
    assert f"{slow.name} enforces revision" in told.stderr
    slow.acknowledges = True
    slow.acknowledge()
    wait_for("all enforce it", lambda: say(controller, "diff").exit_code == 0)


def test_rollback_is_a_new_revision_with_the_documents_of_the_old(controller: ControllerProcess) -> None:
    first = commit(controller, "good", *SHOP)
    extra = flow(22).replace("web-to-db", "extra")
    commit(controller, "bad", flow(5433), extra, WEB.replace("role: web", "role: web, zone: new"))
    asked = say(controller, "rollback", str(first), "-m", "it broke", text="n\n")
    assert asked.exit_code == 1
    assert "web → db: TCP 22,5433 ⇒ TCP 5432" in asked.stderr
    assert "VM/default/web" in asked.stderr
    with controller.operator() as client:
        assert len(client.revisions().items) == 2
    assert say(controller, "rollback", str(first), "--dry-run").exit_code == 0
    assert say(controller, "rollback", str(first)).exit_code == 2
    done = say(controller, "rollback", str(first), "-m", "it broke", text="y\n")
    assert done.exit_code == 0, done.output
    with controller.operator() as client:
        newest = client.revisions().items[0]
        assert (newest.comment, newest.cause) == ("it broke", f"rollback to {first}")
        assert client.document("Flow", "default", "web-to-db").document["spec"]["ports"][0]["port"] == 5432
        assert [each.document["metadata"]["name"] for each in client.documents("Flow")] == ["web-to-db"]
        assert client.document("VM", "default", "web").document["metadata"]["labels"]["zone"] == "new"
        left = client.roll_back(first, RollbackRequest(dry_run=True, inventory=True))
        assert [each.name for each in left.result.changes] == ["web"]
        again = client.roll_back(first, RollbackRequest(comment="twice is once"))
        assert again.result.revision == 0
        assert client.revisions().items[0] == newest


def test_rollback_to_a_revision_whose_vm_is_gone(controller: ControllerProcess) -> None:
    first = commit(controller, "", *SHOP)
    with controller.operator() as client:
        number = client.vm("web").number
    commit(controller, "", flow(5433), delete=(Reference("VM", "web"),))
    with controller.operator() as client:
        policies = client.roll_back(first, RollbackRequest(comment="policies"))
        assert [each.kind for each in policies.result.changes] == ["Flow"]
        assert policies.left == ("VM/default/web",)
        everything = client.roll_back(first, RollbackRequest(comment="all", inventory=True))
        assert [(each.name, each.action) for each in everything.result.changes] == [("web", "created")]
        assert client.vm("web").number > number, "a number is never used again"


@pytest.mark.parametrize("network", [(), (NETWORK.replace("name: front", "name: front, tenant: other"),)])
def test_rollback_to_what_stood_in_a_network_that_is_gone_or_used_otherwise_is_refused_whole(
    controller: ControllerProcess, network: tuple[str, ...]
) -> None:
    first = commit(controller, "", NETWORK, PRINTER, flow(5432))
    gone = (Reference("Endpoint", "printer"), Reference("Network", "front"))
    commit(controller, "", flow(5433), *network, delete=gone)
    with controller.operator() as client:
        before = client.documents(), client.revisions()
        for dry_run in (True, False):
            with pytest.raises(OperatorFailed) as refused:
                client.roll_back(first, RollbackRequest(comment="back", dry_run=dry_run))
            assert refused.value.problem.status == 422
            assert "front" in str(refused.value.problem.problems)
        assert (client.documents(), client.revisions()) == before
        done = client.roll_back(first, RollbackRequest(comment="with its network", inventory=True))
        assert done.result.revision
        assert client.compare(first).documents == ()


def test_a_vm_in_quarantine_is_not_rolled_away(controller: ControllerProcess) -> None:
    first = commit(controller, "", NETWORK)
    commit(controller, "", WEB)
    with controller.operator() as client:
        client.quarantine("web", QuarantineRequest("scans"))
        with pytest.raises(OperatorFailed, match="quarantine"):
            client.roll_back(first, RollbackRequest(comment="away", inventory=True))
        assert client.vm("web").name == "web"


def test_a_change_between_looking_and_doing_refuses_the_rollback(controller: ControllerProcess) -> None:
    first = commit(controller, "", *SHOP)
    commit(controller, "", flow(5433))
    with controller.operator() as client:
        seen = client.roll_back(first, RollbackRequest(dry_run=True)).current
        third = commit(controller, "", flow(5434))
        with pytest.raises(OperatorFailed, match="changed meanwhile"):
            client.roll_back(first, RollbackRequest(comment="late", current=seen))
        assert client.revisions().items[0].revision == third
        with pytest.raises(OperatorFailed, match="no comment"):
            client.roll_back(first, RollbackRequest(comment=" "))


def test_rollbacks_and_applies_at_once_leave_one_whole_revision_each(controller: ControllerProcess) -> None:
    first = commit(controller, "", *SHOP)
    last = commit(controller, "", flow(5433), flow(22).replace("web-to-db", "extra"))
    outcomes: list[int] = []

    def put_back() -> None:
        with controller.operator() as client:
            try:
                outcomes.append(client.roll_back(first, RollbackRequest(comment="race", current=last)).result.revision)
            except OperatorFailed as failed:
                outcomes.append(-failed.problem.status)

    threads = [threading.Thread(target=put_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[:3] == [-412, -412, -412]
    assert max(outcomes) > last
    with controller.operator() as client:
        assert len(client.revisions().items) == 3
        assert client.compare(first).documents == ()


def test_a_draft_is_replayed_over_what_hosts_told(controller: ControllerProcess, agents: list[Agent]) -> None:
    controller.apply(*SHOP)

    def told(port: int, verdict: str) -> FlowRecord:
        reason = "new" if verdict == "allow" else "policy"
        return FlowRecord(9.0, "h", "web", "db", "egress", verdict, reason, "tcp", "10.0.0.1", "10.0.0.2", 4000, port)

    draft = SourceFile("draft.yaml", flow(5433))
    with controller.operator() as client:
        before = client.documents(), client.revisions()
        assert client.impact(ImpactRequest((draft,))).records == 0
        agents[0].client.send_flows(FlowBatch((told(5432, "allow"), told(5433, "deny"), told(22, "deny")), shed=3))
        found = client.impact(ImpactRequest((draft,)))
        assert (found.records, found.connections, found.shed) == (3, 3, 3)
        assert [(each.origin, each.to, each.port, each.before, each.after) for each in found.items] == [
            ("web", "db", 5432, "allow", "deny"),
            ("web", "db", 5433, "deny", "allow"),
        ]
        assert found.items[0].rule_before == "web-to-db/egress"
        assert client.impact(ImpactRequest((draft,), since=10.0)).records == 0
        liar = FlowRecord(-1e300, "", "web", "d\u202eb", "egress", "deny", "policy", "999", "", "\0", -1, 2**40)
        agents[1].client.send_flows(FlowBatch((liar,), shed=2**70))
        words = say(controller, "impact", "-f", "-", text=flow(5433))
        assert words.exit_code == 1, words.output
        assert "web    db" in words.stdout
        assert "cannot be judged again" in words.stderr
        assert not set(words.output) & set("\0\u202e")
        with pytest.raises(OperatorFailed):
            client.impact(ImpactRequest((SourceFile("bad.yaml", "kind: Nonsense"),)))
        assert (client.documents(), client.revisions()) == before
