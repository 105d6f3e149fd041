"""What this host believes of its pool: statements verified down from the pool root. Fetches and stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from buckler.gate.decide import PoolView
from buckler.model.agentapi import Issuers, ObjectEnvelope, ObjectKind, ObjectName, Task, decode_object
from buckler.model.bundle import Manifest, Segment, Stage
from buckler.model.canonical import digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.program import Program
from buckler.trust.statement import KeySet, Kind, Untrusted, key_from_text, key_id, verify

_T = TypeVar("_T")


class Belief(msgspec.Struct, frozen=True):
    """All of it verified. ``manifest`` is None until the first one came; then its objects are complete.

    ``own_revision`` is that of the manifest for this very host; ``manifest`` has a higher one where its policy was lent by
    another member (see ``borrow``).
    """

    pool: str
    host: HostId
    keys: KeySet
    manifest: Manifest | None = None
    segments: tuple[Segment, ...] = ()
    programs: Mapping[Digest, Program] = {}
    own_revision: Revision = Revision(0)

    def view(self) -> PoolView:
        """What the gate needs of it."""
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
    """Verify another member's manifest, of which all but what it says of that member holds here too. Raises Untrusted."""
    manifest = _payload(Kind.MANIFEST, statement, belief.keys, Manifest)
    if manifest.pool != belief.pool:
        raise Untrusted("a manifest of another pool")
    if belief.host not in {member.id for member in manifest.members}:
        raise Untrusted("a manifest in which this host is no member")
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


def read_object(digest: Digest, envelope: ObjectEnvelope, keys: KeySet) -> Program | Segment:
    """Verify an object's digest, its signature and its form. Raises Untrusted."""
    name = _payload(Kind.OBJECT, envelope.statement, keys, ObjectName)
    if name != ObjectName(envelope.kind, digest) or digest_of(envelope.content.encode()) != digest:
        raise Untrusted(f"an object that is not {digest}")
    try:
        return decode_object(envelope)
    except msgspec.DecodeError as error:
        raise Untrusted(f"the object {digest} cannot be read: {error}") from error


def believe(belief: Belief, manifest: Manifest, envelopes: Mapping[Digest, ObjectEnvelope]) -> Belief:
    """Take a manifest with all of its objects, or nothing of it. Raises Untrusted."""
    believed = _take(belief, manifest, envelopes)
    return msgspec.structs.replace(believed, own_revision=manifest.revision)


def borrow(belief: Belief, lent: Manifest, envelopes: Mapping[Digest, ObjectEnvelope]) -> Belief:
    """Take another member's newer policy and members; what the own manifest says of this host alone stays. Raises Untrusted."""
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
    return _take(belief, merged, envelopes)


def _take(belief: Belief, manifest: Manifest, envelopes: Mapping[Digest, ObjectEnvelope]) -> Belief:
    segments = tuple(_object(digest, envelopes, belief.keys, Segment) for digest in manifest.segments)
    programs = {digest: _object(digest, envelopes, belief.keys, Program) for digest in manifest.programs}
    return msgspec.structs.replace(belief, manifest=manifest, segments=segments, programs=programs)


def _object(digest: Digest, envelopes: Mapping[Digest, ObjectEnvelope], keys: KeySet, kind: type[_T]) -> _T:
    envelope = envelopes.get(digest)
    if envelope is None:
        raise Untrusted(f"the object {digest} is missing")
    if (kind is Program) != (envelope.kind is ObjectKind.PROGRAM):
        raise Untrusted(f"the object {digest} is of another kind")
    value: Any = read_object(digest, envelope, keys)
    if not isinstance(value, kind):
        raise Untrusted(f"the object {digest} is of another kind")
    return value


def _payload(kind: Kind, statement: str, keys: KeySet, form: type[_T]) -> _T:
    try:
        return msgspec.json.decode(verify(kind, statement, keys), type=form)
    except msgspec.DecodeError as error:
        raise Untrusted(f"a {kind.value} that cannot be read: {error}") from error
