"""Which other documents a document names, and what is to be said of one that is not there. Checks nothing else across documents.

Documents that are wrong in themselves count: naming one is no second fault, and what they name is told in the same round.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from buckler.policy.documents import Reading
from buckler.policy.language import (
    DEFAULT_TENANT,
    Document,
    EndpointSpec,
    ExceptionSpec,
    FlowSpec,
    InstanceSpec,
    Kind,
    PolicySpec,
    ServiceSpec,
    VmSpec,
)
from buckler.policy.problem import Problem, guess

_Place = tuple[str, int, str]
_WORDS = {Kind.NETWORK: "network", Kind.ADDRESS_GROUP: "address group", Kind.SERVICE: "service"}


class Reference(msgspec.Struct, frozen=True):
    """A name in a document. ``tenants``: where it is looked up; empty: names of this kind are the pool's."""

    path: str
    kind: Kind
    name: str
    tenants: tuple[str, ...] = ()


class _Known:
    """Documents by what they may be named by."""

    def __init__(self, keys: Iterable[str]) -> None:
        parts = [tuple(key.split("/", 2)) for key in keys]
        self._full = frozenset(parts)
        self._names = frozenset((kind, name) for kind, _, name in parts)

    def has(self, each: Reference) -> bool:
        if not each.tenants:
            return (each.kind, each.name) in self._names
        return any((each.kind, tenant, each.name) in self._full for tenant in each.tenants)

    def names(self, like: Reference) -> set[str]:
        """Give what a reference could have named."""
        found = self._full
        return {
            name for kind, tenant, name in found if kind == like.kind and (not like.tenants or tenant in like.tenants)
        }


def references_of(document: Document) -> Iterator[Reference]:
    """List everything that a document names."""
    spec = document.spec
    if isinstance(spec, VmSpec):
        for index, card in enumerate(spec.interfaces):
            yield Reference(f"spec.interfaces[{index}].network", Kind.NETWORK, card.network)
    elif isinstance(spec, EndpointSpec):
        yield Reference("spec.network", Kind.NETWORK, spec.network)
    elif isinstance(spec, ServiceSpec):
        if spec.network:
            yield Reference("spec.network", Kind.NETWORK, spec.network)
    elif isinstance(spec, ExceptionSpec):
        if spec.policy:
            yield Reference("spec.policy", Kind.POLICY, spec.policy, (document.tenant,))
        elif spec.flow:
            yield Reference("spec.flow", Kind.FLOW, spec.flow, (document.tenant,))
    tenants = tuple(dict.fromkeys((document.tenant, DEFAULT_TENANT)))
    for kind, name, path in list_named(document):
        yield Reference(path, kind, name, tenants)


def list_named(document: Document) -> Iterator[tuple[Kind, str, str]]:
    """List the groups and services that a policy, flow or exception names, with the path of each."""
    spec = document.spec
    lists: list[tuple[str, Iterable[object]]] = []
    if isinstance(spec, PolicySpec):
        for side, word, rules in (("ingress", "from", spec.ingress), ("egress", "to", spec.egress)):
            for index, rule in enumerate(rules):
                lists.append((f"spec.{side}[{index}].{word}", rule.peers))
                if rule.service:
                    yield Kind.SERVICE, rule.service, f"spec.{side}[{index}].service"
    elif isinstance(spec, FlowSpec | ExceptionSpec):
        lists = [("spec.from", spec.sources), ("spec.to", spec.destinations)]
        if isinstance(spec, FlowSpec) and spec.service:
            yield Kind.SERVICE, spec.service, "spec.service"
    for path, peers in lists:
        for place, peer in enumerate(peers):
            name = getattr(peer, "addresses", "")
            if name:
                yield Kind.ADDRESS_GROUP, name, f"{path}[{place}].addresses"


def settle_problems(
    reading: Reading, found: Iterable[Problem], documents: Iterable[Document], deleted: Collection[str] = ()
) -> tuple[Problem, ...]:
    """Give every problem, of documents by themselves and (``found``) across all ``documents``, none that follows from another.

    ``deleted``: keys of documents that are to go: who still names one is told so.
    """
    documents = tuple(documents)
    if not reading.broken and not reading.lost and not deleted:
        return _ordered((*reading.problems, *found))
    here, spoiled, gone = (
        _Known(each.key for each in documents),
        _Known(each.key for each in reading.broken),
        _Known(deleted),
    )
    both = _Known([each.key for each in (*documents, *reading.broken)])
    missing = {
        _place(document, each.path): (document, each)
        for document in documents
        for each in references_of(document)
        if not here.has(each)
    }
    torn = [_instance(each) for each in reading.broken if _instance(each)]
    halves = {_place(each, "spec.instance") for each in documents if _instance(each) in torn}
    kept: list[Problem] = []
    for problem in found:
        if (problem.file, problem.line, problem.path) in halves:
            continue  # an instance is judged whole
        document, reference = missing.get((problem.file, problem.line, problem.path), (None, None))
        if document is None or reference is None:
            kept.append(problem)
        elif gone.has(reference):
            kept.append(_still_named(problem, document, reference))
        elif not spoiled.has(reference) and not _is_lost(reference, reading):
            kept.append(problem)
    noted = {(each.file, each.path) for each in reading.problems}
    for document in reading.broken:
        for each in references_of(document):
            is_told = not each.name or (document.file, each.path) in noted
            if not is_told and not both.has(each) and not _is_lost(each, reading):
                kept.append(_unknown(document, each, both))
    return _ordered((*reading.problems, *kept))


def _still_named(problem: Problem, document: Document, reference: Reference) -> Problem:
    word = _WORDS.get(reference.kind, reference.kind.lower())
    message = f"{document.kind} {document.name} still names {word} {reference.name!r}, which is to be deleted"
    return msgspec.structs.replace(problem, message=message, hint="change or delete what names it first")


def _unknown(document: Document, reference: Reference, known: _Known) -> Problem:
    word, names = _WORDS.get(reference.kind, reference.kind.lower()), known.names(reference)
    hint = guess(reference.name, names) if names else f"apply a document of kind {reference.kind} with it"
    file, line, path = _place(document, reference.path)
    return Problem(file, line, path, f"{document.kind} {document.name}: {word} {reference.name!r} is not known", hint)


def _instance(document: Document) -> InstanceSpec | None:
    return document.spec.instance if isinstance(document.spec, PolicySpec | FlowSpec) else None


def _is_lost(reference: Reference, reading: Reading) -> bool:
    return any(each.lower() in {"", reference.name} for each in reading.lost)


def _place(document: Document, path: str) -> _Place:
    return document.file, document.lines.get(path, document.line), path


def _ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda each: (each.file, each.line, each.path)))
