"""Checkpoints and cosignatures have the forms that C2SP gives them, and nothing else is taken for one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from buckler.ledger.checkpoint import (
    Checkpoint,
    Cosignature,
    cosign,
    origin_of,
    read_checkpoint,
    read_cosignatures,
    read_cosigned,
    sign_checkpoint,
)
from buckler.ledger.note import read_note, write_note
from buckler.trust.statement import Untrusted, key_id, public_bytes

ROOT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
KEY = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
HOST = Ed25519PrivateKey.from_private_bytes(b"h" * 32)
KEYS = {key_id(KEY.public_key()): KEY.public_key()}
ORIGIN = origin_of("p ool+1", ROOT.public_key())
SEEN = Checkpoint(20, hashlib.sha256(b"root").digest())
NOTE = sign_checkpoint(SEEN, ORIGIN, KEY)


def test_a_checkpoint_is_a_signed_note_of_three_lines() -> None:
    body, signature = NOTE.split("\n\n")
    assert body.split("\n") == [ORIGIN, "20", base64.b64encode(SEEN.root).decode()]
    dash, name, encoded = signature.rstrip("\n").split(" ")
    raw = base64.b64decode(encoded)
    wanted = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public_bytes(KEY.public_key())).digest()[:4]
    assert (dash, name, raw[:4]) == ("\u2014", ORIGIN, wanted)
    KEY.public_key().verify(raw[4:], (body + "\n").encode())


def test_the_known_key_hash_of_the_note_format() -> None:
    # The verifier key of the Go checksum database: its name, its hash, its type byte and key.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from buckler.ledger.note import Algorithm, note_key_id

    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    name, named, encoded = text.split("+", 2)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    assert note_key_id(name, Algorithm.ED25519, key).hex() == named


def test_an_origin_is_one_word_and_names_the_root_key() -> None:
    assert " " not in ORIGIN
    assert "+" not in ORIGIN
    assert origin_of("p ool+1", STRANGER.public_key()) != ORIGIN


def test_a_cosignature_is_over_time_and_checkpoint() -> None:
    note = cosign(NOTE, "h1", 1_700_000_000, HOST)
    line = note.splitlines()[-1].split(" ")
    raw = base64.b64decode(line[2])
    wanted = hashlib.sha256(b"buckler/host/h1\n\x04" + public_bytes(HOST.public_key())).digest()[:4]
    assert (line[1], raw[:4], struct.unpack(">Q", raw[4:12])[0]) == ("buckler/host/h1", wanted, 1_700_000_000)
    signed = b"cosignature/v1\ntime 1700000000\n" + NOTE.split("\n\n")[0].encode() + b"\n"
    HOST.public_key().verify(raw[12:], signed)
    assert read_checkpoint(note, ORIGIN, KEYS) == SEEN
    assert read_cosignatures(note, {"h1": HOST.public_key()}) == (Cosignature("h1", 1_700_000_000),)
    assert read_cosigned(note, ORIGIN, "h1", HOST.public_key()) == SEEN
    assert read_cosignatures(note, {"h2": HOST.public_key()}) == ()


def test_a_cosignature_by_another_key_or_for_another_time_is_refused() -> None:
    note = cosign(NOTE, "h1", 5, STRANGER)
    with pytest.raises(Untrusted):
        read_cosignatures(note, {"h1": HOST.public_key()})
    good = cosign(NOTE, "h1", 5, HOST)
    head, _, encoded = good.rstrip("\n").rpartition(" ")
    raw = base64.b64decode(encoded)
    later = base64.b64encode(raw[:4] + struct.pack(">Q", 6) + raw[12:]).decode()
    with pytest.raises(Untrusted):
        read_cosignatures(f"{head} {later}\n", {"h1": HOST.public_key()})


def test_a_host_cosigns_in_place_of_what_it_said_before() -> None:
    twice = cosign(cosign(NOTE, "h1", 5, HOST), "h1", 6, HOST)
    assert read_cosignatures(twice, {"h1": HOST.public_key()}) == (Cosignature("h1", 6),)


def test_only_the_pools_keys_and_its_own_ledger_count() -> None:
    with pytest.raises(Untrusted):
        read_checkpoint(sign_checkpoint(SEEN, ORIGIN, STRANGER), ORIGIN, KEYS)
    other = origin_of("other", ROOT.public_key())
    with pytest.raises(Untrusted):
        read_checkpoint(sign_checkpoint(SEEN, other, KEY), ORIGIN, KEYS)
    with pytest.raises(Untrusted):
        read_checkpoint(cosign(NOTE, "h1", 5, HOST).replace(NOTE.splitlines()[-1] + "\n", ""), ORIGIN, KEYS)


@given(st.integers(0, len(NOTE) - 1), st.characters(codec="utf-8"))
def test_no_character_of_a_checkpoint_can_be_another(at: int, letter: str) -> None:
    changed = NOTE[:at] + letter + NOTE[at + 1 :]
    if changed != NOTE:
        with pytest.raises(Untrusted):
            read_checkpoint(changed, ORIGIN, KEYS)


@pytest.mark.parametrize(
    "body",
    ["", "\n", "x\n", f"{ORIGIN}\n20\n", f"{ORIGIN}\n020\nAAAA\n", f"{ORIGIN}\n-1\nAAAA\n", f"{ORIGIN}\n20\nAAAA\n",
     f"{ORIGIN}\n{'9' * 5000}\n{base64.b64encode(SEEN.root).decode()}\n",
     f"{ORIGIN}\n20\n{base64.b64encode(SEEN.root).decode()}\nmore\n"],
)  # fmt: skip
def test_what_is_signed_but_no_checkpoint_is_refused(body: str) -> None:
    from buckler.ledger.note import sign_note

    with pytest.raises(Untrusted):
        read_checkpoint(write_note(sign_note(body, ORIGIN, KEY)), ORIGIN, KEYS)


@given(st.text(max_size=300))
def test_any_text_is_a_note_or_refused(text: str) -> None:
    with contextlib.suppress(Untrusted):
        assert write_note(read_note(text)) == text
