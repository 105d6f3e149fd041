"""The change order of a whole state, worked out for what differs: untouched networks keep their objects, alike VMs are one.

Owns no stage (rollout) and no object's form (pieces). A stage of a network follows from that network's states alone, and what
it says of an endpoint from its values alone: so the plan for a part that stands for the whole (alike) is the plan for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from buckler.model.bundle import Root, Segment, SegmentHead, Stage
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest, IdentityNumber
from buckler.policy.alike import Reduced, Table
from buckler.policy.bundle import Bundle
from buckler.policy.closing import Readings
from buckler.policy.patch import differences, patched
from buckler.policy.pieces import (
    Item,
    Joined,
    Value,
    content_of,
    head_of,
    hold_services,
    join_segment,
    place_endpoint,
    values_of,
)
from buckler.policy.prefix import broadcast_prefixes, is_host_prefix
from buckler.policy.rollout import plan_rollout
from buckler.policy.trie import Shelf
from buckler.policy.walk import Fetch, Name, Node, Place, gather, gather_new, items_of, read_root, services_of, value_at

_Network = tuple[int, str, str, int]
_Meant = Mapping[str, IdentityNumber]


class TreeStage(msgspec.Struct, frozen=True):
    """One state to publish, and those of its objects that may be new. ``waits_for_all``: see ``rollout``."""

    stage: Stage
    root: Digest
    objects: dict[Digest, bytes]
    waits_for_all: bool


class _Touched(msgspec.Struct, frozen=True):
    """A touched network of the target: all of it, what stands for it, and that as one segment in each state that has it."""

    head: SegmentHead
    table: Table
    reduced: Reduced
    states: tuple[Segment | None, ...]

    @property
    def wanted(self) -> Segment:
        """The target's, which is the last."""
        last = self.states[-1]
        assert last is not None  # noqa: S101 - the network is the target's
        return last


class TreePlanner:
    """Keeps what it read for the next change. What it says follows from digests alone."""

    def __init__(self) -> None:
        self._nodes: dict[Name, Node] = {}
        self._limit = 0
        self._read: frozenset[Digest] = frozenset()
        self._outsides: dict[Digest, _Outside] = {}
        self._readings = Readings()
        self._joined = Joined()
        self._tables: dict[_Network, tuple[Digest, Table]] = {}

    def plan(self, in_force: Sequence[Digest], target: Digest, fetch: Fetch) -> tuple[TreeStage, ...]:
        """Plan the stages from states that hosts may enforce to ``target``, all by their roots. Raises BadPieces."""
        self._gather((*in_force, target), fetch)
        roots = [read_root(self._nodes, each) for each in (*in_force, target)]
        heads = [self._heads(root) for root in roots]
        self._forget(heads)
        changed = [
            key for key, digest in heads[-1].items() if any(key not in each or each[key] != digest for each in heads)
        ]
        touched = {key: self._touch(key, heads) for key in changed}
        gone = [{key: digest for key, digest in each.items() if key not in heads[-1]} for each in heads]
        bundles = [self._bundle(at, touched, gone[at]) for at in range(len(roots))]
        meant = self._outside(next(iter(touched.values())).head.outside).meant if touched else {}
        stages = []
        plan = plan_rollout(bundles[:-1], bundles[-1], self._readings)
        for stage in plan:
            root, objects = target, dict[Digest, bytes]()
            if stage is not plan[-1]:
                root, objects = self._write(stage.bundle, bundles[-1], meant, roots, heads[-1], touched)
            stages.append(TreeStage(stage.stage, root, objects, stage.waits_for_all))
        return tuple(stages)

    def _gather(self, roots: Sequence[Digest], fetch: Fetch) -> None:
        """Only what was not read for the last plan is walked; what no root of this one leads to is dropped now and then."""
        fresh = [each for each in roots if each not in self._read]
        for root in fresh:
            self._nodes |= gather_new([(Place.ROOT, root)], self._nodes, fetch)
        self._read = frozenset(roots)
        if len(self._nodes) > self._limit:
            every = [(Place.ROOT, root) for root in roots]
            self._nodes = gather(every, self._nodes, fetch)
            self._limit = 2 * len(self._nodes) + 1000

    def _heads(self, root: Root) -> dict[_Network, Digest]:
        return {_network(self._head(digest)): digest for digest in root.segments}

    def _head(self, digest: Digest) -> SegmentHead:
        head: SegmentHead = value_at(self._nodes, Place.HEAD, digest)
        return head

    def _forget(self, heads: Sequence[Mapping[_Network, Digest]]) -> None:
        outsides = {self._head(digest).outside for each in heads for digest in each.values()}
        self._outsides = {digest: each for digest, each in self._outsides.items() if digest in outsides}
        self._tables = {key: each for key, each in self._tables.items() if key in heads[-1]}

    def _touch(self, key: _Network, heads: Sequence[Mapping[_Network, Digest]]) -> _Touched:
        """Cut a network of the target down to what stands for it in all states that have it."""
        found = [self._head(each[key]) if key in each else None for each in heads]
        head = self._head(heads[-1][key])
        table = self._table(key, head.items)
        nothing = Digest("")  # what a state that lacks the network has of it: there, nobody is like anybody here
        states = [
            differences(self._nodes, Place.ITEMS, each.items if each is not None else nothing, head.items)
            for each in found
        ]
        named = set().union(*(self._named(each) for each in found if each is not None))
        reduced = table.reduce(states, named)
        segments = tuple(
            self._joined_part(each, table.part(reduced.keys, state)) if each is not None else None
            for each, state in zip(found, states, strict=True)
        )
        return _Touched(head, table, reduced, segments)

    def _joined_part(self, head: SegmentHead, items: Mapping[str, Item]) -> Segment:
        services = services_of(self._nodes, head)
        return join_segment(head, items, self._outside(head.outside).items, services, self._joined)

    def _table(self, key: _Network, root: Digest) -> Table:
        before, table = self._tables.get(key, (Digest(""), None))
        if table is None or (Place.ITEMS, before) not in self._nodes:
            table = Table(items_of(self._nodes, Place.ITEMS, root))
        else:
            changes = differences(self._nodes, Place.ITEMS, before, root)
            table.turn({key: after for key, (_, after) in changes.items()})
        self._tables[key] = root, table
        return table

    def _named(self, head: SegmentHead) -> frozenset[str]:
        """Addresses that mean something in a network whoever has them."""
        outside = self._outside(head.outside).addresses
        own = [each.rpartition("/")[0] for each in broadcast_prefixes(head.cidrs)]
        return outside.union(head.gateway, own)

    def _outside(self, digest: Digest) -> _Outside:
        if digest not in self._outsides:
            self._outsides[digest] = _outside(items_of(self._nodes, Place.OUTSIDE, digest))
        return self._outsides[digest]

    def _bundle(self, at: int, touched: Mapping[_Network, _Touched], gone: Mapping[_Network, Digest]) -> Bundle:
        """What stands for one of the states. Networks that the target has not are there, each by its name alone."""
        present = tuple([segment for each in touched.values() if (segment := each.states[at]) is not None])
        left = tuple([_nothing_of(self._head(digest), digest) for digest in gone.values()])
        digests = {each.program for segment in present for each in segment.endpoints}
        programs = {digest: value_at(self._nodes, Place.PROGRAM, digest) for digest in digests}
        return Bundle((*present, *left), programs)

    def _write(
        self,
        bundle: Bundle,
        wanted: Bundle,
        meant: _Meant,
        roots: Sequence[Root],
        heads: Mapping[_Network, Digest],
        touched: Mapping[_Network, _Touched],
    ) -> tuple[Digest, dict[Digest, bytes]]:
        """Put a stage's touched networks beside the others. What the outside means where nothing else is said is the target's."""
        shelf = Shelf()
        segments = {_network(each): each for each in bundle.segments}
        written = []
        for key, digest in heads.items():
            if key not in touched:
                written.append(digest)
            elif key in segments:
                written.append(self._cut(segments[key], touched[key], meant, shelf))
        for digest, program in bundle.programs.items():
            if digest not in wanted.programs:
                shelf.hold(canonical_bytes(program))
        root = shelf.hold(canonical_bytes(Root(tuple(written), self._rules(roots, shelf))))
        return root, shelf.objects

    def _cut(self, segment: Segment, whole: _Touched, meant: _Meant, shelf: Shelf) -> Digest:
        """Write a stage of a network as what differs from the target."""
        weights = whole.reduced.weights()
        before, after = values_of(whole.wanted, meant, weights), values_of(segment, meant, weights)
        changes: dict[str, bytes | None] = dict.fromkeys(before.keys() - after.keys())
        changes |= {key: content_of(value) for key, value in after.items() if before.get(key) != value}
        for key, others in whole.reduced.alike.items():
            if key in changes:
                changes |= {each: _as_said_of(after[key], whole.table, each) for each in others}
        items = patched(self._nodes, Place.ITEMS, whole.head.items, changes, shelf)
        return shelf.hold(
            canonical_bytes(head_of(segment, items, whole.head.outside, hold_services(segment.services, shelf)))
        )

    def _rules(self, roots: Sequence[Root], shelf: Shelf) -> Digest:
        """Name the rules of all states, as the last that has one names it; of states that are one to packets, the last's."""
        *before, target = roots
        more: dict[str, bytes | None] = {}
        for root in {each.segments: each for each in before}.values():
            if root.rules != target.rules:
                found = differences(self._nodes, Place.RULES, root.rules, target.rules)
                more |= {key: canonical_bytes(old) for key, (old, new) in found.items() if new is None}
        return patched(self._nodes, Place.RULES, target.rules, more, shelf) if more else target.rules


class _Outside(msgspec.Struct, frozen=True):
    """What the outside means: as items, as prefixes, and which of these are single addresses."""

    items: dict[str, Item]
    meant: dict[str, IdentityNumber]
    addresses: frozenset[str]


def _outside(items: dict[str, Item]) -> _Outside:
    meant = {key[2:]: IdentityNumber(number) for key, number in items.items() if isinstance(number, int)}
    return _Outside(items, meant, frozenset(each.rpartition("/")[0] for each in meant if is_host_prefix(each)))


def _as_said_of(said: Value, table: Table, key: str) -> bytes:
    """Write an endpoint as one that it is alike."""
    assert isinstance(said, tuple)  # noqa: S101 - it stands for endpoints
    like = place_endpoint(*said)
    return canonical_bytes(msgspec.structs.replace(table.placed(key), program=like.program, mode=like.mode))


def _nothing_of(head: SegmentHead, digest: Digest) -> Segment:
    """A network that ends: nothing is asked of it but whether it is the same in two states."""
    return join_segment(msgspec.structs.replace(head, network=digest), {}, {})


def _network(each: SegmentHead | Segment) -> _Network:
    """What makes a network the same one: on another bridge it is another."""
    return (each.zone, each.tenant, each.bridge, each.vlan)
