"""From a manifest's digests to everything below them: which objects there must be, each what it says, within bounds.

Owns no meaning of an item (pieces) and fetches nothing itself. A digest cannot lead back to itself, but parts may be named
again and again, or be without end: so levels, objects, bytes and items are counted, and no part stands twice in one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec

from buckler.model.bundle import (
    MOST_MEMBERS,
    MOST_PORTS,
    MOST_SERVICE_NUMBER,
    Branch,
    Leaf,
    Members,
    Placed,
    Root,
    RuleName,
    Segment,
    SegmentHead,
    Services,
    VirtualService,
)
from buckler.model.canonical import digest_of
from buckler.model.ids import Digest, RuleNumber
from buckler.model.program import Program
from buckler.policy.pieces import BadPieces, Item, join_segment

MAX_OBJECT = 16 << 20
MAX_OBJECTS = 500_000
MAX_BYTES = 1 << 30
MAX_ITEMS = 5_000_000
"""Of all segments together, what the outside means counted for each."""
_WAVES = 22
"""Root, head, a table of at most seventeen levels, program; and some air."""
_CHILDREN = 16
_TRANSLATED = frozenset({6, 17, 132})
_LAST_PORT = 65535


class Place(Enum):
    """Where an object stands, which says what it must be."""

    ROOT = "root"
    HEAD = "head"
    ITEMS = "items"
    OUTSIDE = "outside"
    RULES = "rules"
    PROGRAM = "program"
    SERVICES = "services"
    MEMBERS = "members"


Name = tuple[Place, Digest]
_FORMS: dict[Place, type[Any]] = {
    Place.ROOT: Root,
    Place.HEAD: SegmentHead,
    Place.PROGRAM: Program,
    Place.SERVICES: Services,
    Place.MEMBERS: Members,
}


class Node(msgspec.Struct, frozen=True):
    """An object that was read, and what it names."""

    value: Any
    below: tuple[Name, ...] = ()


Nodes = Mapping[Name, Node]
Fetch = Callable[[frozenset[Digest]], Mapping[Digest, bytes]]


def gather(tops: Iterable[Name], known: Nodes, fetch: Fetch) -> dict[Name, Node]:
    """Give everything at and below ``tops``; ``fetch`` is asked once a level for what is not ``known``. Raises BadPieces."""
    return _walk(tops, known, fetch, is_known_left_out=False)


def _walk(tops: Iterable[Name], known: Nodes, fetch: Fetch, *, is_known_left_out: bool) -> dict[Name, Node]:
    found: dict[Name, Node] = {}
    wave, size = {name for name in tops if not (is_known_left_out and name in known)}, 0
    for _ in range(_WAVES):
        if not wave:
            return found
        if len(found) + len(wave) > MAX_OBJECTS:
            raise BadPieces("a state of too many objects")
        lacking = frozenset(name[1] for name in wave if name not in known)
        contents = fetch(lacking) if lacking else {}
        size += sum(len(contents[digest]) for digest in lacking & contents.keys())
        if size > MAX_BYTES:
            raise BadPieces("a state of too many bytes")
        following: set[Name] = set()
        for name in wave:
            node = known.get(name)
            found[name] = node = read_node(name, contents.get(name[1])) if node is None else node
            following.update(node.below)
        wave = following - found.keys()
        if is_known_left_out:
            wave = {name for name in wave if name not in known}
    raise BadPieces("a state of too many levels")


def gather_new(tops: Iterable[Name], known: Nodes, fetch: Fetch) -> dict[Name, Node]:
    """``gather`` without what is ``known``, which must be known with all that is below it. Raises BadPieces."""
    return _walk(tops, known, fetch, is_known_left_out=True)


def read_node(name: Name, content: bytes | None) -> Node:
    """Read what is claimed to be an object. Raises BadPieces."""
    place, digest = name
    if content is None:
        raise BadPieces(f"the object {digest} is missing")
    if len(content) > MAX_OBJECT:
        raise BadPieces(f"the object {digest} is too large")
    if digest_of(content) != digest:
        raise BadPieces(f"an object that is not {digest}")
    try:
        value = msgspec.json.decode(content, type=_form(place, content))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadPieces(f"the object {digest} cannot be read as {place.value}: {error}") from error
    return Node(value, tuple(dict.fromkeys(_below(place, value))))


def items_of(nodes: Nodes, place: Place, root: Digest) -> dict[str, Item]:
    """Give a whole table. Raises BadPieces."""
    items: dict[str, Item] = {}
    seen: set[Digest] = set()
    left, count = [root], 0
    while left:
        digest = left.pop()
        if digest in seen:
            raise BadPieces(f"the part {digest} stands twice in one table")
        seen.add(digest)
        value = value_at(nodes, place, digest)
        if isinstance(value, Leaf):
            items.update(value.items)
            count += len(value.items)
        else:
            left += [child for child in value.children if child]
    if count != len(items):
        raise BadPieces("a key stands twice in one table")
    return items


def read_root(nodes: Nodes, digest: Digest) -> Root:
    """Find a root among what was gathered. Raises BadPieces."""
    root: Root = value_at(nodes, Place.ROOT, digest)
    return root


def read_segments(nodes: Nodes, root: Root, known: Mapping[Digest, Segment]) -> dict[Digest, Segment]:
    """Put every segment together by its head's digest; ``known`` ones are not made again. Raises BadPieces."""
    outsides: dict[Digest, dict[str, Item]] = {}
    found: dict[Digest, Segment] = {}
    count = 0
    for digest in root.segments:
        segment = known.get(digest)
        if segment is None:
            head: SegmentHead = value_at(nodes, Place.HEAD, digest)
            if head.outside not in outsides:
                outsides[head.outside] = items_of(nodes, Place.OUTSIDE, head.outside)
            items = items_of(nodes, Place.ITEMS, head.items)
            count += len(items) + len(outsides[head.outside])
            if count > MAX_ITEMS:
                raise BadPieces("a state of too many items")
            segment = join_segment(head, items, outsides[head.outside], services_of(nodes, head))
        found[digest] = segment
    return found


def services_of(nodes: Nodes, head: SegmentHead) -> tuple[VirtualService, ...]:
    """Give a network's virtual addresses, each of them possible. Raises BadPieces."""
    if not head.services:
        return ()
    found: Services = value_at(nodes, Place.SERVICES, head.services)
    numbers = [each.number for each in found.services]
    if numbers != sorted(set(numbers)) or not all(map(_is_possible, found.services)):
        raise BadPieces("services that cannot be")
    return found.services


def _is_possible(service: VirtualService) -> bool:
    ports = all(each.protocol in _TRANSLATED and 0 <= each.first <= each.last <= _LAST_PORT for each in service.ports)
    few = 0 < len(service.ports) <= MOST_PORTS and len(service.members) <= MOST_MEMBERS
    return ports and few and 0 < service.number <= MOST_SERVICE_NUMBER


def read_rules(nodes: Nodes, root: Root) -> tuple[RuleName, ...]:
    """Read the rules' names by number. Raises BadPieces."""
    found = []
    for key, item in items_of(nodes, Place.RULES, root.rules).items():
        if not isinstance(item, tuple) or not key.startswith("r:") or not key[2:].isdecimal():
            raise BadPieces("a rule's name that is none")
        found.append(RuleName(RuleNumber(int(key[2:])), *item))
    return tuple(sorted(found, key=lambda each: each.number))


def read_programs(nodes: Nodes) -> dict[Digest, Program]:
    """Pick the programs out of what was gathered."""
    return {digest: node.value for (place, digest), node in nodes.items() if place is Place.PROGRAM}


def value_at(nodes: Nodes, place: Place, digest: Digest) -> Any:
    """Find an object among what was gathered. Raises BadPieces."""
    node = nodes.get((place, digest))
    if node is None:
        raise BadPieces(f"the object {digest} is missing")
    return node.value


def _form(place: Place, content: bytes) -> type[Any]:
    form = _FORMS.get(place)
    if form is not None:
        return form
    return Leaf if content.startswith(b'{"items"') else Branch


def _below(place: Place, value: Any) -> Iterable[Name]:
    if isinstance(value, Branch):
        if len(value.children) != _CHILDREN:
            raise BadPieces("a branch that is not of sixteen parts")
        return [(place, child) for child in value.children if child]
    if isinstance(value, Root):
        return [*((Place.HEAD, each) for each in value.segments), (Place.RULES, value.rules)]
    if isinstance(value, SegmentHead):
        services = [(Place.SERVICES, value.services)] if value.services else []
        return [(Place.ITEMS, value.items), (Place.OUTSIDE, value.outside), *services]
    if isinstance(value, Leaf) and place is Place.ITEMS:
        return [(Place.PROGRAM, each) for _, item in value.items if (each := _program(item))]
    return ()


def _program(item: Item) -> Digest:
    if isinstance(item, Placed):
        return item.program
    return Digest(item) if isinstance(item, str) else Digest("")
