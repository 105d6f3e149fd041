"""JSON Canonicalization Scheme (RFC 8785) for the entries of the ledger. Knows no entry."""

from __future__ import annotations

import math
from enum import Enum
from json.encoder import encode_basestring
from typing import Any

_EXACT = 2**53 - 1
_DEPTH = 32


class NotCanonical(ValueError):
    """A value that has no canonical form: not JSON, not finite, not exact as a double, not Unicode, too deep."""


def encode(value: Any) -> bytes:
    """Write plain JSON values (dict, list, tuple, str, int, float, bool, None) canonically. Raises NotCanonical."""
    try:
        return _text(value, 0).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a lone surrogate") from error


def plain(value: Any, depth: int = 0) -> Any:
    """Make whatever a program or a host puts into an event a value that ``encode`` takes, losing nothing silently.

    Integers that no double holds and numbers that are none become text; what is no Unicode becomes U+FFFD. Raises
    NotCanonical for what is nested too deeply.
    """
    if depth > _DEPTH:
        raise NotCanonical("nested too deeply")
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value, depth)
        case int():
            return value if _is_exact(value) else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [plain(item, depth + 1) for item in value]
    raise NotCanonical(f"a {type(value).__name__}")


def _text(value: Any, depth: int) -> str:
    if depth > _DEPTH + 2:
        raise NotCanonical("nested too deeply")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return encode_basestring(value)
        case int():
            return _integer(value)
        case float():
            return _number(value)
        case list() | tuple():
            return f"[{','.join(_text(item, depth + 1) for item in value)}]"
        case dict():
            pairs = (f"{encode_basestring(key)}:{_text(value[key], depth + 1)}" for key in sorted(value, key=_order))
            return f"{{{','.join(pairs)}}}"
    raise NotCanonical(f"a {type(value).__name__}")


def _order(key: object) -> bytes:
    """Keys are sorted by their UTF-16 code units (3.2.3)."""
    if not isinstance(key, str):
        raise NotCanonical("a key that is no string")
    return key.encode("utf-16-be")


def _integer(value: int) -> str:
    if not _is_exact(value):
        raise NotCanonical(f"{value} is no double")
    return str(value)


def _is_exact(value: int) -> bool:
    """Whether a reader with doubles only reads, and writes, the same digits."""
    if abs(value) <= _EXACT:
        return True
    try:
        return _number(float(value)) == str(value)
    except (OverflowError, ValueError):
        return False


def _number(value: float) -> str:
    """Write as ECMAScript's Number::toString does: Python finds the same shortest digits, and sets them differently."""
    if not math.isfinite(value):
        raise NotCanonical(f"{value} is no JSON number")
    if value == 0:
        return "0"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    mantissa, _, exponent = text.partition("e")
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    return sign + _placed(digits.removesuffix(".0").replace(".", ""), int(exponent) + 1)


def _placed(digits: str, point: int) -> str:
    """``point`` is where the decimal point stands, counted from the first digit."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"
