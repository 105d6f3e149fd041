"""Documents that are instances of shipped policies: an edit of one may only be stricter. Owns neither library nor decision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.policy.compose import NAMED_KINDS, UnknownName, compose_document
from buckler.policy.form import document_from_dict, document_to_dict
from buckler.policy.language import (
    PROTOCOL_NAMES,
    Action,
    Document,
    EgressRule,
    FlowSpec,
    IngressRule,
    InstanceSpec,
    Kind,
    Peer,
    PolicySpec,
    Tier,
)
from buckler.policy.problem import Problem
from buckler.policy.shelf import BadParameters, check_shipped, list_shipped, write_shipped
from buckler.policy.tighten import Loosening, Undecided, find_loosening

_EVERYONE = (Peer(any=True), Peer(group=True))
_INTO = (IngressRule(name="all", action=Action.ALLOW, peers=_EVERYONE),)
_OUT = (EgressRule(name="all", action=Action.ALLOW, peers=_EVERYONE),)
_OTHERS = PolicySpec(
    description="Everything that nothing before decides",
    owner="buckler",
    reason="what a shipped policy leaves to others, its edits must leave to them",
    review="9999-12-31",
    tier=Tier.BASELINE,
    order=1_000_001,
)
_OPEN = Document(Kind.POLICY, "buckler:open", msgspec.structs.replace(_OTHERS, ingress=_INTO, egress=_OUT))


def check_instances(documents: Sequence[Document]) -> list[Problem]:
    """Hold every instance against what the library prints for its parameters; what cannot be decided is refused."""
    groups: dict[bytes, list[Document]] = {}
    for document in documents:
        instance = _instance_of(document)
        if instance is not None:
            groups.setdefault(canonical_bytes(instance), []).append(document)
    named = {each.key: each for each in documents if each.kind in NAMED_KINDS} if groups else {}
    problems: list[Problem] = []
    for group in groups.values():
        instance = _instance_of(group[0])
        assert instance is not None  # noqa: S101 - that is how they came here
        try:
            composed = [compose_document(each, named) for each in group]
        except UnknownName:
            continue  # told by itself
        texts = tuple(canonical_bytes(document_to_dict(each)) for each in composed)
        message = _decided(canonical_bytes(instance), texts)
        if message:
            problems.append(_problem(_edited(instance, group), *message))
    return problems


def _instance_of(document: Document) -> InstanceSpec | None:
    return document.spec.instance if isinstance(document.spec, PolicySpec | FlowSpec) else None


def _printed(instance: InstanceSpec) -> dict[str, Document]:
    """Write the shipped policy. Raises BadParameters, KeyError."""
    shipped = list_shipped()[instance.library]
    reading = check_shipped(shipped.name, write_shipped(shipped, instance.parameters))
    if reading.problems:
        raise BadParameters(*map(str, reading.problems))
    return {each.key: each for each in reading.documents}


def _edited(instance: InstanceSpec, group: Sequence[Document]) -> Document:
    """Find a document that is not as printed, to which a problem is put; any, if all are."""
    try:
        printed = _printed(instance)
    except (BadParameters, KeyError):
        return group[0]
    return next((each for each in group if each.key not in printed or printed[each.key].spec != each.spec), group[0])


@lru_cache(maxsize=1024)
def _decided(written: bytes, group: tuple[bytes, ...]) -> tuple[str, str] | None:
    """Say what is wrong with an instance, with a hint. The same is not decided twice."""
    instance = msgspec.json.decode(written, type=InstanceSpec)
    mine = {each.key: each for each in (document_from_dict(msgspec.json.decode(text)) for text in group)}
    try:
        printed = _printed(instance)
    except KeyError:
        return f"the library has no {instance.library!r}", f"it has: {', '.join(list_shipped())}"
    except BadParameters as bad:
        return f"{instance.library} cannot be written with these parameters", "; ".join(map(str, bad.args))
    odd = sorted(mine.keys() ^ printed.keys())
    if odd:
        word = "has no such document" if odd[0] in mine else "has this document too, and it is missing"
        return (
            f"{instance.library} of the library {word}: {odd[0]}",
            "an instance has all of its documents, and no others",
        )
    moved = [key for key in mine if _place(mine[key]) != _place(printed[key])]
    if moved:
        return f"{moved[0]} has another tier or order than in the library", "an override keeps its place among policies"
    return _loosened(instance.library, tuple(printed.values()), tuple(mine.values()))


def _loosened(name: str, printed: tuple[Document, ...], mine: tuple[Document, ...]) -> tuple[str, str] | None:
    """Decide it alone, above policies that allow everything, and before such as refuse one direction.

    Above them shows what an edit no longer denies, before them what it takes from others: a ``pass`` ends its tier.
    """
    hint = f"compare it with `buckler policy library {name}`; an override only tightens"
    places = sorted({(each.tenant, *place) for each in printed if (place := _place(each))})
    among = [(), (_OPEN,), *((each, _OPEN) for place in places for each in _shut(*place))]
    try:
        compared = (find_loosening((*printed, *others), (*mine, *others)) for others in among)
        found = next((each for each in compared if each is not None), None)
    except Undecided as undecided:
        return f"it is not known whether this allows more than {name} of the library: {undecided}", hint
    return None if found is None else (f"allows more than {name} of the library: {packet_words(found)}", hint)


def _shut(tenant: str, tier: Tier, order: int) -> tuple[Document, Document]:
    """Write what refuses everything that comes, and everything that goes, right behind a place."""
    spec = msgspec.structs.replace(_OTHERS, tier=tier, order=order + 1)
    into, out = (tuple(msgspec.structs.replace(each, action=Action.DENY) for each in rules) for rules in (_INTO, _OUT))
    return (
        Document(Kind.POLICY, "buckler:shut-in", msgspec.structs.replace(spec, ingress=into), tenant),
        Document(Kind.POLICY, "buckler:shut-out", msgspec.structs.replace(spec, egress=out), tenant),
    )


def packet_words(found: Loosening) -> str:
    """Name a packet that only an edit allows."""
    protocol = PROTOCOL_NAMES.get(found.protocol)
    what = f"{protocol} {found.port}"
    if protocol is None:
        what = f"a packet of a protocol other than {', '.join(PROTOCOL_NAMES.values())},"
    elif protocol.startswith("ICMP"):
        what = f"{protocol} type {found.port >> 8} code {found.port & 255}"
    return f"{what} from {_end(found.origin)} to {_end(found.to)}"


def _end(end: dict[str, str] | str) -> str:
    return end if isinstance(end, str) else "VM {" + ", ".join(f"{key}: {value}" for key, value in end.items()) + "}"


def _place(document: Document) -> tuple[Tier, int] | None:
    spec = document.spec
    return (spec.tier, spec.order) if isinstance(spec, PolicySpec | FlowSpec) else None


def _problem(document: Document, message: str, hint: str) -> Problem:
    line = document.lines.get("spec.instance", document.line)
    return Problem(document.file, line, "spec.instance", f"{document.kind} {document.name}: {message}", hint)
