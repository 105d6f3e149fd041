"""Ends of pairs as people read them: names, or prefixes. Owns no list."""

from __future__ import annotations

from buckler.model.operatorapi.answers import Outside

SHOWN_PREFIXES = 12
"""Prefixes of one line for people; -o json names all."""
_EVERYWHERE = {"0.0.0.0/0", "::/0"}


def end_words(end: str | Outside) -> str:
    """Write a name, or prefixes; of a great many the widest."""
    if isinstance(end, str):
        return end
    if not end.excluded:
        return _prefixes(end.blocks)
    whole = "world" if set(end.blocks) == _EVERYWHERE else _prefixes(end.blocks)
    return f"{whole} except {_prefixes(end.excluded)}"


def _prefixes(found: tuple[str, ...]) -> str:
    more = len(found) - SHOWN_PREFIXES
    widest = sorted(found, key=lambda each: int(each.partition("/")[2])) if more > 0 else found
    return ", ".join(widest[:SHOWN_PREFIXES]) + (f" and {more} more" if more > 0 else "")
