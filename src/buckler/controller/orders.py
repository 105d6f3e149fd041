"""What each host is to be told now, and the manifest that is signed of it when its stream asks. Plans no stage.

An order is durable; its manifest follows from it alone: all that it says of the pool is in objects that the order names.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from operator import is_not

import msgspec

from buckler.controller.manifests import Errand, errands_of, may_have_errand, members
from buckler.controller.parts import Parts
from buckler.controller.passports import issuing_id
from buckler.controller.pool_state import Registered, State
from buckler.controller.rollout_state import Position, Rollout, StateName
from buckler.controller.sights import Seen
from buckler.controller.stepping import Acks, moved, next_indexes, told_all
from buckler.model.bundle import Manifest, Members, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.pool import Host, HostState
from buckler.policy.bundle import build_members
from buckler.policy.rollout import awaited_hosts
from buckler.ports.publication import Order, PublishedManifest, Told
from buckler.ports.store import StoreFailed, Unit
from buckler.trust.statement import Kind, sign


class Rest(msgspec.Struct, frozen=True):
    """What a host's manifest says beside the pool's state, and who signs it. Kept as an object: many hosts have the same."""

    members: Digest
    draining: bool
    adoptions: dict[str, str]
    twins: tuple[str, ...]
    issuer: str


class Rests:
    """Every host's rest, worked out again only for other hosts, VMs or reports: known by the objects that they are."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._found: tuple[dict[Digest, bytes], Mapping[HostId, Digest]] = ({}, {})
        self._registered: tuple[Registered, ...] = ()
        self._hosts: tuple[Host, ...] | None = None
        self._everybody = b""

    def give(self, parts: Parts, state: State, seen: Seen) -> tuple[dict[Digest, bytes], Mapping[HostId, Digest]]:
        """Give the objects, and each host's rest by digest."""
        if state.hosts is not self._hosts:
            self._hosts, self._everybody = state.hosts, canonical_bytes(Members(build_members(state.hosts)))
        of = (state.hosts, state.registered, seen, parts.keys.issuing)
        is_same = [one is other for one, other in zip(of, self._of or (None,) * len(of), strict=True)]
        if not all(is_same):
            if not (is_same[0] and is_same[2] and is_same[3]) or not self._is_alike(parts, state, seen):
                self._found = _rests(parts, state, seen, self._everybody)
            self._registered, self._of = state.registered, of
        return self._found

    def _is_alike(self, parts: Parts, state: State, seen: Seen) -> bool:
        """Say whether the VMs that differ from before have no errand, and had none: then everybody's is what it was."""
        before, now = self._registered, state.registered
        if len(before) != len(now):
            return False
        pairs = compress(zip(before, now, strict=True), map(is_not, before, now))
        return not any(may_have_errand(parts, each, seen) for pair in pairs for each in pair)


def publish_orders(
    parts: Parts, unit: Unit, state: State, seen: Seen, rollout: Rollout, acks: Acks, told: Rests
) -> Rollout:
    """Order for each host the stage that it may take now, if that is not ordered already."""
    if not rollout.stages:
        return rollout
    hosts = [host.id for host in members(state)]
    positions = {host: rollout.positions[host] for host in hosts if host in rollout.positions}
    indexes = next_indexes(rollout, hosts, awaited_hosts(state.hosts), acks)
    objects, rests = told.give(parts, state, seen)
    due: dict[tuple[int, Digest], list[HostId]] = {}
    for host in hosts:
        position, index, rest = positions.get(host), indexes[host], rests[host]
        if position is None or position.index != index or position.rest != rest:
            due.setdefault((index, rest), []).append(host)
    if not due:
        return rollout
    unit.objects.put(objects)
    at = parts.clock()
    revision = unit.revisions.allocate("publish", "controller", at)
    states: dict[HostId, StateName] = {}
    made: dict[Position | None, Position] = {}
    for (index, rest), alike in due.items():
        stage = rollout.stages[index]
        unit.manifests.set_orders(Told(revision, stage.stage.value, stage.wanted.root, rest, at), alike)
        made.clear()
        for host in alike:
            before = positions.get(host)
            positions[host] = made.get(before) or made.setdefault(before, moved(before, index, revision, rest))
        states |= dict.fromkeys(alike, stage.wanted)
    rollout = told_all(rollout, states, revision)
    return msgspec.structs.replace(rollout, positions=positions, source=revision)


def take_order(parts: Parts, unit: Unit, host: Host) -> PublishedManifest | None:
    """Sign the manifest of the host's order, for its stream; the same order has the same manifest. Raises StoreFailed."""
    order = unit.manifests.order(host.id)
    if order is None:
        return None
    found = unit.manifests.find(host.id, order.revision)
    if found is not None:
        return found
    manifest = manifest_of(parts.settings.pool, host, order, _rest(unit, order.rest))
    statement = sign(Kind.MANIFEST, canonical_bytes(manifest), parts.keys.issuing)
    published = PublishedManifest(host.id, order.revision, order.stage, statement, order.at)
    unit.manifests.put(published)
    return published


def manifest_of(pool: str, host: Host, order: Order, rest: Rest) -> Manifest:
    """Say what an order means for its host."""
    return Manifest(
        pool=pool,
        host=host.id,
        host_name=host.name,
        revision=order.revision,
        stage=Stage(order.stage),
        issued_at=order.at,
        root=order.root,
        members=rest.members,
        draining=rest.draining,
        adoptions=rest.adoptions,
        twins=rest.twins,
    )


def _rests(
    parts: Parts, state: State, seen: Seen, everybody: bytes
) -> tuple[dict[Digest, bytes], Mapping[HostId, Digest]]:
    """Give each host's rest by digest; hosts without an errand of their own share it."""
    everyone = digest_of(everybody)
    objects = {everyone: everybody}
    errands, common = errands_of(parts, state, seen)
    shared: dict[bool, Digest] = {}
    found: dict[HostId, Digest] = {}
    for host in members(state):
        is_draining, errand = host.state is not HostState.ACTIVE, errands.get(host.id)
        if errand is not None or is_draining not in shared:
            own = errand or Errand({}, ())
            adoptions = {**common, **own.adoptions}
            rest = Rest(everyone, is_draining, adoptions, own.twins, issuing_id(parts))
            content = canonical_bytes(rest)
            objects[digest_of(content)] = content
            found[host.id] = digest_of(content)
            if errand is None:
                shared[is_draining] = found[host.id]
        else:
            found[host.id] = shared[is_draining]
    return objects, found


def _rest(unit: Unit, digest: Digest) -> Rest:
    content = unit.objects.get([digest]).get(digest)
    if content is None:
        raise StoreFailed(f"the object {digest} is missing from the store")
    return msgspec.json.decode(content, type=Rest)


def revision_of(order: Order | None) -> Revision:
    """Number what a host is to be told; 0 for nothing yet."""
    return order.revision if order is not None else Revision(0)
