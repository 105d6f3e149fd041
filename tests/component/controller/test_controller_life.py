"""VMs and hosts through their lives: events once, adoption, quarantine, moves, draining, history, ledger."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import httpx
import msgspec
import pytest

from buckler.cli.ledger import fetch_header, fetch_lines, trusted
from buckler.client.agentside import ControllerRefused
from buckler.client.operator import OperatorFailed
from buckler.ledger.entry import Entry, read_entry
from buckler.ledger.export import Line
from buckler.ledger.trust import trust_root
from buckler.ledger.verify import Fault, Verification, verify_ledger
from buckler.model.agentapi import (
    Counter,
    CounterReport,
    EventBatch,
    FlowBatch,
    ObservedDomain,
    ObservedInterface,
    TaskReport,
    TaskState,
)
from buckler.model.bundle import Passport
from buckler.model.event import Event, EventKind
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.answers import Outside
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.hosts import HostRequest
from buckler.model.operatorapi.vms import AdoptRequest, MigrateRequest, QuarantineRequest
from buckler.model.pool import HostState, Interface
from buckler.trust.statement import KeySet, Kind, verify

from .conftest import Agent, ControllerProcess, wait_for
from .shop import DB_MAC, NETWORK, SHOP, WEB_MAC, WEB_UUID, flow

ROGUE_UUID = "33333333-3333-4333-8333-333333333333"
ROGUE_MAC = "52:54:00:00:00:33"


def keys_of(controller: ControllerProcess) -> KeySet:
    with controller.operator() as client:
        answer = client.ledger_keys()
    return trust_root(answer.root_key, answer.pool, answer.issuers).ever


def verified(controller: ControllerProcess) -> tuple[Verification, list[Line]]:
    with controller.operator() as client:
        size, header = fetch_header(client)
        lines = list(fetch_lines(client, size))
    return verify_ledger(lines, header.checkpoint, trusted(header, ""), (), header.witnesses), lines


def ledger(controller: ControllerProcess) -> tuple[Verification, list[Entry]]:
    result, lines = verified(controller)
    return result, [read_entry(line.leaf.text) for line in lines]


def domain(
    uuid: str = WEB_UUID,
    name: str = "web",
    mac: str = WEB_MAC,
    *,
    state: str = "running",
    passport: str = "",
    vm: str = "",
) -> ObservedDomain:
    card = ObservedInterface(mac=mac, kind="bridge", bridge="br0", device="vnet0", admitted=bool(vm))
    return ObservedDomain(uuid, name, state, vm, passport, (card,))


def events(first: int, last: int, vm: str = "", kind: EventKind = EventKind.DOMAIN_STARTED) -> EventBatch:
    return EventBatch(tuple(Event(kind, time.time(), sequence=number, vm=vm) for number in range(first, last + 1)))


def cards(agent: Agent) -> dict[str, int]:
    """MAC → identity in the newest manifest."""
    assert agent.newest is not None
    return {e.mac: e.identity for s in agent.policy().segments for e in s.endpoints}


def running(agents: Sequence[Agent]) -> Agent:
    for agent in agents:
        agent.start()
    return agents[0]


def test_each_event_is_stored_once_and_gaps_are_refused(controller: ControllerProcess, agents: list[Agent]) -> None:
    agent = agents[0]
    assert agent.client.send_events(events(1, 5)).through == 5
    assert agent.client.send_events(events(3, 8)).through == 8
    with pytest.raises(ControllerRefused) as refused:
        agent.client.send_events(events(10, 12))
    assert (refused.value.status, refused.value.problem["through"]) == (409, 8)
    controller.kill()
    controller.start()
    assert agent.client.send_events(events(1, 9)).through == 9
    assert agents[1].client.send_events(events(1, 2)).through == 2
    with pytest.raises(ControllerRefused) as refused:
        agent.client.send_events(events(10, 10, kind=EventKind.POLICY_CHANGED))
    assert refused.value.status == 403
    result, entries = ledger(controller)
    assert result.is_intact, result.findings
    stored = [entry.origin for entry in entries if entry.host == agent.host and entry.kind == "domain.started"]
    assert stored == list(range(1, 10))


def test_a_rogue_is_adopted_and_carries_a_passport(controller: ControllerProcess, agents: list[Agent]) -> None:
    agent = running(agents)
    controller.apply(*SHOP, wait=20)
    rogue = domain(ROGUE_UUID, "stray", ROGUE_MAC)
    agent.observe(rogue)
    with controller.operator() as client:
        assert [(each.uuid, each.host, each.macs) for each in client.rogues()] == [(ROGUE_UUID, "host-a", (ROGUE_MAC,))]
        mistyped = (Interface(ROGUE_MAC[:-1] + "f", "front"),)
        for dry_run in (True, False):
            with pytest.raises(OperatorFailed) as refused:
                client.adopt(AdoptRequest(ROGUE_UUID, "found", interfaces=mistyped, dry_run=dry_run))
            assert ROGUE_MAC in refused.value.problem.detail
        planned = client.adopt(AdoptRequest(ROGUE_UUID, "found", dry_run=True))
        assert [(card.mac, card.network) for card in planned.interfaces] == [(ROGUE_MAC, "front")]
        assert "found" not in [each.name for each in client.vms()]
        view = client.adopt(AdoptRequest(ROGUE_UUID, "found", labels={"role": "web"}))
        assert [card.network for card in view.interfaces] == ["front"]
        with pytest.raises(OperatorFailed) as refused:
            client.adopt(AdoptRequest(ROGUE_UUID, "again"))
        assert refused.value.problem.status == 409
        assert client.rogues() == ()
        statement = client.passport("found").statement
    wait_for(
        "its host is told to write the passport", lambda: agent.newest is not None and view.id in agent.newest.adoptions
    )
    assert agent.newest is not None
    assert agent.newest.adoptions[view.id] == statement
    wait_for(
        "the other host is not", lambda: agents[1].newest is not None and view.id not in agents[1].newest.adoptions
    )
    claims = msgspec.json.decode(verify(Kind.PASSPORT, statement, agent.issuers), type=Passport)
    assert (claims.vm, claims.uuid, claims.macs) == (view.id, ROGUE_UUID, (ROGUE_MAC,))
    agent.observe(domain(ROGUE_UUID, "stray", ROGUE_MAC, passport=statement, vm=view.id))
    with controller.operator() as client:
        shown = client.vm("found")
        assert (shown.has_passport, shown.host, shown.state) == (True, "host-a", "running")
        assert [entry.kind for entry in client.history("found")] == ["vm.adopted"]
    wait_for("it is told no more", lambda: agent.newest is not None and view.id not in agent.newest.adoptions)


def test_a_rogue_on_an_unknown_bridge_is_not_guessed_at(controller: ControllerProcess, agents: list[Agent]) -> None:
    agents[0].observe(domain(ROGUE_UUID, "stray", ROGUE_MAC))
    with controller.operator() as client:
        for uuid, status in ((ROGUE_UUID, 409), ("44444444-4444-4444-8444-444444444444", 404)):
            with pytest.raises(OperatorFailed) as refused:
                client.adopt(AdoptRequest(uuid, "found"))
            assert refused.value.problem.status == status
        assert client.vms() == ()


def test_quarantine_and_release_change_the_identity_and_name_the_author(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    agent = running(agents)
    controller.apply(*SHOP, wait=20)
    before = cards(agent)
    with controller.operator() as client:
        with pytest.raises(OperatorFailed):
            client.quarantine("web", QuarantineRequest(reason=" "))
        assert client.quarantine("web", QuarantineRequest(reason="it scans")).quarantined
        client.quarantine("web", QuarantineRequest(reason="it scans still"))
        assert client.explain("web", "db", "TCP", 5432).verdict == "deny"
    wait_for("the quarantine is published", lambda: cards(agent)[WEB_MAC] != before[WEB_MAC])
    assert cards(agent)[DB_MAC] == before[DB_MAC]
    with controller.operator() as client:
        assert not client.release("web", QuarantineRequest(reason="cleaned")).quarantined
        assert client.explain("web", "db", "TCP", 5432).verdict == "allow"
        told = [(entry.kind, entry.cause, entry.actor) for entry in client.history("web")]
    wait_for("the release is published", lambda: cards(agent) == before)
    assert told[1:] == [
        ("vm.quarantined", "it scans", "uid:0(root)"),
        ("vm.released", "cleaned", "uid:0(root)"),
    ]


def test_a_quarantine_is_no_label_that_people_may_set(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        for key in ("buckler.io/quarantine", "buckler.io/tenant"):
            with pytest.raises(OperatorFailed) as refused:
                client.label(Reference("VM", "web"), LabelRequest(set={key: "true"}))
            assert refused.value.problem.status == 422
        client.label(Reference("VM", "web"), LabelRequest(set={"zone": "a"}))
        assert [entry.kind for entry in client.history("web")] == ["vm.registered", "vm.labelled"]


def test_a_vm_is_where_it_runs_whichever_end_of_its_move_tells_first(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    source, destination = running(agents), agents[1]
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:

        def place() -> tuple[str, str]:
            web = client.vm("web")
            return web.host, web.state

        source.observe(domain())
        destination.observe(domain(state="paused"))
        assert place() == ("host-a", "running")
        destination.observe(domain())
        source.observe(domain(state="paused"))
        assert place() == ("host-b", "running")
        source.observe()
        assert place() == ("host-b", "running")
        source.observe(domain())
        destination.observe(domain(state="paused"))
        source.observe()
        assert place() == ("host-b", "paused"), "what one host said once still holds when the other is done"
        destination.observe()
        assert place() == ("", "unknown")


def test_draining_moves_what_runs_and_ends_when_nothing_is_left(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    agent = running(agents)
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:
        web, statement = client.vm("web"), client.passport("web").statement
        agent.observe(domain(passport=statement, vm=web.id), domain(ROGUE_UUID, "stray", ROGUE_MAC))
        change = client.drain("host-a", HostRequest(reason="new memory"))
        assert [(task.vm, task.destination) for task in change.tasks] == [("web", "host-b")]
        assert [text.split(":")[0] for text in change.staying] == ["stray"]
        wait_for("the task arrives", lambda: bool(agent.tasks))
        wait_for("the manifest says so", lambda: agent.newest is not None and agent.newest.draining)
        task = agent.tasks[0]
        assert (task.vm, task.destination_uri) == (web.id, "qemu+tcp://192.0.2.2/system")
        with pytest.raises(ControllerRefused):
            agents[1].client.report_task(TaskReport(task.id, TaskState.DONE))
        agent.client.report_task(TaskReport(task.id, TaskState.DONE, "moved"))
        assert client.task(task.id).state is TaskState.DONE
        assert client.host("host-a").state is HostState.DRAINING
        agents[1].observe(domain(passport=statement, vm=web.id))
        agent.observe()
        wait_for("it is drained", lambda: client.host("host-a").state is HostState.DRAINED)
        assert client.vm("web").host == "host-b"
        with pytest.raises(OperatorFailed) as refused:
            client.migrate("web", MigrateRequest("host-a"))
        assert refused.value.problem.status == 409
        assert client.undrain("host-a", HostRequest()).host.state is HostState.ACTIVE
        assert client.migrate("web", MigrateRequest("host-a")).source == "host-b"
        with pytest.raises(OperatorFailed) as refused:
            client.migrate("web", MigrateRequest("host-a"))
        assert "not ended" in refused.value.problem.detail
    wait_for("the other host has its task", lambda: bool(agents[1].tasks))


def test_flows_are_told_by_who_and_verdict(controller: ControllerProcess, agents: list[Agent]) -> None:
    def flow(peer: str, verdict: str) -> FlowRecord:
        return FlowRecord(1.0, "liar", "web", peer, "egress", verdict, "policy", "TCP", "10.0.0.1", "10.0.0.2", 1, 2)

    agents[0].client.send_flows(FlowBatch((flow("db", "allow"), flow("world", "deny")), shed=7))
    with controller.operator() as client:
        found = client.flows(verdict="deny", origin="web")
        assert [(item.flow.peer, item.flow.host) for item in found] == [("world", "host-a")]
        assert [item.shed for item in client.flows()] == [7, 0]
        assert client.flows(tenant="nobody") == ()
        stream = client.follow_flows(verdict="deny")
        assert next(stream).flow.peer == "world"
        agents[0].client.send_flows(FlowBatch((flow("db", "deny"),)))
        assert next(stream).flow.peer == "db"


def test_counters_are_totals_by_rule_and_pair_however_often_they_are_told(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    web = Counter("1/2/3/4/0/1", 1, 5, 500, "web", "db", "egress", "allow", "shop", "sql")
    shed = Counter("shed", 1, 9, verdict="shed")
    for _ in range(2):
        agents[0].client.send_counters(CounterReport((web, shed)))
    agents[1].client.send_counters(CounterReport((msgspec.structs.replace(web, packets=2, bytes=200),)))
    with controller.operator() as client:
        found = {item.verdict: item for item in client.counters(origin="web", to="db")}
        assert client.counters(verdict="deny") == ()
        assert [item.verdict for item in client.counters(tenant="nobody")] == ["shed"]
    assert (found["allow"].packets, found["allow"].bytes, found["allow"].rule) == (7, 700, "sql")
    assert found["allow"].hosts == ("host-a", "host-b")
    assert (found["shed"].packets, found["shed"].hosts) == (9, ("host-a",))


def test_a_deleted_vm_keeps_its_history_and_its_name_becomes_another_vm(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        first = client.vm("web")
        client.delete(Reference("VM", "web"))
        with pytest.raises(OperatorFailed) as refused:
            client.vm("web")
        assert refused.value.problem.status == 404
        assert [entry.kind for entry in client.history(first.id)] == ["vm.registered", "vm.deleted"]
        controller.apply(*SHOP)
        second = client.vm("web")
        assert second.id != first.id
        assert second.number != first.number
        with pytest.raises(OperatorFailed) as refused:
            client.delete(Reference("Network", "front"))
        assert refused.value.problem.status == 422


def test_every_change_of_policy_is_one_entry_with_author_and_content(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    before = len(ledger(controller)[1])
    controller.apply(*SHOP)
    assert len(ledger(controller)[1]) == before, "what changed nothing is no entry"
    controller.apply(NETWORK.replace("10.0.0.0/24", "10.0.0.0/23"), flow(8080))
    with controller.operator() as client:
        client.delete(Reference("Flow", "web-to-db"))
    verified, entries = ledger(controller)
    assert verified.is_intact
    told = [(entry.kind, entry.actor, entry.detail["name"], entry.detail["action"]) for entry in entries[before:]]
    root = "uid:0(root)"
    assert sorted(told[:2]) == [
        ("network.changed", root, "front", "configured"),
        ("policy.changed", root, "web-to-db", "configured"),
    ]
    assert told[2:] == [("policy.changed", root, "web-to-db", "deleted")]
    assert all(entry.cause and entry.detail["revision"] for entry in entries[before:])
    assert all("digest" in entry.detail for entry in entries[before : before + 2])


def test_an_altered_ledger_row_is_named(controller: ControllerProcess, agents: list[Agent]) -> None:
    controller.apply(NETWORK)
    agents[0].client.send_events(events(1, 3))
    result, _ = ledger(controller)
    assert result.is_intact
    with controller.operator() as client:
        newest = client.ledger_checkpoint().size
    controller.kill()
    with sqlite3.connect(controller.folder / "state/pool.sqlite") as database:
        database.execute("DELETE FROM ledger WHERE sequence = 4")
        row = database.execute("SELECT entry FROM ledger WHERE sequence = 6").fetchone()[0]
        database.execute("UPDATE ledger SET entry = ? WHERE sequence = 6", (row.replace('"kind":"', '"kind":"x'),))
    controller.start()
    result, _ = verified(controller)
    found = {(finding.fault, finding.sequence) for finding in result.findings}
    # The start of the controller and the time before it are two entries more; the missing one makes the whole one shorter.
    assert found == {(Fault.MISSING, 4), (Fault.ALTERED, 6), (Fault.TRUNCATED, newest + 2)}


def test_answers_about_the_pool_agree(controller: ControllerProcess, agents: list[Agent]) -> None:
    running(agents)
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:
        reach = client.reach()
        allowed = {(pair.origin, pair.to) for pair in reach.pairs if pair.allowed}
        assert allowed == {("web", "db")}
        assert [(pair.origin, pair.to) for pair in client.reach(to="db").pairs if pair.allowed] == [("web", "db")]
        assert {pair.to for pair in client.reach(origin="web", to="203.0.113.0/24").pairs} == {
            Outside(("203.0.113.0/24",))
        }
        explained = client.explain("web", "db", "TCP", 5432)
        assert explained.verdict == "allow"
        assert {side.policy for side in explained.paths[0].sides} == {"web-to-db"}
        assert all(side.file == "file3.yaml" and side.line for side in explained.paths[0].sides)
        assert client.explain("db", "web", "TCP", 5432).verdict == "deny"
        assert "shadowed" not in {each.kind for each in client.policy_findings()}
        with pytest.raises(OperatorFailed) as refused:
            client.explain("nobody", "web", "TCP", 1)
        assert refused.value.problem.status == 404
        with pytest.raises(OperatorFailed, match="no such packet"):
            client.explain("web", "192.0.2.1", "ICMPv6", 128 << 8)
        assert client.explain("web", "::1", "TCP", 80).verdict == "deny"
        for asked in ({"to": "nobody"}, {"origin": "203.0.113.1/24"}, {"to": "web", "tenant": "other"}):
            with pytest.raises(OperatorFailed) as refused:
                client.reach(**asked)
            assert refused.value.problem.status == 404
        assert 'buckler_host_connected{host="host-a"} 1.0' in client.metrics()
        assert [vm.name for vm in client.vms(selector="role=web")] == ["web"]
        assert len(client.documents(kind="VM")) == 2


def test_an_unknown_path_and_a_malformed_body_are_problems(controller: ControllerProcess) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(uds=controller.socket), base_url="http://x") as http:
        for answer, status in (
            (http.get("/api/v1/nothing"), 404),
            (http.post("/api/v1/apply", content=b"{"), 400),
            (http.post("/api/v1/apply", json={"files": [], "surprise": 1}), 400),
            (http.get("/api/v1/vms/none"), 404),
        ):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
