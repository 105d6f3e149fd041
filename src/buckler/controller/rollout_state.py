"""Where publishing stands, as it is kept in the store. A restart goes on from here; owns no decision."""

from __future__ import annotations

import msgspec

from buckler.model.bundle import Root, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.policy.bundle import Bundle
from buckler.policy.touched import TreeStage
from buckler.policy.whole import split_bundle
from buckler.ports.store import Unit


class StateName(msgspec.Struct, frozen=True):
    """A state of the pool by the root of its objects, which the store holds.

    ``state`` names what bears on packets: states that differ only in the names of rules are one.
    """

    root: Digest
    state: Digest


class PlannedStage(msgspec.Struct, frozen=True):
    """One stage of the change that is under way."""

    stage: Stage
    wanted: StateName
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

    ``in_force`` stands in the order of plans and of their stages, the furthest that any host was told last; ``holdings`` says
    whose it may be.
    """

    source: Revision = Revision(0)
    target: str = ""
    stages: tuple[PlannedStage, ...] = ()
    positions: dict[HostId, Position] = {}
    in_force: tuple[StateName, ...] = ()
    is_done: bool = True
    holdings: dict[HostId, tuple[Holding, ...]] = {}
    boundary: int = 0
    """When what holds of the declared changes by itself; 0: never."""
    held: tuple[str, ...] = ()
    """The documents that hold for now only, by key: so that each beginning and end is recorded once."""

    def current_stage(self) -> Stage:
        """Name the stage that the slowest host was told; STEADY when all is done."""
        if self.is_done or not self.stages:
            return Stage.STEADY
        slowest = min((position.index for position in self.positions.values()), default=0)
        return self.stages[max(slowest, 0)].stage


def read_rollout(unit: Unit) -> Rollout:
    """Return where publishing stands."""
    return parse_rollout(unit.revisions.rollout())


def parse_rollout(text: str) -> Rollout:
    """Read what was written; nothing was: nothing is published yet."""
    return msgspec.json.decode(text, type=Rollout) if text else Rollout()


def write_rollout(unit: Unit, rollout: Rollout) -> str:
    """Note where publishing stands, in the transaction that publishes; return it as it was written."""
    text = msgspec.json.encode(rollout).decode()
    unit.revisions.set_rollout(text)
    return text


def name_of(root: Digest, content: bytes) -> StateName:
    """Name a state by its root object."""
    heads = msgspec.json.decode(content, type=Root).segments
    return StateName(root, digest_of(canonical_bytes(heads)))


def state_of(stage: TreeStage, wanted: StateName) -> StateName:
    """Say how to find a stage again, once its objects are kept."""
    if stage.root == wanted.root:
        return wanted
    return name_of(stage.root, stage.objects[stage.root])


def store_bundle(unit: Unit, bundle: Bundle) -> StateName:
    """Keep a whole state's objects; return how to find it again."""
    root, objects = split_bundle(bundle)
    held = unit.objects.get(objects)
    unit.objects.put({digest: content for digest, content in objects.items() if digest not in held})
    return name_of(root, objects[root])
