"""Whatever is altered in an export or in the store is found, and never told as history."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.cli.ledger import trusted
from buckler.cli.session import Failed
from buckler.ledger.checkpoint import Checkpoint, sign_checkpoint
from buckler.ledger.entry import Leaf
from buckler.ledger.export import Header, Line, read_export
from buckler.ledger.tree import Edge, grown
from buckler.ledger.verify import verify_ledger
from tests.ledgerkit import write_export

from .conftest import Agent, ControllerProcess, WitnessingHost
from .ledgerhost import cli, harmed, issuing_key, root_of
from .shop import SHOP
from .test_controller_life import events, ledger

MUTATIONS = 1000


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
    controller: ControllerProcess, host: WitnessingHost, tmp_path: Path
) -> None:
    controller.apply(*SHOP)
    host.agent.client.send_events(events(1, 12))
    host.see(controller)
    witness, root = host.witness.note, root_of(host.agent)
    assert cli(controller, "ledger", "export", str(tmp_path / "pool.ledger"))[0] == 0
    header, read = read_export((tmp_path / "pool.ledger").read_text().splitlines(keepends=True))
    lines = list(read)
    issuing, chance = issuing_key(controller), random.Random(20261122)

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
