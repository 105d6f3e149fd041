"""Sign and verify statements as compact JWS (RFC 7515) with Ed25519 (RFC 8037). Owns the form, not the keys.

Every statement has a kind in its ``typ`` header, so a signature over one kind is never taken for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_SMALL = 4096

KeyId = str
KeySet = Mapping[KeyId, Ed25519PublicKey]


class Kind(StrEnum):
    """What a statement says. The value stands in the JWS header."""

    ISSUERS = "buckler-issuers+jws"
    MANIFEST = "buckler-manifest+jws"
    TASK = "buckler-task+jws"
    PASSPORT = "buckler-passport+jws"
    RESIDENCE = "buckler-residence+jws"
    NONCE = "buckler-nonce+jws"
    HANDOVER = "buckler-handover+jws"


class Untrusted(ValueError):
    """A statement that must not be believed; the message says why."""


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """Return the 32 raw bytes of a public key."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_text(key: Ed25519PublicKey) -> str:
    """Write a public key as base64url without padding, the form of all our documents."""
    return _encode(public_bytes(key))


def key_from_text(text: str) -> Ed25519PublicKey:
    """Read what ``key_text`` wrote. Raises Untrusted."""
    try:
        return Ed25519PublicKey.from_public_bytes(_decode(text))
    except ValueError as error:
        raise Untrusted(f"not an Ed25519 public key: {error}") from error


def key_id(key: Ed25519PublicKey) -> KeyId:
    """Name a key by its JWK thumbprint (RFC 7638)."""
    return _thumbprint(key_text(key))


@lru_cache(maxsize=1024)
def _thumbprint(text: str) -> KeyId:
    jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": text}, separators=(",", ":"), sort_keys=True)
    return _encode(hashlib.sha256(jwk.encode()).digest())


def sign(kind: Kind, payload: bytes, key: Ed25519PrivateKey) -> str:
    """Sign ``payload`` as a statement of ``kind``; return the compact JWS."""
    header = {"alg": "EdDSA", "kid": key_id(key.public_key()), "typ": kind.value}
    signed = f"{_encode(json.dumps(header, separators=(',', ':'), sort_keys=True).encode())}.{_encode(payload)}"
    return f"{signed}.{_encode(key.sign(signed.encode()))}"


def verify(kind: Kind, statement: str, keys: KeySet) -> bytes:
    """Return the payload of a statement of exactly ``kind``, signed by one of ``keys``. Raises Untrusted."""
    parts = statement.split(".")
    if len(parts) != 3:
        raise Untrusted("not a compact JWS")
    try:
        header = json.loads(_decode(parts[0]))
        payload, signature = _decode(parts[1]), _decode(parts[2])
    except (ValueError, RecursionError) as error:
        raise Untrusted("not a compact JWS") from error
    if not isinstance(header, dict) or header.get("alg") != "EdDSA" or set(header) != {"alg", "kid", "typ"}:
        raise Untrusted("the JWS header is not of our form")
    if header["typ"] != kind.value:
        raise Untrusted(f"a statement of kind {header['typ']!r} where {kind.value!r} is due")
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise Untrusted("signed by a key that the pool does not know")
    signed = f"{parts[0]}.{parts[1]}".encode()
    raw = key.public_bytes_raw()
    fits = _fits_as_before(raw, signature, signed) if len(signed) <= _SMALL else _fits(raw, signature, signed)
    if not fits:
        raise Untrusted("the signature does not fit")
    return payload


def _fits(key: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


# Each pass reads the passport and the residence of every VM anew; whether a signature fits a key never changes.
_fits_as_before = lru_cache(maxsize=4096)(_fits)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if _encode(raw) != text:
        raise ValueError("not canonical base64url")
    return raw
