"""The ledger of a real controller: witnessed, exported, mutated, proven; every event once whatever dies; who bound whom."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.__main__ import main
from buckler.agent.recorder import Recorder
from buckler.agent.witness import witness_of
from buckler.agent.witnessing import Witnessing
from buckler.cli.ledger import trusted
from buckler.cli.session import Failed
from buckler.client.agentside import ControllerRefused
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.state.sqlite import SqliteState
from buckler.ledger.checkpoint import Checkpoint, cosign, origin_of, sign_checkpoint
from buckler.ledger.entry import Leaf
from buckler.ledger.export import Header, Line, read_export
from buckler.ledger.tree import Edge, grown
from buckler.ledger.verify import verify_ledger
from buckler.model.agentapi import Cosigned, EventBatch
from buckler.model.binding import policy_of
from buckler.model.event import Event, EventKind
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.vms import BoundPolicy
from buckler.ports.state import Membership, State
from buckler.trust.statement import Kind, key_from_text, sign
from tests.ledgerkit import write_export

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, flow
from .test_controller_life import events, ledger, running

MUTATIONS = 1000


def cli(controller: ControllerProcess, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["--socket", controller.socket, *arguments])
    return result.exit_code, result.output


def root_of(agent: Agent) -> str:
    return agent.answer.root_key


class Host:
    """The witnessing part of an agent, on a state of its own."""

    def __init__(self, agent: Agent, state: State) -> None:
        self.agent, self.state = agent, state
        membership = Membership("test", agent.answer.host, agent.name, (), agent.answer.root_key, "")
        self.witness = witness_of(state, membership)
        self.witnessing = Witnessing(self.witness, Recorder(state, agent.answer.host, lambda: None))

    def see(self, controller: ControllerProcess) -> None:
        with controller.operator() as client:
            note = client.ledger_checkpoint().note
        self.witnessing.take(self.agent.client, note, self.agent.issuers)

    def refusals(self) -> list[Event]:
        return [event for event in self.state.pending(100) if event.kind is EventKind.WITNESS_REFUSED]


@pytest.fixture
def host(agents: list[Agent]) -> Host:
    state = InMemoryState()
    state._key = agents[0].key.private_bytes_raw()
    return Host(agents[0], state)


def test_a_host_follows_the_ledger_and_the_controller_shows_its_cosignature(
    controller: ControllerProcess, host: Host, tmp_path: Path
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


def harmed(controller: ControllerProcess, harm: Callable[[sqlite3.Connection], None]) -> None:
    controller.kill()
    with contextlib.closing(sqlite3.connect(controller.folder / "state/pool.sqlite")) as database, database:
        harm(database)
    controller.start()


def truncate(database: sqlite3.Connection) -> None:
    """As a restored backup: entries, nodes, all of it."""
    (size,) = database.execute("SELECT max(sequence) FROM ledger").fetchone()
    database.execute("DELETE FROM ledger WHERE sequence > ?", (size - 6,))
    for level in range(20):
        database.execute("DELETE FROM ledger_nodes WHERE level = ? AND (number + 1) << level > ?", (level, size - 6))


def test_a_ledger_that_shrank_is_refused_told_once_and_kept_as_evidence(
    controller: ControllerProcess, host: Host
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
    controller: ControllerProcess, host: Host
) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    assert cli(controller, "ledger", "verify")[0] == 0
    harmed(controller, truncate)
    code, text = cli(controller, "ledger", "verify")
    assert code == 5
    assert "a witness saw" in text


def test_after_it_was_told_to_forget_a_host_follows_again(controller: ControllerProcess, host: Host) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    harmed(controller, truncate)
    host.see(controller)
    host.witness.forget()
    assert host.witnessing.problems == ()
    host.see(controller)
    with controller.operator() as client:
        assert host.witnessing.status() == {"size": client.ledger_checkpoint().size, "refused": ""}


def test_a_forged_history_of_the_same_length_is_refused(controller: ControllerProcess, host: Host) -> None:
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    seen = host.witness.held()
    assert seen is not None
    issuing = _issuing(controller)
    origin = origin_of("test", key_from_text(host.agent.answer.root_key))
    for size, root in ((seen.size, b"x" * 32), (seen.size + 5, b"y" * 32)):
        note = sign_checkpoint(Checkpoint(size, root), origin, issuing)
        host.witnessing.take(host.agent.client, note, host.agent.issuers)
    assert host.witness.held() == seen
    assert len(host.refusals()) == 1


def test_a_checkpoint_by_a_stranger_is_no_reason_for_anything(controller: ControllerProcess, host: Host) -> None:
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


def _issuing(controller: ControllerProcess) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((controller.folder / "state/keys/issuing.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


Mutation = Callable[[Header, list[Line], random.Random], tuple[Header, list[Line]]]


def _altered(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    at = chance.randrange(len(lines))
    text, salt = lines[at].leaf.text, lines[at].leaf.salt
    place = chance.randrange(len(text))
    letter = chance.choice([each for each in '0123456789abcxyz {}[],:"é' if each != text[place]])
    leaf = Leaf(text[:place] + letter + text[place + 1 :], salt)
    told = leaf.hash if chance.random() < 0.5 else lines[at].told
    return header, [*lines[:at], Line(leaf, told), *lines[at + 1 :]]


def _removed(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    at = chance.randrange(len(lines))
    return header, lines[:at] + lines[at + 1 :]


def _reordered(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    one, other = chance.sample(range(len(lines)), 2)
    moved = list(lines)
    moved[one], moved[other] = moved[other], moved[one]
    return header, moved


def _renumbered(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    """Two change places, and each says that it stands where it stands."""
    one, other = chance.sample(range(len(lines)), 2)
    moved = list(lines)
    for at, source in ((one, other), (other, one)):
        text = lines[source].leaf.text.replace(f'"sequence":{source + 1}', f'"sequence":{at + 1}')
        leaf = Leaf(text, lines[source].leaf.salt)
        moved[at] = Line(leaf, leaf.hash)
    return header, moved


def _inserted(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    at = chance.randrange(len(lines) + 1)
    source = chance.choice(lines)
    salt = source.leaf.salt if chance.random() < 0.5 else chance.randbytes(32)
    leaf = Leaf(source.leaf.text, salt)
    return header, [*lines[:at], Line(leaf, leaf.hash), *lines[at:]]


def _truncated(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    return header, lines[: chance.randrange(len(lines))]


def _salted(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    one, other = chance.sample(range(len(lines)), 2)
    moved = list(lines)
    for at, source in ((one, other), (other, one)):
        moved[at] = Line(Leaf(lines[at].leaf.text, lines[source].leaf.salt), lines[at].told)
    return header, moved


def _hashed(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    at = chance.randrange(len(lines))
    return header, [*lines[:at], Line(lines[at].leaf, chance.randbytes(32)), *lines[at + 1 :]]


def _checkpoint_altered(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    note = header.checkpoint
    at = chance.randrange(len(note))
    letter = chance.choice([each for each in "0123456789abcXYZ+/=\n " if each != note[at]])
    return msgspec.structs.replace(header, checkpoint=note[:at] + letter + note[at + 1 :]), lines


def _issuers_altered(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    text = header.issuers[0]
    at = chance.randrange(len(text))
    letter = chance.choice([each for each in "ABCxyz019-_." if each != text[at]])
    return msgspec.structs.replace(header, issuers=(text[:at] + letter + text[at + 1 :], *header.issuers[1:])), lines


def _signed_anew(
    header: Header, lines: list[Line], key: Ed25519PrivateKey, cut: bool = False
) -> tuple[Header, list[Line]]:
    edge = Edge()
    for line in lines:
        edge, _ = grown(edge, line.leaf.hash)
    note = sign_checkpoint(Checkpoint(edge.size, edge.root), header.checkpoint.split("\n")[0], key)
    witnesses = () if cut else header.witnesses
    return msgspec.structs.replace(header, checkpoint=note, witnesses=witnesses), lines


def _by_a_foreign_key(header: Header, lines: list[Line], chance: random.Random) -> tuple[Header, list[Line]]:
    changed = chance.choice((_altered, _removed, _truncated, lambda head, all_lines, _: (head, all_lines)))
    return _signed_anew(*changed(header, lines, chance), Ed25519PrivateKey.generate())


MUTATE: tuple[Mutation, ...] = (
    _altered, _removed, _reordered, _renumbered, _inserted, _truncated, _salted, _hashed, _checkpoint_altered,
    _issuers_altered, _by_a_foreign_key,
)  # fmt: skip


def test_a_thousand_mutations_of_a_real_export_are_all_found(
    controller: ControllerProcess, host: Host, tmp_path: Path
) -> None:
    controller.apply(*SHOP)
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    witness, root = host.witness.note, root_of(host.agent)
    assert cli(controller, "ledger", "export", str(tmp_path / "pool.ledger"))[0] == 0
    header, read = read_export((tmp_path / "pool.ledger").read_text().splitlines(keepends=True))
    lines = list(read)
    issuing, chance = _issuing(controller), random.Random(20261122)

    def is_found(header: Header, lines: list[Line]) -> bool:
        try:
            trust = trusted(header, root)
            return not verify_ledger(lines, header.checkpoint, trust, [witness], header.witnesses).is_intact
        except Failed:
            return True

    assert not is_found(header, lines)
    counts: dict[str, int] = {}
    for number in range(MUTATIONS):
        # Every twelfth is by whoever has the issuing key: cut or changed, and signed anew. The witness tells.
        if number % 12 == 11:
            name, change = "by the pool's own key", chance.choice((_altered, _removed, _truncated, _renumbered))
            mutated = _signed_anew(*change(header, lines, chance), issuing, cut=True)
        else:
            mutate = MUTATE[number % 12]
            name, mutated = mutate.__name__, mutate(header, lines, chance)
        assert mutated != (header, lines)
        assert is_found(*mutated), (number, name)
        counts[name] = counts.get(name, 0) + 1
    assert sum(counts.values()) == MUTATIONS
    assert len(counts) == 12
    # And through the command: what it reads from a file it finds as well.
    for name in ("cut", "altered"):
        change = _truncated if name == "cut" else _altered
        path = write_export(tmp_path / name, *change(header, lines, chance))
        assert cli(controller, "ledger", "verify", "--file", path, "--root-key", root)[0] == 5


def test_a_proof_of_one_entry_shows_no_other(
    controller: ControllerProcess, agents: list[Agent], tmp_path: Path
) -> None:
    controller.apply(*SHOP)
    agents[0].client.send_events(events(1, 4))
    entries = ledger(controller)[1]
    for number in (1, len(entries) // 2, len(entries)):
        path = tmp_path / f"{number}.proof"
        assert cli(controller, "ledger", "prove", str(number), str(path))[0] == 0
        code, text = cli(controller, "ledger", "verify", "--proof", str(path), "--root-key", root_of(agents[0]))
        assert code == 0, text
        assert f"entry {number} of a ledger of {len(entries)}" in text
        shown = path.read_text()
        assert all(f'"sequence":{other.sequence},' not in shown for other in entries if other.sequence != number)
    assert cli(controller, "ledger", "prove", "100000")[0] == 1


def test_a_row_that_was_altered_is_never_told_as_history(controller: ControllerProcess, agents: list[Agent]) -> None:
    controller.apply(*SHOP)

    def alter(database: sqlite3.Connection) -> None:
        rows = database.execute("SELECT sequence, entry FROM ledger WHERE vm != ''").fetchall()
        number, text = rows[0]
        changed = text.replace('"kind":"vm.registered"', '"kind":"vm.deleted"')
        assert changed != text
        database.execute("UPDATE ledger SET entry = ? WHERE sequence = ?", (changed, number))

    harmed(controller, alter)
    code, text = cli(controller, "vm", "history", "web")
    other, told = cli(controller, "vm", "history", "db")
    assert {code, other} != {0}
    assert "the ledger was altered" in text + told


# --- every event once, whatever dies ------------------------------------------------------------------------------


def joined(agent: Agent, controller: ControllerProcess, folder: Path) -> None:
    """Give the agent's key and membership to a state on disk."""
    folder.mkdir(mode=0o700)
    (folder / "host.key").write_bytes(agent.key.private_bytes_raw())
    answer = agent.answer
    state = SqliteState(folder)
    state.put_membership(
        Membership("test", answer.host, agent.name, (controller.url,), answer.root_key, answer.ca_certificate)
    )
    state.close()


@contextlib.contextmanager
def telling(folder: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.component.controller.telling", str(folder), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_every_recorded_event_is_in_the_ledger_once_however_often_agent_and_controller_are_killed(
    controller: ControllerProcess, agents: list[Agent], tmp_path: Path
) -> None:
    plenty, chance = 300, random.Random(5)
    folder = tmp_path / "host"
    joined(agents[0], controller, folder)
    state = SqliteState(folder)

    def told() -> int:
        return int(state.document("told") or 0)

    for turn in range(6):
        deadly = told() + chance.randrange(20, 100)
        with telling(folder, deadly + plenty):
            wait_for("it has told some", lambda deadly=deadly: told() >= deadly, 60)
            if (
                turn % 2
            ):  # the controller takes its time to start; a host that has told all by then still has it to hand over
                controller.kill()
                time.sleep(chance.random() / 2)
                controller.start()
    count = told() + 100
    with telling(folder, count):
        wait_for("all is told", lambda: told() == count and not state.pending(1), 100)
    state.close()
    result, entries = ledger(controller)
    assert result.is_intact, result.findings
    mine = [entry for entry in entries if entry.host == agents[0].host and entry.kind == "domain.started"]
    assert [entry.origin for entry in mine] == list(range(1, len(mine) + 1)), "in order, none twice, none left out"
    numbers = [entry.detail["number"] for entry in mine]
    assert numbers == sorted(set(numbers))
    # A death between noting a number and recording it leaves it out: at most one for each of the six.
    assert count - 6 <= len(numbers) <= count


def test_replayed_reordered_and_forged_batches_change_nothing(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    mine, other = agents
    first, second = events(1, 20), events(21, 40)
    mine.client.send_events(first)
    before = len(ledger(controller)[1])
    assert mine.client.send_events(first).through == 20
    shuffled = EventBatch(tuple(random.Random(1).sample(first.events, len(first.events))))
    assert mine.client.send_events(shuffled).through == 20
    assert len(ledger(controller)[1]) == before
    # A batch out of order is refused whole: not even its beginning is kept.
    for wrong in ((*second.events[1:], second.events[0]), (second.events[0], *second.events[2:]), second.events[::-1]):
        with pytest.raises(ControllerRefused) as refused:
            mine.client.send_events(EventBatch(wrong))
        assert refused.value.status == 409
        assert len(ledger(controller)[1]) == before
    # Another host that names this one in its events is recorded as itself.
    forged = EventBatch(
        tuple(msgspec.structs.replace(event, host=mine.host, sequence=event.sequence - 20) for event in second.events)
    )
    other.client.send_events(forged)
    assert mine.client.send_events(second).through == 40
    entries = ledger(controller)[1]
    told = {
        host: [entry.origin for entry in entries if entry.host == host and entry.kind == "domain.started"]
        for host in (mine.host, other.host)
    }
    assert told == {mine.host: list(range(1, 41)), other.host: list(range(1, 21))}


def test_what_a_host_nests_too_deeply_or_counts_too_high_is_refused_or_text(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    deep: object = 0
    for _ in range(60):
        deep = [deep]
    agent = agents[0]
    with pytest.raises(ControllerRefused) as refused:
        agent.client.send_events(EventBatch((Event(EventKind.GAP, 1.0, sequence=1, detail={"deep": deep}),)))
    assert refused.value.status in (400, 413)
    bottomless = (
        b'{"events": [{"kind": "gap", "at": 1, "sequence": 1, "detail": {"a": '
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}}]}"
    )
    answer = agent.client._http.post("/agent/v1/events", content=bottomless, headers=agent.client._bearer())
    assert answer.status_code == 400
    odd = {"n": 2**63 + 1, "f": 1e300, "z": -0.0, "t": "\x00\ud7ff\U0001f600", "k\x00": None}
    assert agent.client.send_events(EventBatch((Event(EventKind.GAP, 1.0, sequence=1, detail=odd),))).through == 1
    result, entries = ledger(controller)
    assert result.is_intact
    assert entries[-1].detail == {**odd, "n": str(2**63 + 1), "z": 0}


def test_a_gap_is_an_entry_like_all_others_and_its_difference_is_kept(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    change = {"since": 5.0, "until": 9.5, "domains": {"u": ["running", "absent"]}, "taps_before": ["vnet1"]}
    gap = Event(EventKind.GAP, 9.5, sequence=1, cause="libvirt was away", detail=change)
    agents[0].client.send_events(EventBatch((gap,)))
    result, entries = ledger(controller)
    assert result.is_intact
    assert (entries[-1].kind, entries[-1].cause, entries[-1].detail) == ("gap", "libvirt was away", change)


def test_the_time_without_a_controller_is_one_gap_with_who_was_heard_last(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    assert not [entry for entry in ledger(controller)[1] if entry.kind == "gap"], "the first start follows no absence"
    agents[0].client.send_events(events(1, 1))
    before = time.time()
    controller.kill()
    time.sleep(0.5)
    controller.start()
    (gap,) = [entry for entry in ledger(controller)[1] if entry.kind == "gap"]
    assert (gap.cause, gap.actor) == ("no controller was running", "controller")
    assert gap.detail["since"] <= before <= gap.detail["until"] - 0.5
    assert set(gap.detail["last_heard"]) == {"host-a", "host-b"}


def test_a_controller_that_finds_its_ledger_cut_says_so_when_it_starts(
    controller: ControllerProcess, agents: list[Agent]
) -> None:
    agents[0].client.send_events(events(1, 12))
    harmed(controller, truncate)
    started = [entry for entry in ledger(controller)[1] if entry.kind == "controller.started"]
    assert "covers" in started[-1].detail["ledger"]
    assert "the ledger is not as it was left" in controller.log()


# --- which policy bound a VM --------------------------------------------------------------------------------------


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
        database.execute("UPDATE objects SET envelope = replace(envelope, '5432', '5433')")
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
