"""Canonical JSON (RFC 8785, for values without floats beyond integers and milliseconds) and digests over it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from buckler.model.ids import Digest


def canonical_bytes(value: Any) -> bytes:
    """Encode ``value`` with sorted keys and no white space. Strings must be valid Unicode."""
    return msgspec.json.encode(value, order="sorted")


def digest_of(content: bytes) -> Digest:
    """Name ``content`` by its SHA-256."""
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())
