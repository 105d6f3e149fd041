"""Which policy bound a VM at any moment of a real history."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.model.agentapi import EventBatch
from buckler.model.binding import policy_of
from buckler.model.event import Event, EventKind
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.vms import BoundPolicy
from buckler.trust.statement import Kind, sign

from .conftest import Agent, ControllerProcess, wait_for
from .ledgerhost import cli
from .shop import SHOP, flow
from .test_controller_life import ledger, running


class Clockwork:
    """Tells what two hosts do, one second after another, by their own clock."""

    def __init__(self, controller: ControllerProcess, vm: str) -> None:
        self.controller, self.vm = controller, vm
        self.now = float(int(time.time()) - 10_000)
        self.sequences: dict[str, int] = {}
        self.enforced: dict[str, int] = {}

    def tell(self, agent: Agent, kind: EventKind, vm: str | None = None, **detail: object) -> float:
        self.now += 10
        number = self.sequences[agent.host] = self.sequences.get(agent.host, 0) + 1
        event = Event(kind, self.now, sequence=number, vm=self.vm if vm is None else vm, detail=detail)
        agent.client.send_events(EventBatch((event,)))
        return self.now

    def enforce(self, *agents: Agent) -> float:
        """All hosts enforce what is published by now, whatever it is, as their agents tell it."""
        with self.controller.operator() as client:
            wait_for("it is rolled out", lambda: client.status().rollout is None, 30)
        for agent in agents:
            newest = agent.newest
            assert newest is not None
            if self.enforced.get(agent.host) != newest.revision:
                self.enforced[agent.host] = newest.revision
                policy = policy_of(newest)
                self.tell(agent, EventKind.REVISION_ENFORCED, "", revision=newest.revision, policy=policy)
        return self.now


def at(client_at: Callable[..., tuple[BoundPolicy, ...]], when: float, host: str = "") -> list[tuple[str, str]]:
    """(host, the one rule that allows) at a moment."""
    found = client_at("web", "", when, host)
    return [
        (each.host, next((rule for card in each.cards for rule in card.rules if rule.startswith("allow TCP")), ""))
        for each in found
    ]


def test_what_bound_a_vm_is_told_for_every_moment_of_a_real_history(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    one, two = agents
    for agent in agents:
        agent.start()
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:
        vm = client.vm("web").id
        clock = Clockwork(controller, vm)
        clock.enforce(one, two)
        began = clock.tell(one, EventKind.DOMAIN_STARTED)
        controller.apply(flow(8080), wait=20)
        changed = clock.enforce(one, two)
        client.label(Reference("VM", "web"), LabelRequest(set={"extra": "yes"}))
        wait_for("the label is rolled out", lambda: client.status().rollout is None, 30)
        clock.enforce(one, two)
        clock.tell(two, EventKind.MIGRATION_PREPARED)
        clock.tell(two, EventKind.INTERFACE_ADMITTED)
        left = clock.tell(one, EventKind.MIGRATION_LEFT)
        arrived = clock.tell(two, EventKind.MIGRATION_ARRIVED)
        controller.apply(flow(9090), wait=20)
        again = clock.enforce(one, two)
        stopped = clock.tell(two, EventKind.DOMAIN_STOPPED)
        restarted = clock.tell(two, EventKind.DOMAIN_STARTED)
        told = client.bound_policy
        old, new, last = ("allow TCP 5432", "allow TCP 8080", "allow TCP 9090")
        found = {
            when: [(host, rule[: len(old)]) for host, rule in at(told, when)]
            for when in (
                began - 1,
                began,
                changed - 10.5,
                changed - 10,
                left - 1,
                left,
                arrived - 1,
                arrived,
                again + 1,
                stopped - 1,
                stopped,
                restarted,
                restarted + 1e6,
            )
        }
        assert found == {
            began - 1: [],
            began: [("host-a", old)],
            changed - 10.5: [("host-a", old)],
            changed - 10: [("host-a", new)],
            left - 1: [("host-a", new)],
            left: [],
            arrived - 1: [],
            arrived: [("host-b", new)],
            again + 1: [("host-b", last)],
            stopped - 1: [("host-b", last)],
            stopped: [],
            restarted: [("host-b", last)],
            restarted + 1e6: [("host-b", last)],
        }
        assert at(told, began, "host-b") == []
        assert [host for host, _ in at(told, arrived, two.host)] == ["host-b"]
        # A move that changes nothing binds by the same digest on both hosts.
        (before,), (after,) = told("web", "", left - 1), told("web", "", arrived)
        assert before.binding == after.binding != ""
        assert before.cards == after.cards
        # The rules name policies, tiers and peers as people wrote them.
        words = [rule for card in after.cards for rule in card.rules]
        assert any("web-to-db" in rule and "role=db" in rule for rule in words), words
        # Every entry that is named proves it.
        entries = {entry.sequence: entry for entry in ledger(controller)[1]}
        kinds = {entries[number].kind for number in after.entries}
        assert kinds == {"migration.arrived", "revision.enforced", "domain.stopped"}
        client.delete(Reference("VM", "web"))
    code, text = cli(controller, "vm", "policy", vm, "--at", str(arrived))
    assert code == 0, text
    assert "on host-b" in text
    assert "web-to-db" in text
    assert cli(controller, "vm", "policy", vm, "--at", str(time.time() + 1e6))[0] == 1, "deleted: nothing binds it"
    assert cli(controller, "vm", "policy", vm, "--at", "yesterday")[0] == 2


def test_a_manifest_or_object_that_was_altered_is_never_told(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    running(agents)
    controller.apply(*SHOP, wait=20)
    with controller.operator() as client:
        clock = Clockwork(controller, client.vm("web").id)
    clock.enforce(*agents)
    when = clock.tell(agents[0], EventKind.DOMAIN_STARTED)
    forged = sign(Kind.MANIFEST, b"{}", Ed25519PrivateKey.generate())
    with sqlite3.connect(controller.folder / "state/pool.sqlite") as database:
        database.execute("UPDATE objects SET content = replace(content, '5432', '5433')")
    with controller.operator() as client:
        from buckler.client.operator import OperatorFailed

        with pytest.raises(OperatorFailed) as failed:
            client.bound_policy("web", "", when)
        assert "altered" in failed.value.problem.title
        with sqlite3.connect(controller.folder / "state/pool.sqlite") as database:
            database.execute("UPDATE manifests SET statement = ?", (forged,))
        with pytest.raises(OperatorFailed) as failed:
            client.bound_policy("web", "", when)
        assert "altered" in failed.value.problem.title
