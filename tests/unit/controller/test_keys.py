"""The keys on disk: whatever a crash left, the next start has a whole set."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from buckler.controller.keys import open_keys
from buckler.controller.settings import Settings

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def is_whole(folder: Path) -> bool:
    held = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / "server.pem").read_bytes(), password=None)
    return held.public_key() == key.public_key()


@pytest.mark.parametrize("lost", ["server.crt", "server.pem", "ca.crt", "issuing.pem", "session.secret"])
def test_a_crash_before_a_file_was_written_costs_nothing(tmp_path: Path, lost: str) -> None:
    root = open_keys(tmp_path, Settings(), NOW).root
    (tmp_path / lost).unlink()
    again = open_keys(tmp_path, Settings(), NOW)
    assert is_whole(tmp_path)
    assert again.root.public_key() == root.public_key()


def test_a_crash_while_the_certificate_is_renewed_leaves_no_pair_that_does_not_fit(tmp_path: Path) -> None:
    open_keys(tmp_path, Settings(), NOW)
    old = (tmp_path / "server.crt").read_bytes()
    open_keys(tmp_path, Settings(), NOW + dt.timedelta(days=360))
    (tmp_path / "server.crt").write_bytes(old)
    assert not is_whole(tmp_path)
    open_keys(tmp_path, Settings(), NOW + dt.timedelta(days=1))
    assert is_whole(tmp_path)
