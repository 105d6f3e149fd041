"""A segment ↔ its pieces: a head, and a table of small objects in which one change is a few of them. Resolves nothing.

Keys of a network's table: ``e:MAC`` an endpoint · ``p:IDENTITY`` the program of that identity's endpoints · ``a:ADDRESS`` and
``c:PREFIX`` an identity where it is not what endpoints and the outside say (0: none). Of the outside's: ``c:PREFIX``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from buckler.model.bundle import CidrIdentity, Endpoint, Placed, Segment, SegmentHead
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_GROUP, Digest, IdentityNumber
from buckler.policy.prefix import broadcast_prefixes
from buckler.policy.trie import Shelf, Trie

NOTHING = 0
T = TypeVar("T")
Item = Placed | int | str | tuple[str, str, str]


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
    for key, item in _items(segment, outside).items():
        table.put(key, item)
    return shelf.hold(canonical_bytes(head_of(segment, table.write(), root)))


def head_of(segment: Segment, items: Digest, outside: Digest) -> SegmentHead:
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
    )


def join_segment(head: SegmentHead, items: Mapping[str, Item], outside: Mapping[str, Item]) -> Segment:
    """Put a segment together again. Raises BadPieces."""
    placed = sorted((_typed(item, Placed) for key, item in items.items() if key.startswith("e:")), key=_mac)
    programs = {int(key[2:]): Digest(_typed(item, str)) for key, item in items.items() if key.startswith("p:")}
    cidrs = {key[2:]: IdentityNumber(_typed(item, int)) for key, item in outside.items()} | _broadcasts(head.cidrs)
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
        endpoints = tuple(_endpoint(each, programs) for each in placed)
    except KeyError as error:
        raise BadPieces(f"no program for identity {error}") from error
    facts = {name: getattr(head, name) for name in SegmentHead.__struct_fields__ if name not in {"items", "outside"}}
    entries = tuple(CidrIdentity(prefix, cidrs[prefix]) for prefix in sorted(cidrs))
    return Segment(**facts, endpoints=endpoints, identities=identities, cidr_identities=entries)


def _items(segment: Segment, outside: Mapping[str, IdentityNumber]) -> dict[str, bytes]:
    programs = _usual_programs(segment.endpoints)
    items = {f"p:{number}": canonical_bytes(digest) for number, digest in programs.items()}
    for each in segment.endpoints:
        items[f"e:{each.mac}"] = canonical_bytes(place_endpoint(each, programs[each.identity]))
    usual = {address: each.identity for each in segment.endpoints for address in each.addresses}
    items |= _differences("a:", usual, segment.identities)
    cidrs = {each.cidr: each.identity for each in segment.cidr_identities}
    return items | _differences("c:", {**outside, **_broadcasts(segment.cidrs)}, cidrs)


def _usual_programs(endpoints: Iterable[Endpoint]) -> dict[IdentityNumber, Digest]:
    counts = Counter((each.identity, each.program) for each in endpoints)
    chosen: dict[IdentityNumber, Digest] = {}
    for (number, program), _ in sorted(counts.items(), key=lambda item: (item[1], item[0][1])):
        chosen[number] = program
    return chosen


def _differences(
    kind: str, usual: Mapping[str, IdentityNumber], said: Mapping[str, IdentityNumber]
) -> dict[str, bytes]:
    changed = {
        name: said.get(name, NOTHING) for name in usual.keys() | said.keys() if usual.get(name) != said.get(name)
    }
    return {f"{kind}{name}": b"%d" % number for name, number in changed.items()}


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
