"""From documents to what hosts are told: change order, waiting, restarts."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.__main__ import main
from buckler.client.operator import OperatorFailed
from buckler.controller.keys import rotate_issuing
from buckler.model.bundle import Stage
from buckler.model.operatorapi.documents import ApplyRequest, LabelRequest, Reference, SourceFile
from buckler.model.program import Verdict
from buckler.trust.statement import key_from_text

from .conftest import Agent, ControllerProcess, wait_for
from .shop import NETWORK, SHOP, WEB, flow
from .test_controller_life import domain, ledger


def allows(agent: Agent, port: int = 5432) -> bool:
    """Whether the newest manifest has any program that opens ``port``."""
    assert agent.newest is not None
    return any(
        entry.verdict is Verdict.ALLOW and entry.protocol == 6 and entry.port == port
        for program in agent.policy().programs.values()
        for entry in program.entries
    )


def test_an_applied_document_reaches_every_kernel_and_apply_waits_for_it(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    for agent in agents:
        agent.start()
    result = controller.apply(*SHOP, wait=20)
    assert result.waiting == ()
    for agent in agents:
        assert agent.newest is not None
        assert {member.name for member in agent.members()} == {"host-a", "host-b"}
        assert [segment.network for segment in agent.policy().segments] == ["front"]
        assert allows(agent)
    with controller.operator() as client:
        status = client.status()
    assert status.rollout is None
    assert all(host.connected and host.enforced >= host.wanted > 0 for host in status.hosts)


def test_opening_waits_for_every_host_and_status_names_who_is_missing(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    fast, slow = agents
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    slow.acknowledges = False
    result = controller.apply(flow(5433), wait=2)
    assert [wait.host for wait in result.waiting if "waits for other" not in wait.reason] == ["host-b"]
    with controller.operator() as client:
        rollout = client.status().rollout
    assert rollout is not None
    assert "host-b" in {wait.host for wait in rollout.waiting}
    assert not [m for m in fast.manifests if m.stage is Stage.OPEN and m.revision > result.revision]
    assert not allows(fast, 5433)
    assert not allows(fast, 5432)
    slow.acknowledges = True
    slow.acknowledge()
    wait_for("both open", lambda: allows(fast, 5433) and allows(slow, 5433))


def test_closing_does_not_wait_for_a_host_that_is_away(controller: ControllerProcess, agents: list[Agent]) -> None:
    fast, slow = agents
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    slow.stop()
    controller.apply(flow(port=5433))
    wait_for("the old port is closed at the host that is there", lambda: not allows(fast))
    assert not allows(fast, 5433)


def test_a_killed_controller_goes_on_with_a_rollout(controller: ControllerProcess, agents: list[Agent]) -> None:
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    for agent in agents:
        agent.acknowledges = False
    controller.apply(flow(5433))
    controller.kill()
    for agent in agents:
        agent.acknowledges = True
    controller.start()
    for agent in agents:
        wait_for("the agent heard again", lambda agent=agent: bool(agent.ends))
        agent.acknowledge()
    wait_for("both open", lambda: all(allows(agent, 5433) for agent in agents))


def test_kill_between_commit_and_publish_loses_nothing(controller: ControllerProcess, agents: list[Agent]) -> None:
    for agent in agents:
        agent.start()
    for port in range(5000, 5004):
        applied = controller.apply(*SHOP[:3], flow(port))
        controller.kill()
        controller.start()
        with controller.operator() as client:
            item = client.document("Flow", "default", "web-to-db")
            assert item.document["spec"]["ports"][0]["port"] == port
            assert item.revision == applied.revision
    wait_for("the last is enforced", lambda: all(agent.newest and allows(agent, 5003) for agent in agents), 30)


def test_every_problem_is_told_at_once_and_nothing_is_applied(controller: ControllerProcess) -> None:
    bad = WEB.replace("network: front", "network: nowhere").replace("10.0.0.1", "10.0.0.999")
    with pytest.raises(OperatorFailed) as refused:
        controller.apply(NETWORK, bad, flow(action="mirror"))
    problem = refused.value.problem
    assert problem.status == 422
    assert {issue.file for issue in problem.problems} >= {"file1.yaml", "file2.yaml"}
    assert all(issue.line > 0 for issue in problem.problems)
    with controller.operator() as client:
        assert client.documents() == ()
        assert client.status().revision == 0


def test_an_etag_that_is_old_is_refused(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        old = client.document("VM", "default", "web").etag
        label = Reference("VM", "web", etag=old)
        client.label(label, LabelRequest(set={"role": "app"}, overwrite=True))
        with pytest.raises(OperatorFailed) as refused:
            client.label(label, LabelRequest(set={"role": "other"}, overwrite=True))
        assert refused.value.problem.status == 412
        with pytest.raises(OperatorFailed) as refused:
            client.delete(label)
        assert refused.value.problem.status == 412
        assert client.document("VM", "default", "web").document["metadata"]["labels"] == {"role": "app"}


def test_diff_and_dry_run_change_nothing(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        before = client.status()
        change = ApplyRequest(files=(SourceFile("new.yaml", flow(8080)),), dry_run=True)
        assert client.apply(change).dry_run
        diff = client.diff(change)
        assert [document.action.value for document in diff.documents] == ["configured"]
        pairs = {(each.origin, each.to): (each.before, each.after) for each in diff.reach}
        assert pairs["web", "db"] == (("TCP 5432",), ("TCP 8080",))
        after = client.status()
    assert (after.revision, after.ledger_entries) == (before.revision, before.ledger_entries)


def test_applying_twice_is_once(controller: ControllerProcess, agents: list[Agent]) -> None:
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    revisions = [agent.newest.revision for agent in agents if agent.newest]
    again = controller.apply(*SHOP, wait=5)
    assert {change.action.value for change in again.changes} == {"unchanged"}
    assert again.revision == 0
    time.sleep(1)
    assert [agent.newest.revision for agent in agents if agent.newest] == revisions


def test_the_description_of_the_api_is_served(controller: ControllerProcess) -> None:
    with controller.operator() as client:
        document = client.openapi()
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/apply" in document["paths"]


def test_a_rotated_key_is_named_by_the_root_and_old_passports_stay(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    agent = agents[0]
    agent.start()
    agents[1].start()
    controller.apply(*SHOP, wait=20)
    before = dict(agent.issuers)
    assert controller.stop() == 0
    fresh: Ed25519PrivateKey = rotate_issuing(controller.folder / "state/keys")
    controller.start()
    wait_for("the new key is known", lambda: len(agent.issuers) == 2, 20)
    assert set(before) < set(agent.issuers)
    assert key_from_text(agent.answer.root_key) == agent.root
    assert fresh.public_key() in agent.issuers.values()
    controller.apply(flow(1234), wait=20)
    assert allows(agent, 1234)


def test_an_old_key_is_retired_when_nothing_that_it_signed_is_needed(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    def retire() -> Result:
        config = str(controller.folder / "controller.yaml")
        return CliRunner().invoke(main, ["controller", "rotate-key", "--retire", "--config", config])

    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    assert "no old key" in retire().output
    with controller.operator() as client:
        web, old = client.vm("web").id, client.passport("web").statement
    agents[0].observe(domain(passport=old, vm=web))
    wait_for("it has its passport", lambda: web not in adoptions(agents[0]), 20)
    controller.stop()
    rotate_issuing(controller.folder / "state/keys")
    refused = retire()
    assert (refused.exit_code, "start the controller first" in refused.output) == (1, True)
    controller.start()
    wait_for("it is told anew", lambda: web in adoptions(agents[0]), 20)
    refused = retire()
    assert (refused.exit_code, "VM web" in refused.output) == (1, True)
    with controller.operator() as client:
        fresh = client.passport("web").statement
    assert fresh != old
    agents[0].observe(domain(passport=fresh, vm=web))
    wait_for("nothing speaks against it", lambda: retire().exit_code == 0, 20)
    controller.apply(flow(4321), wait=20)
    wait_for("hosts forget the old key", lambda: all(len(agent.issuers) == 1 for agent in agents), 20)
    assert allows(agents[0], 4321)
    result, _ = ledger(controller)
    assert result.is_intact, "what the old key signed is still history"


def adoptions(agent: Agent) -> dict[str, str]:
    return agent.newest.adoptions if agent.newest else {}
