"""Selectors as people type them: ``a=b,c!=d,e,!f``. Owns the reading; matching is model.label's."""

from __future__ import annotations

from buckler.controller.problems import Refused
from buckler.model.label import Expression, Operator, Selector


def parse_selector(text: str) -> Selector:
    """Read an equality-based selector; empty matches everything. Raises Refused."""
    return Selector(match_expressions=tuple(_term(part.strip()) for part in text.split(",") if part.strip()))


def _term(part: str) -> Expression:
    if "!=" in part:
        key, _, value = part.partition("!=")
        term = Expression(key.strip(), Operator.NOT_IN, (value.strip(),))
    elif "=" in part:
        key, _, value = part.replace("==", "=", 1).partition("=")
        term = Expression(key.strip(), Operator.IN, (value.strip(),))
    elif part.startswith("!"):
        term = Expression(part[1:].strip(), Operator.DOES_NOT_EXIST)
    else:
        term = Expression(part, Operator.EXISTS)
    if not term.key or " " in term.key:
        raise Refused(400, "the selector is not understood", f"{part!r}: write a=b, a!=b, a or !a")
    return term
