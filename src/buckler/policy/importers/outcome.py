"""What an import gives: documents, and all that could not be carried over exactly. Owns no reading and no file."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from buckler.policy.language import Document
from buckler.policy.problem import Problem


class Effect(StrEnum):
    """What a difference does to verdicts. There is none that loosens: what cannot be said is denied."""

    TIGHTENED = "tightened"
    """Something that may be allowed at the source is denied here."""
    OMITTED = "omitted"
    """Something that can make no verdict looser is left out, or a thing is not in the inventory."""
    NOTE = "note"
    """No verdict differs; worth knowing all the same."""


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference. ``path`` is where in the document, ``what`` what stands there, ``means`` what becomes of it."""

    file: str
    line: int
    path: str
    subject: str
    what: str
    means: str
    effect: Effect


class Import(msgspec.Struct, frozen=True):
    """``inventory`` and ``policies`` are checked documents; with ``unreadable`` nothing may be written."""

    source: str
    inventory: tuple[Document, ...] = ()
    policies: tuple[Document, ...] = ()
    losses: tuple[Loss, ...] = ()
    unreadable: tuple[Problem, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Say whether every verdict was carried over exactly: notes do not count."""
        return all(loss.effect is Effect.NOTE for loss in self.losses)


class LossBook:
    """Collects losses while one import runs; telling the same twice is telling it once."""

    def __init__(self) -> None:
        self._losses: dict[Loss, None] = {}

    def add(self, loss: Loss) -> None:
        """Write one down."""
        self._losses.setdefault(loss)

    def told(self) -> tuple[Loss, ...]:
        """Give all, sorted by place."""
        return tuple(sorted(self._losses, key=lambda each: (each.file, each.line, each.path, each.what)))


def unreadable(source: str, problems: Iterable[Problem]) -> Import:
    """Give the import of an input that cannot be read: no document at all."""
    return Import(source=source, unreadable=tuple(problems))
