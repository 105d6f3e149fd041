"""UUIDv7 (RFC 9562, 5.7). Owns the layout only; time and chance come in."""

from __future__ import annotations

import uuid


def make_uuid7(at: float, chance: bytes) -> str:
    """Make the id of a moment (Unix seconds) from ten random bytes."""
    raw = bytearray(int(at * 1000).to_bytes(6, "big") + chance[:10])
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))
