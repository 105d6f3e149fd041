"""What this host believes of its pool: statements verified down from the pool root. Fetches and stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TypeVar

import msgspec

from buckler.gate.decide import PoolView
from buckler.model.agentapi import Issuers, Task
from buckler.model.bundle import Manifest, Member, Members, Root, RuleName, Segment, Stage
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.program import Program
from buckler.policy.pieces import BadPieces
from buckler.policy.walk import (
    Fetch,
    Name,
    Node,
    Nodes,
    Place,
    gather,
    read_programs,
    read_root,
    read_rules,
    read_segments,
)
from buckler.trust.statement import KeySet, Kind, Untrusted, key_from_text, key_id, verify

_T = TypeVar("_T")


class Belief(msgspec.Struct, frozen=True, dict=True):
    """All of it verified. ``manifest`` is None until the first one came; then all that it names is here.

    ``own_revision`` is that of the manifest for this very host; ``manifest`` has a higher one where its policy was lent by
    another member (see ``borrow``).
    """

    pool: str
    host: HostId
    keys: KeySet
    manifest: Manifest | None = None
    segments: tuple[Segment, ...] = ()
    programs: Mapping[Digest, Program] = {}
    rules: tuple[RuleName, ...] = ()
    members: tuple[Member, ...] = ()
    root: Root = Root((), Digest(""))
    own_revision: Revision = Revision(0)

    def view(self) -> PoolView:
        """What the gate needs of it, the same for as long as this is believed."""
        return self._view

    @cached_property
    def _view(self) -> PoolView:
        return PoolView(
            pool=self.pool,
            keys=self.keys,
            segments=self.segments,
            has_policy=self.manifest is not None,
            draining=self.manifest is not None and self.manifest.draining,
            twins=frozenset(self.manifest.twins if self.manifest is not None else ()),
        )

    @property
    def revision(self) -> Revision:
        return Revision(0) if self.manifest is None else self.manifest.revision


def read_issuers(statement: str, root_key: str, pool: str) -> Issuers:
    """Verify the issuing keys against the pool root. Raises Untrusted."""
    root = key_from_text(root_key)
    issuers = _payload(Kind.ISSUERS, statement, {key_id(root): root}, Issuers)
    if issuers.pool != pool:
        raise Untrusted(f"issuers of another pool ({issuers.pool[:64]})")
    return issuers


def issuer_keys(issuers: Issuers) -> KeySet:
    """The keys by their ids. Raises Untrusted."""
    keys = [key_from_text(text) for text in issuers.keys]
    return {key_id(key): key for key in keys}


def read_manifest(statement: str, belief: Belief) -> Manifest:
    """Verify a manifest for this very host. Whether it is newer is the caller's question. Raises Untrusted."""
    manifest = _payload(Kind.MANIFEST, statement, belief.keys, Manifest)
    if (manifest.pool, manifest.host) != (belief.pool, belief.host):
        raise Untrusted("a manifest for another host or pool")
    return manifest


def read_lent_manifest(statement: str, belief: Belief) -> Manifest:
    """Verify another member's manifest. That this host is a member there shows when it is borrowed. Raises Untrusted."""
    manifest = _payload(Kind.MANIFEST, statement, belief.keys, Manifest)
    if manifest.pool != belief.pool:
        raise Untrusted("a manifest of another pool")
    return manifest


def is_ahead(lent: Manifest | None, own: Manifest | None) -> bool:
    """Whether lent policy is to stand before the own one. Revisions are the pool's, stages each host's.

    A slower host can be told CLOSE at a later revision than this one FLIP; with that the acknowledged FLIP would be none,
    and OPEN waits for it.
    """
    if lent is None or own is None:
        return lent is not None
    return lent.revision > own.revision and not (lent.stage is Stage.CLOSE and own.stage is Stage.FLIP)


def read_task(statement: str, belief: Belief) -> Task:
    """Verify a task for this very host. Raises Untrusted."""
    task = _payload(Kind.TASK, statement, belief.keys, Task)
    if task.host != belief.host:
        raise Untrusted("a task for another host")
    return task


def gather_members(manifest: Manifest, known: Nodes, fetch: Fetch) -> dict[Name, Node]:
    """Fetch who a manifest says is a member: little, and enough to see whether the rest is worth it. Raises Untrusted."""
    return _gathered([(Place.MEMBERS, manifest.members)], known, fetch)


def gather_objects(manifest: Manifest, known: Nodes, fetch: Fetch) -> dict[Name, Node]:
    """Give every object that a manifest leads to; what is not known is fetched. Raises Untrusted."""
    return _gathered([(Place.ROOT, manifest.root), (Place.MEMBERS, manifest.members)], known, fetch)


def is_member(host: HostId, manifest: Manifest, nodes: Nodes) -> bool:
    """Whether a manifest says that a host is a member."""
    return host in {member.id for member in _members(manifest, nodes)}


def believe(belief: Belief, manifest: Manifest, nodes: Nodes) -> Belief:
    """Take a manifest with all of its objects, or nothing of it. Raises Untrusted."""
    believed = _take(belief, manifest, nodes)
    return msgspec.structs.replace(believed, own_revision=manifest.revision)


def borrow(belief: Belief, lent: Manifest, nodes: Nodes) -> Belief:
    """Take another member's newer policy and members; what the own manifest says of this host alone stays. Raises Untrusted."""
    if not is_member(belief.host, lent, nodes):
        raise Untrusted("a manifest in which this host is no member")
    own = belief.manifest
    kept = (False, dict[str, str](), ()) if own is None else (own.draining, own.adoptions, own.twins)
    merged = msgspec.structs.replace(
        lent,
        host=belief.host,
        host_name="" if own is None else own.host_name,
        draining=kept[0],
        adoptions=kept[1],
        twins=kept[2],
    )
    return _take(belief, merged, nodes)


def _take(belief: Belief, manifest: Manifest, nodes: Nodes) -> Belief:
    """What a head or a table says is read once: the same digest says the same."""
    try:
        root = read_root(nodes, manifest.root)
        segments = read_segments(nodes, root, dict(zip(belief.root.segments, belief.segments, strict=True)))
        rules = belief.rules if root.rules == belief.root.rules else read_rules(nodes, root)
    except BadPieces as error:
        raise Untrusted(str(error)) from error
    return msgspec.structs.replace(
        belief,
        manifest=manifest,
        segments=tuple(segments.values()),
        programs=read_programs(nodes),
        rules=rules,
        members=_members(manifest, nodes),
        root=msgspec.structs.replace(root, segments=tuple(segments)),
    )


def _members(manifest: Manifest, nodes: Nodes) -> tuple[Member, ...]:
    node = nodes.get((Place.MEMBERS, manifest.members))
    if node is None or not isinstance(node.value, Members):
        raise Untrusted("a manifest without its members")
    return node.value.members


def _gathered(tops: list[Name], known: Nodes, fetch: Fetch) -> dict[Name, Node]:
    try:
        return gather(tops, known, fetch)
    except BadPieces as error:
        raise Untrusted(str(error)) from error


def _payload(kind: Kind, statement: str, keys: KeySet, form: type[_T]) -> _T:
    try:
        return msgspec.json.decode(verify(kind, statement, keys), type=form)
    except msgspec.DecodeError as error:
        raise Untrusted(f"a {kind.value} that cannot be read: {error}") from error
