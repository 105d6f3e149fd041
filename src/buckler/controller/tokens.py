"""Tokens and nonces as text: join tokens, session tokens, nonces. Pure; which ones were used is the store's affair.

Session tokens and nonces are sealed (HMAC-SHA-256) with a secret of the controllers, so any replica can check them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec

from buckler.model.ids import HostId

_JOIN = re.compile(r"bjt1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")


class JoinText(msgspec.Struct, frozen=True):
    """The parts of a join token's text."""

    id: str
    secret: str
    ca_digest: str


class Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a sealed text says: what it is for, whose it is, when it ends, and what makes it unique."""

    purpose: str
    host: HostId
    expires_at: float
    unique: str


def join_text(parts: JoinText) -> str:
    """Write a join token."""
    return f"bjt1.{parts.id}.{parts.secret}.{parts.ca_digest}"


def parse_join(text: str) -> JoinText | None:
    """Read a join token; None when it is none."""
    found = _JOIN.fullmatch(text)
    return JoinText(*found.groups()) if found else None


def secret_digest(secret: str) -> str:
    """Return what the store keeps of a join token's secret (256 random bits, so a plain hash is enough)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def seal(content: Sealed, key: bytes) -> str:
    """Write a sealed text."""
    body = base64.urlsafe_b64encode(msgspec.json.encode(content)).decode().rstrip("=")
    return f"{body}.{_mac(body, key)}"


def unseal(text: str, purpose: str, key: bytes, now: float) -> Sealed | None:
    """Read a sealed text; None when it is not ours, for another purpose, or over."""
    body, _, mac = text.partition(".")
    if not text.isascii() or not hmac.compare_digest(mac, _mac(body, key)):
        return None
    content = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=Sealed)
    return content if content.purpose == purpose and now < content.expires_at else None


def _mac(body: str, key: bytes) -> str:
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()
