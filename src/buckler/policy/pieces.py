"""A segment ↔ its pieces: a head, and a table of small objects in which one change is a few of them. Resolves nothing.

Keys of a network's table: ``e:MAC`` an endpoint · ``p:IDENTITY`` the program of that identity's endpoints · ``a:ADDRESS`` and
``c:PREFIX`` an identity where it is not what endpoints and the outside say (0: none). Of the outside's: ``c:PREFIX``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from buckler.model.bundle import CidrIdentity, Endpoint, Placed, Segment, SegmentHead, Services, VirtualService
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_GROUP, Digest, IdentityNumber
from buckler.policy.prefix import broadcast_prefixes
from buckler.policy.trie import Shelf, Trie

NOTHING = 0
_MOST_JOINED = 1 << 15
_MOST_OUTSIDES = 256
_DIGESTS = frozenset({"items", "outside", "services"})
T = TypeVar("T")
Item = Placed | int | str | tuple[str, str, str]
Value = tuple[Endpoint, Digest] | int | str
"""What an item is made of: an endpoint with the program of its identity, a number, or a digest."""


class BadPieces(ValueError):
    """Pieces that no segment can be made of."""


def place_endpoint(endpoint: Endpoint, program: Digest) -> Placed:
    """Take an endpoint's program out where it is the one of its identity."""
    return Placed(
        vm=endpoint.vm,
        number=endpoint.number,
        name=endpoint.name,
        tenant=endpoint.tenant,
        uuid=endpoint.uuid,
        mac=endpoint.mac,
        addresses=endpoint.addresses,
        identity=endpoint.identity,
        mode=endpoint.mode,
        program=Digest("") if endpoint.program == program else endpoint.program,
        connections=endpoint.connections,
    )


def split_segment(segment: Segment, outside: Mapping[str, IdentityNumber], root: Digest, shelf: Shelf) -> Digest:
    """Put a segment's pieces on the shelf and name its head. ``root`` is that of the outside's table."""
    table = Trie(shelf)
    for key, value in values_of(segment, outside).items():
        table.put(key, content_of(value))
    return shelf.hold(canonical_bytes(head_of(segment, table.write(), root, hold_services(segment.services, shelf))))


def hold_services(services: tuple[VirtualService, ...], shelf: Shelf) -> Digest:
    """Put a network's services on the shelf, if there are any."""
    return shelf.hold(canonical_bytes(Services(services))) if services else Digest("")


def head_of(segment: Segment, items: Digest, outside: Digest, services: Digest) -> SegmentHead:
    """Give a segment's few facts, and where the rest is."""
    return SegmentHead(
        network=segment.network,
        zone=segment.zone,
        tenant=segment.tenant,
        bridge=segment.bridge,
        vlan=segment.vlan,
        cidrs=segment.cidrs,
        dhcp_servers=segment.dhcp_servers,
        routers=segment.routers,
        gateway=segment.gateway,
        items=items,
        outside=outside,
        resolvers=segment.resolvers,
        names=segment.names,
        services=services,
    )


class Joined:
    """Endpoints that were put together, by the object in their leaf (kept for that long): the next state has most of them."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, Digest], tuple[Placed, Endpoint]] = {}
        self._entries: dict[tuple[int, tuple[str, ...]], tuple[Mapping[str, Item], tuple[CidrIdentity, ...]]] = {}

    def entries(self, outside: Mapping[str, Item], cidrs: tuple[str, ...]) -> tuple[CidrIdentity, ...]:
        """List what the outside means, with a network's own broadcast addresses: one object for as long as both stay."""
        found = self._entries.get((id(outside), cidrs))
        if found is None:
            if len(self._entries) >= _MOST_OUTSIDES:
                self._entries.clear()
            found = self._entries[id(outside), cidrs] = outside, _entries(_meant(outside, cidrs))
        return found[1]

    def endpoint(self, placed: Placed, programs: Mapping[int, Digest]) -> Endpoint:
        """Put an endpoint together. Raises KeyError."""
        program = placed.program or programs[placed.identity]
        found = self._made.get((id(placed), program))
        if found is None:
            if len(self._made) >= _MOST_JOINED:
                self._made.clear()
            found = self._made[id(placed), program] = placed, _endpoint(placed, programs)
        return found[1]


def join_segment(
    head: SegmentHead,
    items: Mapping[str, Item],
    outside: Mapping[str, Item],
    services: tuple[VirtualService, ...] = (),
    joined: Joined | None = None,
) -> Segment:
    """Put a segment together again. Raises BadPieces."""
    endpoint = _endpoint if joined is None else joined.endpoint
    placed = sorted((_typed(item, Placed) for key, item in items.items() if key.startswith("e:")), key=_mac)
    programs = {int(key[2:]): Digest(_typed(item, str)) for key, item in items.items() if key.startswith("p:")}
    own = any(key.startswith("c:") for key in items)
    cidrs = _meant(outside, head.cidrs) if own or joined is None else {}
    identities = {address: each.identity for each in placed for address in each.addresses}
    for key, item in items.items():
        table = {"a:": identities, "c:": cidrs}.get(key[:2])
        if table is None:
            continue
        if item == NOTHING:
            table.pop(key[2:], None)
        else:
            table[key[2:]] = IdentityNumber(_typed(item, int))
    try:
        endpoints = tuple(endpoint(each, programs) for each in placed)
    except KeyError as error:
        raise BadPieces(f"no program for identity {error}") from error
    facts = {name: getattr(head, name) for name in SegmentHead.__struct_fields__ if name not in _DIGESTS}
    entries = _entries(cidrs) if own or joined is None else joined.entries(outside, head.cidrs)
    return Segment(**facts, endpoints=endpoints, identities=identities, cidr_identities=entries, services=services)


def _meant(outside: Mapping[str, Item], cidrs: Iterable[str]) -> dict[str, IdentityNumber]:
    return {key[2:]: IdentityNumber(_typed(item, int)) for key, item in outside.items()} | _broadcasts(cidrs)


def _entries(cidrs: Mapping[str, IdentityNumber]) -> tuple[CidrIdentity, ...]:
    return tuple([CidrIdentity(prefix, cidrs[prefix]) for prefix in sorted(cidrs)])


def values_of(
    segment: Segment, outside: Mapping[str, IdentityNumber], weights: Mapping[str, int] | None = None
) -> dict[str, Value]:
    """Give the items of a segment as what they are made of. ``weights``: for how many endpoints a MAC stands, if not one."""
    programs = _usual_programs(segment.endpoints, weights or {})
    items: dict[str, Value] = {f"p:{number}": digest for number, digest in programs.items()}
    for each in segment.endpoints:
        items[f"e:{each.mac}"] = (each, programs[each.identity])
    usual = {address: each.identity for each in segment.endpoints for address in each.addresses}
    items |= _differences("a:", usual, segment.identities)
    cidrs = {each.cidr: each.identity for each in segment.cidr_identities}
    return items | _differences("c:", {**outside, **_broadcasts(segment.cidrs)}, cidrs)


def content_of(value: Value) -> bytes:
    """Write an item."""
    return canonical_bytes(place_endpoint(*value) if isinstance(value, tuple) else value)


def _usual_programs(endpoints: Iterable[Endpoint], weights: Mapping[str, int]) -> dict[IdentityNumber, Digest]:
    counts: Counter[tuple[IdentityNumber, Digest]] = Counter()
    for each in endpoints:
        counts[each.identity, each.program] += weights.get(each.mac, 1)
    chosen: dict[IdentityNumber, Digest] = {}
    for (number, program), _ in sorted(counts.items(), key=lambda item: (item[1], item[0][1])):
        chosen[number] = program
    return chosen


def _differences(kind: str, usual: Mapping[str, IdentityNumber], said: Mapping[str, IdentityNumber]) -> dict[str, int]:
    if usual == said:
        return {}
    return {
        f"{kind}{name}": said.get(name, NOTHING)
        for name in usual.keys() | said.keys()
        if usual.get(name) != said.get(name)
    }


def _broadcasts(cidrs: Iterable[str]) -> dict[str, IdentityNumber]:
    return dict.fromkeys(broadcast_prefixes(cidrs), IDENTITY_GROUP)


def _endpoint(placed: Placed, programs: Mapping[int, Digest]) -> Endpoint:
    fields = msgspec.structs.asdict(placed)
    fields["program"] = placed.program or programs[placed.identity]
    return Endpoint(**fields)


def _mac(placed: Placed) -> str:
    return placed.mac


def _typed(item: Item, kind: type[T]) -> T:
    if not isinstance(item, kind):
        raise BadPieces(f"an item that is no {kind.__name__}")
    return item
