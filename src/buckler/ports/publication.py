"""What hosts are told and what they say they enforce: revisions, objects, manifests, acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
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


class Order(msgspec.Struct, frozen=True):
    """What a host is to be told now: all that its manifest is made of, but its name. ``taken``: what its stream took last."""

    host: HostId
    revision: Revision
    stage: str
    root: Digest
    rest: Digest
    at: float
    taken: Revision = Revision(0)


class Told(msgspec.Struct, frozen=True):
    """What any number of hosts are to be told alike."""

    revision: Revision
    stage: str
    root: Digest
    rest: Digest
    at: float


class Manifests(Protocol):
    """What each host is to be told, and every manifest that one was told."""

    def order(self, host: HostId) -> Order | None:
        """What the host is to be told now."""

    def orders(self) -> dict[HostId, Order]:
        """Every host's."""

    def taken(self, since: Revision) -> dict[HostId, Revision]:
        """What streams took last, of the hosts whose that is ``since`` or newer."""

    def set_orders(self, told: Told, hosts: Sequence[HostId]) -> None:
        """Replace the orders of these hosts; what they took is kept."""

    def latest(self, host: HostId) -> PublishedManifest | None:
        """The newest that the host was told."""

    def find(self, host: HostId, revision: Revision) -> PublishedManifest | None:
        """The host's of that very revision."""

    def at(self, revision: Revision) -> tuple[PublishedManifest, ...]:
        """Every host's of that very revision."""

    def put(self, manifest: PublishedManifest) -> None:
        """Keep one that the host's stream takes."""


class Objects(Protocol):
    """What manifests lead to, by digest: each what its digest says, for ever."""

    def get(self, digests: Iterable[Digest]) -> dict[Digest, bytes]:
        """The contents of those that are held."""

    def put(self, objects: Mapping[Digest, bytes]) -> None:
        """Add objects; an equal digest is the same object."""


class Written(StrEnum):
    """What kind of row was written."""

    DOCUMENT = "document"
    VM = "vm"
    HOST = "host"
    OBSERVATION = "observation"


class Change(msgspec.Struct, frozen=True):
    """One row that was written: ``name`` is a document's ``kind/tenant/name``, else an id."""

    what: Written
    name: str


class Changes(Protocol):
    """Which rows were written, in the order of commits. The books write it; nothing here is ever the only place of anything."""

    def newest(self) -> int:
        """The number of the last one; 0 before the first."""

    def since(self, number: int) -> tuple[int, tuple[Change, ...]] | None:
        """The number of the last one, and what was written after ``number``; None when that is not known any more.

        0 and nothing where ``number`` itself is not there yet: then this is a snapshot of before it.
        """

    def forget(self, through: int) -> None:
        """Drop those up to a number; the last one is kept, so that what was dropped can be told from what never was."""


class Acks(Protocol):
    """What each host's kernel last proved to enforce."""

    def all(self) -> dict[HostId, Acknowledgement]:
        """The newest of every host."""

    def put(self, host: HostId, ack: Acknowledgement) -> None:
        """Replace the host's."""
