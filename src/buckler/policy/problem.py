"""What is wrong with a document, said so that its author can put it right. Owns the form and the guess, not the finding."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """Errors refuse the whole change; warnings only speak."""

    ERROR = "error"
    WARNING = "warning"


class Problem(msgspec.Struct, frozen=True):
    """One problem. ``path`` is like ``spec.ingress[0].ports[1].port``; ``line`` counts from 1 (0: the whole file)."""

    file: str
    line: int
    path: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: {self.path}: " if self.path else f"{self.file}:{self.line}: "
        return place + self.message + (f" ({self.hint})" if self.hint else "")


def has_errors(problems: Iterable[Problem]) -> bool:
    """Say whether anything but warnings is among ``problems``."""
    return any(problem.severity is Severity.ERROR for problem in problems)


def guess(word: str, known: Iterable[str]) -> str:
    """Write a did-you-mean hint, or the list of what is known; nothing is: nothing."""
    choices = sorted(known)
    alike = [choice for choice in choices if choice.lower() == word.lower()]
    close = alike or difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(choices)}" if choices else ""
