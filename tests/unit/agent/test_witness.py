"""A host follows a ledger that only grows, and no other; what it holds and what it refused outlives it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.recorder import Recorder
from buckler.agent.witness import Contradiction, Step, Witness, judge, prove
from buckler.agent.witnessing import Witnessing
from buckler.client.agentside import ControllerAway, ControllerRefused
from buckler.drivers.state.sqlite import SqliteState
from buckler.ledger.checkpoint import Checkpoint, read_cosignatures, sign_checkpoint
from buckler.ledger.export import base64_of
from buckler.ledger.tree import folded, plan_consistency
from buckler.model.agentapi import ConsistencyProof, Cosigned
from buckler.model.event import EventKind
from buckler.model.ids import HostId
from buckler.trust.statement import key_id
from tests.ledgerkit import ISSUER, ORIGIN, STRANGER, Book, book, event

KEYS = {key_id(ISSUER.public_key()): ISSUER.public_key()}
HOST = HostId("h1")


class Pool:
    """A real ledger that answers as a controller does; ``failure`` is raised instead of the next answers."""

    def __init__(self, made: Book) -> None:
        self.book = made
        self.failure: Exception | None = None
        self.taken: list[str] = []

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        if self.failure:
            raise self.failure
        with self.book.store.read() as unit:
            covers = plan_consistency(old, new)
            path = folded(covers, unit.ledger.nodes({node for each in covers for node in each}))
        return ConsistencyProof(tuple(base64_of(each) for each in path))

    def send_cosigned(self, cosigned: Cosigned) -> None:
        if self.failure:
            raise self.failure
        self.taken.append(cosigned.note)

    @property
    def note(self) -> str:
        return self.book.header().checkpoint


class Host:
    def __init__(self, folder: Path) -> None:
        self.state = SqliteState(folder)
        self.witness = Witness(self.state, HOST, ORIGIN)
        self.witnessing = Witnessing(self.witness, Recorder(self.state, HOST, lambda: None))

    def see(self, pool: Pool, note: str = "") -> None:
        self.witnessing.take(pool, note or pool.note, KEYS)

    def refusals(self) -> list[str]:
        return [each.cause for each in self.state.pending(100) if each.kind is EventKind.WITNESS_REFUSED]

    def size(self) -> int:
        held = self.witness.held()
        return held.size if held else 0


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_may_follow_what() -> None:
    held = Checkpoint(5, b"a" * 32)
    assert judge(None, held) is Step.KEEP
    assert judge(held, held) is Step.NOTHING
    assert judge(held, Checkpoint(6, b"b" * 32)) is Step.PROVE
    for wrong in (Checkpoint(4, b"a" * 32), Checkpoint(5, b"b" * 32), Checkpoint(0, b"a" * 32)):
        with pytest.raises(Contradiction):
            judge(held, wrong)
    with pytest.raises(Contradiction):
        prove(held, Checkpoint(6, b"b" * 32), [b"c" * 32])


def test_it_follows_step_by_step_cosigns_and_remembers_over_a_restart(host: Host, tmp_path: Path) -> None:
    pool = Pool(book(3))
    for number in range(4, 12):
        host.see(pool)
        pool.book.add(event(number))
    host.see(pool)
    assert host.size() == 11
    assert len(pool.taken) == 9
    key = Ed25519PrivateKey.from_private_bytes(host.state.host_key()).public_key()
    assert read_cosignatures(pool.taken[-1], {HOST: key})
    host.state.close()
    again = Host(tmp_path)
    assert again.size() == 11
    pool.book.add(event(12))
    again.see(pool)
    assert (again.size(), again.refusals()) == (12, [])


def test_while_no_proof_comes_nothing_is_followed_and_nothing_refused(host: Host) -> None:
    pool = Pool(book(3))
    host.see(pool)
    pool.book.add(event(4))
    for failure in (ControllerAway("away"), ControllerRefused(503, {}), ControllerRefused(401, {})):
        pool.failure = failure
        with pytest.raises((ControllerAway, ControllerRefused)):
            host.see(pool)
        assert (host.size(), host.refusals()) == (3, [])
    pool.failure = None
    host.see(pool)
    assert host.size() == 4


def test_a_controller_that_answers_without_a_proof_is_refused(host: Host) -> None:
    pool = Pool(book(3))
    host.see(pool)
    pool.book.add(event(4))
    pool.failure = ControllerRefused(404, {"title": "no such checkpoint"})
    host.see(pool)
    assert host.size() == 3
    assert "no proof" in host.refusals()[0]


def test_what_was_kept_but_not_told_is_told_with_the_next(host: Host) -> None:
    pool = Pool(book(3))
    pool.failure = ControllerAway("away")
    with pytest.raises(ControllerAway):
        host.see(pool)
    assert host.size() == 3
    pool.failure = None
    host.see(pool)
    assert [host.witness.note] == pool.taken


def test_another_ledger_is_refused_once_and_the_evidence_outlives_the_agent(host: Host, tmp_path: Path) -> None:
    pool, forged = Pool(book(8)), Pool(Book())
    host.see(pool)
    for number in range(12):
        forged.book.add(event(number, cause="never"))
        host.see(forged)
    assert host.size() == 8
    assert len(host.refusals()) == 1
    host.state.close()
    again = Host(tmp_path)
    again.see(forged)
    assert len(again.refusals()) == 1
    refusal = again.witness.refusal
    assert refusal is not None
    assert refusal.held == again.witness.note
    assert again.witnessing.status()["refused"] == refusal.reason
    # The true ledger is followed on, and what was refused stays known.
    pool.book.add(event(9))
    again.see(pool)
    assert again.size() == 9
    assert again.witnessing.problems


def test_a_strangers_checkpoint_is_not_even_looked_at(host: Host) -> None:
    pool = Pool(book(3))
    host.see(pool)
    host.see(pool, sign_checkpoint(Checkpoint(9, b"x" * 32), ORIGIN, STRANGER))
    host.see(pool, sign_checkpoint(Checkpoint(9, b"x" * 32), "buckler/other/0", ISSUER))
    host.see(pool, "garbage")
    assert (host.size(), host.refusals()) == (3, [])


def test_a_damaged_memory_follows_nothing_until_it_is_told_to_forget(host: Host) -> None:
    pool = Pool(book(3))
    host.see(pool)
    host.state.put_document("witness", host.witness.note.replace("\n3\n", "\n2\n"))
    host.see(pool)
    assert "damaged" in host.refusals()[0]
    assert "damaged" in host.witnessing.status()["refused"]
    host.witness.forget()
    host.see(pool)
    assert host.size() == 3
