"""Manifests and objects as they were published, each proven before it is told of. Says nothing of any VM."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from buckler.controller.bound_words import Names, names_of
from buckler.controller.problems import Refused
from buckler.ledger.residence import Enforced
from buckler.model.binding import policy_of
from buckler.model.bundle import Manifest, RuleName, Segment
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.program import Program
from buckler.policy.pieces import BadPieces
from buckler.policy.walk import (
    Name,
    Node,
    Place,
    gather,
    read_programs,
    read_root,
    read_rules,
    read_segments,
)
from buckler.ports.publication import PublishedManifest
from buckler.ports.store import Unit
from buckler.trust.statement import KeySet, Kind, Untrusted, verify


class Listing(msgspec.Struct, frozen=True):
    """What a manifest says of packets that was published before manifests named a root: whole segments, each program."""

    segments: tuple[Digest, ...]
    programs: tuple[Digest, ...]
    rules: tuple[RuleName, ...]


class Policy(msgspec.Struct, frozen=True):
    """A state of the pool, put together again."""

    segments: tuple[Segment, ...]
    programs: dict[Digest, Program]
    rules: tuple[RuleName, ...]


class Shelf:
    """Manifests and objects as they were published, each proven before it is told of. Lives for one answer."""

    def __init__(self, unit: Unit, keys: KeySet) -> None:
        self._unit = unit
        self._keys = keys
        self._manifests: dict[tuple[str, int, str], Manifest | Listing] = {}
        self._nodes: dict[Name, Node] = {}
        self._known: dict[Digest, Segment] = {}
        self.names: Names = names_of(unit)

    def manifest(self, enforced: Enforced) -> Manifest | Listing:
        """The manifest whose policy a host enforced: its own, or one of the same revision that a member lent it."""
        key = (enforced.host, enforced.revision, enforced.policy)
        if key not in self._manifests:
            self._manifests[key] = self._found(enforced)
        return self._manifests[key]

    def policy(self, manifest: Manifest | Listing) -> Policy:
        """What a manifest leads to."""
        try:
            if isinstance(manifest, Listing):
                return self._listed(manifest)
            nodes = gather([(Place.ROOT, manifest.root)], self._nodes, self._unit.objects.get)
            root = read_root(nodes, manifest.root)
            segments = read_segments(nodes, root, self._known)
            found = Policy(tuple(segments.values()), read_programs(nodes), read_rules(nodes, root))
        except BadPieces as error:
            raise Refused(500, "a kept object is missing or was altered", str(error)) from error
        self._nodes |= nodes
        self._known |= segments
        return found

    def _found(self, enforced: Enforced) -> Manifest | Listing:
        revision = Revision(enforced.revision)
        own = self._unit.manifests.find(HostId(enforced.host), revision)
        for published in (*([own] if own else []), *self._others(enforced, own)):
            manifest = self._read(published)
            if enforced.policy in {"", _policy_of(manifest)}:
                return manifest
        raise Refused(500, "a kept manifest is missing", f"revision {revision} as entry {enforced.entry} names it")

    def _others(self, enforced: Enforced, own: PublishedManifest | None) -> tuple[PublishedManifest, ...]:
        if own is not None and (not enforced.policy or _policy_of(self._read(own)) == enforced.policy):
            return ()
        return self._unit.manifests.at(Revision(enforced.revision)) if enforced.policy else ()

    def _read(self, published: PublishedManifest) -> Manifest | Listing:
        try:
            payload = verify(Kind.MANIFEST, published.statement, self._keys)
            with suppress(msgspec.ValidationError):
                return msgspec.json.decode(payload, type=Manifest)
            return msgspec.json.decode(payload, type=Listing)
        except (Untrusted, msgspec.DecodeError) as error:
            raise Refused(500, "a kept manifest was altered", str(error)) from error

    def _listed(self, listing: Listing) -> Policy:
        contents = self._unit.objects.get((*listing.segments, *listing.programs))
        if any(digest_of(contents.get(each, b"")) != each for each in (*listing.segments, *listing.programs)):
            raise BadPieces("an object of an earlier manifest")
        segments = tuple(msgspec.json.decode(contents[each], type=Segment) for each in listing.segments)
        programs = {each: msgspec.json.decode(contents[each], type=Program) for each in listing.programs}
        return Policy(segments, programs, listing.rules)


def _policy_of(manifest: Manifest | Listing) -> Digest:
    """Name what it says of packets, as hosts told it then."""
    if isinstance(manifest, Manifest):
        return policy_of(manifest)
    return digest_of(canonical_bytes((sorted(manifest.segments), sorted(manifest.programs))))
