"""Documents that begin and end → each state that they can be in together, without times. Knows no clock and no verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, combinations

import msgspec

from buckler.policy.language import Document, ExceptionSpec, FlowSpec, PolicySpec, ScheduleSpec
from buckler.policy.times import ALWAYS
from buckler.policy.timing import is_timed, parse_moment

LIMIT = 64


class TooMany(ValueError):
    """More states than can be looked at."""


def list_states(*sets: Iterable[Document]) -> Iterator[tuple[tuple[Document, ...], ...]]:
    """Give all sets of documents as they are together, in each state that ends and schedules allow. Raises TooMany.

    Schedules are taken as independent of each other: states that never occur may be among them, none that occurs is left out.
    """
    given = [tuple(each) for each in sets]
    timed = [each for each in chain.from_iterable(given) if is_timed(each)]
    ends = sorted({end for each in timed for end in _ends(each)})
    schedules = sorted({each for each in map(_schedule, timed) if each is not None}, key=str)
    if (len(ends) + 1) << len(schedules) > LIMIT:
        raise TooMany(f"they begin and end in more than {LIMIT} ways")
    for passed in [0, *ends]:
        for count in range(len(schedules) + 1):
            for on in combinations(schedules, count):
                yield tuple(tuple(_at(documents, passed, on)) for documents in given)


def _at(documents: Iterable[Document], passed: int, on: Sequence[ScheduleSpec]) -> Iterator[Document]:
    for document in documents:
        schedule = _schedule(document)
        if not is_timed(document):
            yield document
        elif not _is_over(_until(document), passed) and (schedule is None or schedule in on):
            yield _timeless(document, passed)


def _timeless(document: Document, passed: int) -> Document:
    spec = document.spec
    if isinstance(spec, ExceptionSpec):
        return msgspec.structs.replace(document, times=ALWAYS)
    if isinstance(spec, PolicySpec):
        sides = {
            side: tuple(msgspec.structs.replace(rule, until="") for rule in rules if not _is_over(rule.until, passed))
            for side, rules in (("ingress", spec.ingress), ("egress", spec.egress))
        }
        spec = msgspec.structs.replace(spec, **sides)
    assert isinstance(spec, PolicySpec | FlowSpec)  # noqa: S101 - nothing else is timed
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(spec, until="", schedule=None), times=None)


def _is_over(until: str, passed: int) -> bool:
    return bool(until) and parse_moment(until) <= passed


def _until(document: Document) -> str:
    spec = document.spec
    return spec.until if isinstance(spec, PolicySpec | FlowSpec | ExceptionSpec) else ""


def _schedule(document: Document) -> ScheduleSpec | None:
    spec = document.spec
    return spec.schedule if isinstance(spec, PolicySpec | FlowSpec) else None


def _ends(document: Document) -> Iterator[int]:
    spec = document.spec
    rules = (*spec.ingress, *spec.egress) if isinstance(spec, PolicySpec) else ()
    yield from (parse_moment(each) for each in (_until(document), *(rule.until for rule in rules)) if each)
