"""What hosts are told and what they say they enforce: revisions, objects, manifests, acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from buckler.model.agentapi import Acknowledgement
from buckler.model.ids import Digest, HostId, Revision


class Tally(msgspec.Struct, frozen=True):
    """How many documents of a kind a revision created, configured or deleted, and the first names of them."""

    kind: str
    action: str
    count: int
    names: tuple[str, ...]


class RevisionRecord(msgspec.Struct, frozen=True):
    """One revision as it was allocated. ``changes`` None: of before changes were recorded; empty: it changed no document."""

    revision: Revision
    cause: str
    actor: str
    at: float
    comment: str = ""
    changes: tuple[Tally, ...] | None = ()


class Revisions(Protocol):
    """The pool's one counter of states, and how far publishing has come."""

    def current(self) -> Revision:
        """The newest allocated one; 0 before the first."""

    def allocate(self, cause: str, actor: str, at: float, comment: str = "", changes: Sequence[Tally] = ()) -> Revision:
        """The next one. Only inside ``write``: the row lock makes them visible in order. It is never changed again."""

    def find(self, revision: Revision) -> RevisionRecord | None:
        """One as it was allocated."""

    def published(self, below: int, limit: int) -> tuple[RevisionRecord, ...]:
        """The newest ``limit`` below (0: all) that changed documents, or of which that was not recorded, newest first."""

    def recorded_from(self) -> Revision:
        """The first one whose documents can be told; those of before were not kept by revision."""

    def rollout(self) -> str:
        """The rollout's state as its owner wrote it (JSON text); empty before the first."""

    def set_rollout(self, state: str) -> None:
        """Replace it."""


class PublishedManifest(msgspec.Struct, frozen=True):
    host: HostId
    revision: Revision
    stage: str
    statement: str
    at: float


class Manifests(Protocol):
    """Every manifest that was ever published."""

    def latest(self, host: HostId) -> PublishedManifest | None:
        """The host's newest."""

    def find(self, host: HostId, revision: Revision) -> PublishedManifest | None:
        """The host's of that very revision."""

    def at(self, revision: Revision) -> tuple[PublishedManifest, ...]:
        """Every host's of that very revision."""

    def put(self, manifest: PublishedManifest) -> None:
        """Publish one."""


class Objects(Protocol):
    """What manifests lead to, by digest: each what its digest says, for ever."""

    def get(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The contents of those that are held."""

    def put(self, objects: Mapping[Digest, bytes]) -> None:
        """Add objects; an equal digest is the same object."""


class Acks(Protocol):
    """What each host's kernel last proved to enforce."""

    def all(self) -> dict[HostId, Acknowledgement]:
        """The newest of every host."""

    def put(self, host: HostId, ack: Acknowledgement) -> None:
        """Replace the host's."""
