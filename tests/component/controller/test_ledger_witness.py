"""Hosts witness the ledger: what a controller shows them must continue what they saw. Real controller, real clients."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.client.agentside import ControllerRefused
from buckler.ledger.checkpoint import Checkpoint, cosign, origin_of, sign_checkpoint
from buckler.model.agentapi import Cosigned, EventBatch
from buckler.model.event import Event, EventKind
from buckler.trust.statement import key_from_text

from .conftest import Agent, ControllerProcess, WitnessingHost, wait_for
from .ledgerhost import cli, harmed, issuing_key, root_of, truncate
from .test_controller_life import events, ledger


def test_a_host_follows_the_ledger_and_the_controller_shows_its_cosignature(
    controller: ControllerProcess, host: WitnessingHost, tmp_path: Path
) -> None:
    for count in (3, 4, 9):
        host.agent.client.send_events(events(1, count))
        host.see(controller)
    with controller.operator() as client:
        found = client.ledger_checkpoint()
    assert [(each.host, each.size) for each in found.witnesses] == [("host-a", found.size)]
    assert not host.refusals()
    (tmp_path / "witness").write_text(host.witness.note)
    code, text = cli(
        controller, "ledger", "verify", "--witness", str(tmp_path / "witness"), "--root-key", root_of(host.agent)
    )
    assert code == 0, text
    assert f"cosigned by host {host.agent.host}" in text
    assert "host-a" in cli(controller, "ledger", "checkpoint")[1]


def test_the_stream_brings_each_newer_checkpoint(controller: ControllerProcess, agents: list[Agent]) -> None:
    seen: list[str] = []
    agent = agents[0]
    take = agent._take
    agent._take = lambda message: (seen.append(message.checkpoint) if message.checkpoint else None, take(message))[1]  # type: ignore[method-assign]
    agent.start()
    wait_for("the first comes", lambda: bool(seen))
    agent.client.send_events(events(1, 3))
    with controller.operator() as client:
        wait_for("the newest comes", lambda: seen[-1] == client.ledger_checkpoint().note)


def test_a_ledger_that_shrank_is_refused_told_once_and_kept_as_evidence(
    controller: ControllerProcess, host: WitnessingHost
) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    held = host.witness.note
    harmed(controller, truncate)
    for _ in range(3):
        host.see(controller)
    assert host.witness.note == held
    (refused,) = host.refusals()
    assert "shrank" in refused.cause
    assert refused.detail["held"] == held
    assert "contradicts" in host.witnessing.problems[0]
    # However much it grows again, it is not what this host saw.
    host.agent.client.send_events(EventBatch((Event(EventKind.DOMAIN_STARTED, 1.0, sequence=13),)))
    for number in range(14, 40):
        host.agent.client.send_events(events(number, number))
    host.see(controller)
    assert host.witness.note == held
    assert len(host.refusals()) == 1
    # The event of it is a host's to tell, and is recorded even by that controller.
    host.agent.client.send_events(EventBatch((msgspec.structs.replace(refused, sequence=40),)))
    assert ledger(controller)[1][-1].kind == "witness.refused"


def test_what_hosts_cosigned_is_held_against_a_ledger_that_was_cut_though_nobody_brings_a_witness(
    controller: ControllerProcess, host: WitnessingHost
) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    assert cli(controller, "ledger", "verify")[0] == 0
    harmed(controller, truncate)
    code, text = cli(controller, "ledger", "verify")
    assert code == 5
    assert "a witness saw" in text


def test_after_it_was_told_to_forget_a_host_follows_again(controller: ControllerProcess, host: WitnessingHost) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    harmed(controller, truncate)
    host.see(controller)
    host.witness.forget()
    assert host.witnessing.problems == ()
    host.see(controller)
    with controller.operator() as client:
        assert host.witnessing.status() == {"size": client.ledger_checkpoint().size, "refused": ""}


def test_a_forged_history_of_the_same_length_is_refused(controller: ControllerProcess, host: WitnessingHost) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    seen = host.witness.held()
    assert seen is not None
    issuing = issuing_key(controller)
    origin = origin_of("test", key_from_text(host.agent.answer.root_key))
    for size, root in ((seen.size, b"x" * 32), (seen.size + 5, b"y" * 32)):
        note = sign_checkpoint(Checkpoint(size, root), origin, issuing)
        host.witnessing.take(host.agent.client, note, host.agent.issuers)
    assert host.witness.held() == seen
    assert len(host.refusals()) == 1


def test_a_checkpoint_by_a_stranger_is_no_reason_for_anything(
    controller: ControllerProcess, host: WitnessingHost
) -> None:
    host.see(controller)
    held = host.witness.note
    note = sign_checkpoint(Checkpoint(1, b"x" * 32), held.split("\n")[0], Ed25519PrivateKey.generate())
    host.witnessing.take(host.agent.client, note, host.agent.issuers)
    assert (host.witness.note, host.refusals()) == (held, [])


def test_only_its_own_cosignature_of_a_true_checkpoint_is_taken_of_a_host(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    with controller.operator() as client:
        note = client.ledger_checkpoint().note
    mine, other = agents
    forged = sign_checkpoint(Checkpoint(1, b"x" * 32), note.split("\n")[0], Ed25519PrivateKey.generate())
    for wrong in (
        note,
        "no note",
        cosign(note, mine.host, 5, other.key),
        cosign(note, other.host, 5, other.key),
        cosign(forged, mine.host, 5, mine.key),
        cosign(note, mine.host, 5, mine.key) + "x" * 20_000,
    ):
        with pytest.raises(ControllerRefused) as refused:
            mine.client.send_cosigned(Cosigned(wrong))
        assert refused.value.status in (400, 413)
    mine.client.send_cosigned(Cosigned(cosign(note, mine.host, 5, mine.key)))


@pytest.mark.parametrize(("old", "new"), [(0, 1), (5, 3), (1, 10**9), (-1, 2)])
def test_a_consistency_proof_of_nonsense_is_refused(agents: list[Agent], old: int, new: int) -> None:
    with pytest.raises(ControllerRefused) as refused:
        agents[0].client.consistency(old, new)
    assert refused.value.status in (400, 404)
