"""Tokens say what they were made for, to whom, and for how long; anything else is no token."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from buckler.controller.throttle import Throttle
from buckler.controller.tokens import JoinText, Sealed, join_text, parse_join, seal, secret_digest, unseal
from buckler.controller.uuid7 import make_uuid7
from buckler.model.ids import HostId

KEY = b"k" * 32
CONTENT = Sealed("session", HostId("h"), 100.0, "u")


def test_a_sealed_text_is_read_for_its_purpose_until_it_ends() -> None:
    text = seal(CONTENT, KEY)
    assert unseal(text, "session", KEY, 99.9) == CONTENT
    assert unseal(text, "nonce", KEY, 99.9) is None
    assert unseal(text, "session", KEY, 100.0) is None
    assert unseal(text, "session", b"x" * 32, 99.9) is None


@given(st.text(max_size=300))
def test_no_other_text_is_a_token(text: str) -> None:
    assert unseal(text, "session", KEY, 0.0) is None
    assert parse_join(text) is None


@given(st.integers(min_value=0), st.characters(codec="ascii"))
def test_a_token_with_one_letter_changed_is_none(place: int, letter: str) -> None:
    text = seal(CONTENT, KEY)
    at = place % len(text)
    changed = text[:at] + letter + text[at + 1 :]
    assert changed == text or unseal(changed, "session", KEY, 0.0) is None


def test_a_join_token_keeps_its_parts() -> None:
    parts = JoinText("0123456789abcdef", "A" * 43, "f" * 64)
    assert parse_join(join_text(parts)) == parts
    assert parse_join(join_text(parts) + "\n") is None
    assert secret_digest(parts.secret) != parts.secret


def test_the_throttle_closes_after_the_limit_and_opens_again() -> None:
    throttle = Throttle(limit=3, window=10.0)
    for at in (0.0, 1.0, 2.0):
        assert not throttle.is_closed_to("a", at)
        throttle.note_failure("a", at)
    assert throttle.is_closed_to("a", 9.9)
    assert not throttle.is_closed_to("b", 9.9)
    assert not throttle.is_closed_to("a", 10.0)


def test_uuid7_has_the_layout_of_the_standard() -> None:
    made = uuid.UUID(make_uuid7(1_700_000_000.123, b"\xff" * 10))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(made.bytes[:6], "big") == 1_700_000_000_123
    assert make_uuid7(1.0, b"\x00" * 10) < make_uuid7(2.0, b"\x00" * 10)
