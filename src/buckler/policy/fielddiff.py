"""Which fields of a document differ, in words. Knows no field by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST = 50
"""Lines about one document; the rest is counted."""
_LONGEST = 120


def changed_fields(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Write a line for each field: ``spec.ports[0].port: 5432 → 5433``. Nothing of a document that is new or gone."""
    if before is None or after is None:
        return ()
    lines = list(_walk("", before, after))
    return (*lines[:MOST], *([f"and {len(lines) - MOST} more fields"] if len(lines) > MOST else []))


def _walk(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            yield from _member(f"{path}.{name}" if path else name, name, before, after)
    elif _is_list(before) and _is_list(after) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _walk(f"{path}[{place}]", one, other)
    elif before != after:
        yield f"{path}: {_words(before)} → {_words(after)}"


def _member(path: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    if name not in before:
        yield f"{path}: added {_words(after[name])}"
    elif name not in after:
        yield f"{path}: removed {_words(before[name])}"
    else:
        yield from _walk(path, before[name], after[name])


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _words(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
