"""A statement that was found true once is judged by the keys of the moment all the same."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.trust.statement import Kind, Untrusted, key_id, sign, verify

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = {key_id(KEY.public_key()): KEY.public_key()}


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_statement_that_was_true_is_so_again_and_nothing_near_it_is(size: int):
    payload = b"x" * size
    statement = sign(Kind.PASSPORT, payload, KEY)
    assert [verify(Kind.PASSPORT, statement, KEYS) for _ in range(2)] == [payload, payload]
    head, body, signature = statement.split(".")
    forged = f"{head}.{body}.{sign(Kind.PASSPORT, payload, OTHER).split('.')[2]}"
    altered = f"{head}.{body[:-2]}{'AA' if body[-2:] != 'AA' else 'BA'}.{signature}"
    for bad in (forged, altered, forged):
        with pytest.raises(Untrusted):
            verify(Kind.PASSPORT, bad, KEYS)
    with pytest.raises(Untrusted):
        verify(Kind.RESIDENCE, statement, KEYS)


def test_a_key_that_is_known_no_more_is_none():
    statement = sign(Kind.PASSPORT, b"{}", KEY)
    assert verify(Kind.PASSPORT, statement, KEYS)
    with pytest.raises(Untrusted):
        verify(Kind.PASSPORT, statement, {})
    with pytest.raises(Untrusted):
        verify(Kind.PASSPORT, statement, {key_id(KEY.public_key()): OTHER.public_key()})
