"""Where publishing stands, as it is kept in the store. A restart goes on from here; owns no decision."""

from __future__ import annotations

import msgspec

from buckler.model.agentapi import ObjectEnvelope, ObjectKind
from buckler.model.bundle import RuleName, Segment, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.program import Program
from buckler.policy.bundle import Bundle, segment_digest
from buckler.ports.store import StoreFailed, Unit


class BundleName(msgspec.Struct, frozen=True):
    """A bundle by the digests of its objects, which the store holds."""

    segments: tuple[Digest, ...] = ()
    programs: tuple[Digest, ...] = ()
    rules: tuple[RuleName, ...] = ()

    @property
    def state(self) -> Digest:
        """Name what bears on packets: states that differ only in the names of rules are one."""
        return digest_of(canonical_bytes((self.segments, self.programs)))


class PlannedStage(msgspec.Struct, frozen=True):
    """One stage of the change that is under way."""

    stage: Stage
    bundle: BundleName
    waits_for_all: bool


class Position(msgspec.Struct, frozen=True):
    """Which stage a host was told last. ``since`` is the first revision that told it this stage, ``revision`` the last.

    ``rest`` names everything in its manifest that is no object: members, draining, adoptions.
    """

    index: int
    since: Revision
    revision: Revision
    rest: str


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """A state that a host was told at ``revision``. Until its stream took it, the host cannot enforce it."""

    revision: Revision
    state: Digest
    is_taken: bool = False


class Rollout(msgspec.Struct, frozen=True):
    """``source`` is the newest revision that the last stage takes in. ``in_force``: what some host may still enforce.

    ``in_force`` stands in the order of publishing, the last published state last; ``holdings`` says whose it may be.
    """

    source: Revision = Revision(0)
    target: str = ""
    stages: tuple[PlannedStage, ...] = ()
    positions: dict[HostId, Position] = {}
    in_force: tuple[BundleName, ...] = ()
    is_done: bool = True
    holdings: dict[HostId, tuple[Holding, ...]] = {}

    def current_stage(self) -> Stage:
        """Name the stage that the slowest host was told; STEADY when all is done."""
        if self.is_done or not self.stages:
            return Stage.STEADY
        slowest = min((position.index for position in self.positions.values()), default=0)
        return self.stages[max(slowest, 0)].stage


def read_rollout(unit: Unit) -> Rollout:
    """Return where publishing stands."""
    text = unit.revisions.rollout()
    return msgspec.json.decode(text, type=Rollout) if text else Rollout()


def write_rollout(unit: Unit, rollout: Rollout) -> None:
    """Note where publishing stands, in the transaction that publishes."""
    unit.revisions.set_rollout(msgspec.json.encode(rollout).decode())


def store_bundle(unit: Unit, bundle: Bundle) -> BundleName:
    """Keep a bundle's objects; return how to find it again. Objects are signed when they are handed out."""
    objects = bundle.objects()
    known = unit.objects.known(objects)
    for digest, content in objects.items():
        if digest not in known:
            kind = ObjectKind.PROGRAM if digest in bundle.programs else ObjectKind.SEGMENT
            unit.objects.put(digest, ObjectEnvelope(kind, content.decode(), ""))
    segments = tuple(segment_digest(segment) for segment in bundle.segments)
    return BundleName(segments, tuple(sorted(bundle.programs)), bundle.rules)


def load_bundle(unit: Unit, name: BundleName) -> Bundle:
    """Read a bundle back."""
    segments = tuple(msgspec.json.decode(_content(unit, digest), type=Segment) for digest in name.segments)
    programs = {digest: msgspec.json.decode(_content(unit, digest), type=Program) for digest in name.programs}
    return Bundle(segments, programs, name.rules)


def _content(unit: Unit, digest: Digest) -> str:
    envelope = unit.objects.get(digest)
    if envelope is None:
        raise StoreFailed(f"the object {digest} is missing from the store")
    return envelope.content
