"""The change order of a whole state, worked out for the networks that it touches: all others keep their objects.

Owns no stage (rollout) and no object's form (pieces). A stage of a network follows from that network's states alone, so the
plan for the touched ones is the plan for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from buckler.model.bundle import Root, RuleName, Segment, SegmentHead, Stage
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest, IdentityNumber
from buckler.policy.bundle import Bundle
from buckler.policy.closing import Readings
from buckler.policy.pieces import BadPieces, Cut, Item, Joined, join_segment
from buckler.policy.rollout import plan_rollout
from buckler.policy.trie import Shelf, Trie
from buckler.policy.walk import (
    Fetch,
    Name,
    Node,
    Place,
    gather,
    gather_new,
    items_of,
    read_root,
    read_rules,
    services_of,
)

_Network = tuple[int, str, str, int]


class TreeStage(msgspec.Struct, frozen=True):
    """One state to publish, and those of its objects that may be new. ``waits_for_all``: see ``rollout``."""

    stage: Stage
    root: Digest
    objects: dict[Digest, bytes]
    waits_for_all: bool


class TreePlanner:
    """Keeps what it read and cut for the next change. What it says follows from digests alone.

    A stage's objects are those that no stage of an earlier plan had: when one of those was not kept, begin with a new planner.
    """

    def __init__(self) -> None:
        self._nodes: dict[Name, Node] = {}
        self._limit = 0
        self._read: frozenset[Digest] = frozenset()
        self._segments: dict[Digest, Segment] = {}
        self._outsides: dict[Digest, dict[str, Item]] = {}
        self._rules: dict[Digest, tuple[RuleName, ...]] = {}
        self._readings = Readings()
        self._joined = Joined()
        self._cuts: dict[_Network, Cut] = {}

    def plan(self, in_force: Sequence[Digest], target: Digest, fetch: Fetch) -> tuple[TreeStage, ...]:
        """Plan the stages from states that hosts may enforce to ``target``, all by their roots. Raises BadPieces."""
        self._gather((*in_force, target), fetch)
        roots = [read_root(self._nodes, each) for each in (*in_force, target)]
        heads = [self._heads(root) for root in roots]
        untouched = {key for key, digest in heads[-1].items() if all(each.get(key) == digest for each in heads)}
        bundles = [self._bundle(root, each, untouched) for root, each in zip(roots, heads, strict=True)]
        self._forget(roots, heads)
        stages = []
        plan = plan_rollout(bundles[:-1], bundles[-1], self._readings)
        for stage in plan:
            root, objects = target, dict[Digest, bytes]()
            if stage is not plan[-1]:
                root, objects = self._write(stage.bundle, bundles[-1], heads[-1], untouched, roots[-1].rules)
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
        node = self._nodes.get((Place.HEAD, digest))
        if node is None:
            raise BadPieces(f"the object {digest} is missing")
        head: SegmentHead = node.value
        return head

    def _bundle(self, root: Root, heads: Mapping[_Network, Digest], untouched: set[_Network]) -> Bundle:
        """The touched part of a state."""
        touched = [digest for key, digest in heads.items() if key not in untouched]
        segments = tuple(self._segment(digest) for digest in touched)
        digests = {each.program for segment in segments for each in segment.endpoints}
        programs = {digest: self._nodes[Place.PROGRAM, digest].value for digest in digests}
        outside = self._outside(self._head(touched[0]).outside) if touched else {}
        meant = {key[2:]: IdentityNumber(number) for key, number in outside.items() if isinstance(number, int)}
        if root.rules not in self._rules:
            self._rules[root.rules] = read_rules(self._nodes, root)
        return Bundle(segments, programs, self._rules[root.rules], meant)

    def _segment(self, digest: Digest) -> Segment:
        if digest not in self._segments:
            head = self._head(digest)
            items = items_of(self._nodes, Place.ITEMS, head.items)
            services = services_of(self._nodes, head)
            self._segments[digest] = join_segment(head, items, self._outside(head.outside), services, self._joined)
        return self._segments[digest]

    def _outside(self, digest: Digest) -> dict[str, Item]:
        if digest not in self._outsides:
            self._outsides[digest] = items_of(self._nodes, Place.OUTSIDE, digest)
        return self._outsides[digest]

    def _forget(self, roots: Sequence[Root], heads: Sequence[Mapping[_Network, Digest]]) -> None:
        held = {digest for each in heads for digest in each.values()}
        outsides = {self._head(digest).outside for digest in held}
        self._segments = {digest: each for digest, each in self._segments.items() if digest in held}
        self._cuts = {key: cut for key, cut in self._cuts.items() if key in heads[-1]}
        self._outsides = {digest: each for digest, each in self._outsides.items() if digest in outsides}
        self._rules = {root.rules: self._rules[root.rules] for root in roots}

    def _write(
        self,
        bundle: Bundle,
        wanted: Bundle,
        heads: Mapping[_Network, Digest],
        untouched: set[_Network],
        rules: Digest,
    ) -> tuple[Digest, dict[Digest, bytes]]:
        """Put a stage's touched networks beside the others. What the outside means where nothing else is said is the target's."""
        shelf = Shelf()
        segments = {_network(each): each for each in bundle.segments}
        written = []
        for key, digest in heads.items():
            if key in untouched:
                written.append(digest)
            elif key in segments:
                outside = self._head(digest).outside
                cut = self._cuts.setdefault(key, Cut())
                written.append(cut.split(segments[key], wanted.outside, outside, shelf))
        if bundle.rules != wanted.rules:
            table = Trie(shelf)
            for each in bundle.rules:
                table.put(f"r:{each.number}", canonical_bytes((each.policy, each.rule, each.tier)))
            rules = table.write()
        for digest, program in bundle.programs.items():
            if digest not in wanted.programs:
                shelf.hold(canonical_bytes(program))
        root = shelf.hold(canonical_bytes(Root(tuple(written), rules)))
        return root, shelf.objects


def _network(each: SegmentHead | Segment) -> _Network:
    """What makes a network the same one: on another bridge it is another."""
    return (each.zone, each.tenant, each.bridge, each.vlan)
