from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.cli.ledger import fetch_lines
from buckler.cli.session import EXIT_UNVERIFIED, Failed
from buckler.ledger.checkpoint import cosign
from buckler.ledger.export import Header, Line, Proof, base64_of, proof_text
from buckler.ledger.tree import folded, plan_inclusion
from buckler.model.operatorapi.ledger import LedgerPage, SealedEntry
from buckler.trust.statement import key_text
from tests.ledgerkit import HOST, ROOT, STRANGER, Book, book, write_export

BOOK = book(5)
KEY = key_text(ROOT.public_key())


def export(path: Path, header: Header | None = None, lines: list[Line] | None = None) -> str:
    return write_export(path, header or BOOK.header(), BOOK.lines() if lines is None else lines)


def verify(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["ledger", "verify", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pool.ledger"


@pytest.fixture
def witness(tmp_path: Path) -> str:
    path = tmp_path / "h1.witness"
    path.write_text(cosign(BOOK.header().checkpoint, "h1", 1_700_000_000, HOST))
    return str(path)


def test_an_intact_export_verifies_offline_and_says_what_was_not_proven(file: Path) -> None:
    code, text = verify("--file", export(file))
    assert code == 0
    assert "intact: 5 entries" in text
    assert "complete up to 5;" in text
    assert "compare it with yours" in text


def test_with_a_witness_and_the_root_key_nothing_is_left_to_say(file: Path, witness: str) -> None:
    code, text = verify("--file", export(file), "--root-key", KEY, "--witness", witness)
    assert code == 0
    assert "cosigned by host h1" in text
    assert "complete up to" not in text
    assert "compare" not in text


def test_the_root_key_that_came_along_is_no_proof_and_a_pinned_one_refuses_a_forger(file: Path) -> None:
    path = export(file, BOOK.header(STRANGER))
    code, text = verify("--file", path, "--root-key", KEY)
    assert code == 5
    assert "not to be believed" in text


def test_keys_of_another_pool_are_refused(file: Path) -> None:
    code, text = verify("--file", export(file, BOOK.header(pool="other")))
    assert code == 5
    assert "other" in text


@pytest.mark.parametrize("harm", ["altered", "missing", "reordered", "cut"])
def test_every_harm_is_told_and_exits_with_5(file: Path, witness: str, harm: str) -> None:
    lines = BOOK.lines()
    other = msgspec.structs.replace(lines[1].leaf, text=lines[1].leaf.text.replace("vm", "wm"))
    harmed = {
        "altered": [lines[0], Line(other, lines[1].told), *lines[2:]],
        "missing": [lines[0], *lines[2:]],
        "reordered": [lines[1], lines[0], *lines[2:]],
        "cut": lines[:3],
    }[harm]
    code, text = verify("--file", export(file, lines=harmed), "--witness", witness)
    assert code == 5
    assert "NOT intact" in text
    assert verify("--file", export(file), "--witness", witness)[0] == 0


@pytest.mark.parametrize("content", ["", "no json\n", '{"pool": "p"}\n', "\udcff"])
def test_what_is_no_export_is_never_called_intact(file: Path, content: str) -> None:
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert verify("--file", str(file))[0] == 5
    assert verify("--proof", str(file))[0] == 5


def test_a_broken_line_is_no_export(file: Path) -> None:
    export(file)
    file.write_text(file.read_text() + '{"entry": {}}\n')
    assert verify("--file", str(file))[0] == 5


def test_a_witness_of_another_pool_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no checkpoint")
    assert verify("--file", export(file), "--witness", str(tmp_path / "other"))[0] == 5


def proof(made: Book, number: int) -> Proof:
    header, leaf = made.header(), made.lines()[number - 1].leaf
    with made.store.read() as unit:
        covers = plan_inclusion(number - 1, unit.ledger.edge().size)
        path = folded(covers, unit.ledger.nodes({node for each in covers for node in each}))
    return Proof(
        header.pool, header.root_key, header.issuers, {}, header.checkpoint, number, base64_of(leaf.salt),
        msgspec.Raw(leaf.text.encode()), tuple(base64_of(each) for each in path),
    )  # fmt: skip


def test_one_entry_is_proven_offline_and_no_other_can_stand_for_it(file: Path) -> None:
    text = proof_text(proof(BOOK, 3))
    file.write_text(text)
    code, told = verify("--proof", str(file), "--root-key", KEY)
    assert code == 0
    assert "proven: entry 3 of a ledger of 5" in told
    assert '"number":4' not in text
    assert json.loads(verify("--proof", str(file), "-o", "json")[1])["sequence"] == 3
    for harmed in (text.replace('"number":3', '"number":4'), text.replace("vm0", "vm1"), text.replace("1000", "2000")):
        assert harmed != text
        file.write_text(harmed)
        code, told = verify("--proof", str(file), "--root-key", KEY)
        assert code == 5, told


def test_a_proof_stands_alone(file: Path) -> None:
    file.write_text(proof_text(proof(BOOK, 3)))
    assert verify("--proof", str(file), "--file", str(file))[0] == 2


class Liar:
    """A controller that says what it likes."""

    def __init__(self, *pages: tuple[SealedEntry, ...]) -> None:
        self.pages = iter(pages)

    def ledger_page(self, *, after: int, limit: int) -> LedgerPage:
        return LedgerPage(after + 1, 1 << 60, next(self.pages, ()))


def test_a_controller_that_sends_no_entries_at_all_is_not_asked_for_ever():
    assert list(fetch_lines(Liar(), 1 << 60)) == []  # type: ignore[arg-type]


def test_a_controller_that_sends_what_is_no_entry_is_unverified_and_no_crash():
    with pytest.raises(Failed) as failed:
        list(fetch_lines(Liar((SealedEntry("{}", "!", "!"),)), 1))  # type: ignore[arg-type]
    assert failed.value.exit_code == EXIT_UNVERIFIED
