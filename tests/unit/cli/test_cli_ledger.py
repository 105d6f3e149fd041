from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.__main__ import main
from buckler.cli.ledger import parse_witness
from buckler.ledger.entry import Head, chain_event, head_after
from buckler.model.agentapi import Issuers
from buckler.model.event import Event, EventKind
from buckler.model.operatorapi.ledger import LedgerKeys
from buckler.trust.statement import Kind, key_text, sign

ROOT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
ISSUER = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


def keys_signed_by(root: Ed25519PrivateKey, pool: str = "p") -> LedgerKeys:
    issuers = Issuers(pool=pool, version=1, keys=(key_text(ISSUER.public_key()),))
    return LedgerKeys("p", key_text(root.public_key()), (sign(Kind.ISSUERS, msgspec.json.encode(issuers), root),))


def chain(count: int) -> tuple[list[str], Head]:
    head, statements = Head(), []
    for number in range(count):
        signed = chain_event(Event(EventKind.DOMAIN_STARTED, at=float(number), host="h1"), head, ISSUER)
        statements.append(signed.statement)
        head = head_after(signed)
    return statements, head


def export(path: Path, keys: LedgerKeys, entries: list[str]) -> str:
    path.write_text("\n".join([msgspec.json.encode(keys).decode(), *entries]) + "\n")
    return str(path)


def verify(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["ledger", "verify", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pool.ledger"


def test_an_intact_export_verifies_offline_and_says_what_was_not_proven(file: Path) -> None:
    entries, head = chain(5)
    code, text = verify("--file", export(file, keys_signed_by(ROOT), entries))
    assert code == 0
    assert "intact: 5 entries" in text
    assert f"complete up to 5:{head.digest}" in text
    assert "compare it with yours" in text


def test_with_the_pool_root_pinned_a_forged_ledger_is_refused(file: Path) -> None:
    entries, _ = chain(3)
    path = export(file, keys_signed_by(STRANGER), entries)
    assert verify("--file", path)[0] == 0
    code, text = verify("--file", path, "--key", key_text(ROOT.public_key()))
    assert code == 5
    assert "not to be believed" in text


def test_keys_of_another_pool_are_refused(file: Path) -> None:
    code, text = verify("--file", export(file, keys_signed_by(ROOT, pool="other"), chain(1)[0]))
    assert code == 5
    assert "other" in text


@pytest.mark.parametrize("harm", ["altered", "missing", "reordered", "cut"])
def test_every_harm_is_told_and_exits_with_5(file: Path, harm: str) -> None:
    entries, head = chain(4)
    harmed = {
        "altered": [entries[0], entries[1][:-4] + "AAAA", *entries[2:]],
        "missing": [entries[0], *entries[2:]],
        "reordered": [entries[1], entries[0], *entries[2:]],
        "cut": entries[:3],
    }[harm]
    witness = ["--witness", f"{head.sequence}:{head.digest}"]
    code, text = verify("--file", export(file, keys_signed_by(ROOT), harmed), *witness)
    assert code == 5
    assert "NOT intact" in text
    assert verify("--file", export(file, keys_signed_by(ROOT), entries), *witness)[0] == 0


@pytest.mark.parametrize("content", ["", "no json\n", '{"pool": "p"}\n'])
def test_what_is_no_export_is_never_called_intact(file: Path, content: str) -> None:
    file.write_text(content)
    assert verify("--file", str(file))[0] == 5


def test_a_witness_is_a_number_and_a_digest() -> None:
    assert parse_witness("7:sha256:00").sequence == 7
    for text in ("7", "x:sha256:00", ":sha256:00", "7:md5:00"):
        with pytest.raises(click.UsageError):
            parse_witness(text)
