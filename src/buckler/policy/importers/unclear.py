"""Reading foreign fields: what cannot be understood is raised where it stands, never guessed. Owns no format's meaning."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from buckler.policy.field import Place
from buckler.policy.importers.outcome import Effect, Loss, LossBook
from buckler.policy.problem import Problem
from buckler.policy.source import Raw


class Unclear(Exception):
    """One value that cannot be carried over."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


class Teller:
    """Writes losses about one thing of the source."""

    def __init__(self, book: LossBook, subject: str) -> None:
        self._book, self.subject = book, subject

    def tell(self, place: Place, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
        """Write one down at its place."""
        self._book.add(Loss(place.file, place.line, place.path, self.subject, what, means, effect))

    def tell_unclear(self, unclear: Unclear, means: str) -> None:
        """Write down what could not be read, and what became of it."""
        self.tell(unclear.place, unclear.what, means)


def root(raw: Raw, file: str) -> Place:
    """Start reading a document."""
    problems: list[Problem] = []
    return Place(raw, "", file, problems)


def mapping(place: Place) -> dict[str, Place]:
    """Take a mapping with whatever fields it has; null is none."""
    value = place.raw.value
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unclear(place, "a mapping is expected")
    return {key: place.at(key, raw) for key, raw in value.items()}


def fields(place: Place, known: Collection[str]) -> dict[str, Place]:
    """Take a mapping of known fields without those that are null; an unknown one is unclear."""
    taken = mapping(place)
    for key, inner in taken.items():
        if key not in known:
            raise Unclear(inner, f"the field {key!r} is not known here")
    return {key: inner for key, inner in taken.items() if inner.raw.value is not None}


def items(place: Place | None) -> list[Place]:
    """Take a list; null and nothing are the empty one."""
    if place is None or place.raw.value is None:
        return []
    if not isinstance(place.raw.value, tuple):
        raise Unclear(place, "a list is expected")
    return [place.at(f"[{index}]", raw) for index, raw in enumerate(place.raw.value)]


def text(place: Place | None, default: str | None = None) -> str:
    """Take a text."""
    if place is None or (place.raw.value is None and default is not None):
        if default is None:
            raise LookupError("a text that must be there was asked for without a default")
        return default
    if not isinstance(place.raw.value, str):
        raise Unclear(place, "a text is expected")
    return place.raw.value


def need(taken: dict[str, Place], key: str, place: Place) -> Place:
    """Take a field that must be there."""
    if key not in taken:
        raise Unclear(place, f"{key} is missing")
    return taken[key]


def number(place: Place, low: int, high: int) -> int:
    """Take a whole number within bounds."""
    value = place.raw.value
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Unclear(place, f"a whole number from {low} to {high} is expected")
    return value


def flag(place: Place | None, default: bool = False) -> bool:
    """Take true or false."""
    if place is None or place.raw.value is None:
        return default
    if not isinstance(place.raw.value, bool):
        raise Unclear(place, "true or false is expected")
    return place.raw.value


def prefix(place: Place, *, strict: bool = False) -> str:
    """Take a prefix in its canonical form; bits behind it are cut as the source's readers do, unless ``strict``."""
    value = text(place)
    try:
        parsed = ipaddress.ip_network(value, strict=strict)
    except ValueError:
        raise Unclear(place, f"{value!r} is no prefix") from None
    mask = value.partition("/")[2]
    if "%" in value or "." in mask or parsed.is_multicast or (parsed.version == 6 and parsed.subnet_of(_MAPPED)):
        raise Unclear(place, f"{value} is a prefix that no peer has here")
    return str(parsed)


def one_of(taken: dict[str, Place], known: Iterable[str], place: Place) -> str:
    """Find which one of several fields is given."""
    given = [key for key in known if key in taken]
    if len(given) != 1:
        raise Unclear(place, f"exactly one of {', '.join(known)} is expected")
    return given[0]


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
