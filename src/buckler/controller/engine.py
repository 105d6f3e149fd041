"""The pool engine: turns what is declared into signed manifests, stage by stage. Stateless but for the store."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from buckler.controller.manifests import Errand, errand_for, members, rest_of
from buckler.controller.moving import note_drained
from buckler.controller.numbering import allocate_numbers
from buckler.controller.observed import sights
from buckler.controller.parts import Parts
from buckler.controller.pool_state import State, load_state
from buckler.controller.rollout_state import (
    PlannedStage,
    Rollout,
    load_bundle,
    read_rollout,
    store_bundle,
    write_rollout,
)
from buckler.controller.stepping import completed, forgotten, is_complete, moved, next_index, told
from buckler.controller.ticking import Ticked, at_time, record_ticks
from buckler.model.bundle import Manifest, Members, Stage
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision
from buckler.model.pool import Host, HostState
from buckler.policy.bundle import Bundle, build_bundle, build_members
from buckler.policy.rollout import awaited_hosts, plan_rollout
from buckler.ports.publication import PublishedManifest
from buckler.ports.store import StoreFailed, Unit
from buckler.trust.statement import Kind, sign

_log = structlog.get_logger("buckler.controller")
_POLL = 2.0
_RETRY = 1.0


class Engine:
    """Keeps nothing but a bundle that it need not build twice."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._built: tuple[tuple[Revision, int], Bundle] | None = None

    async def keep_publishing(self) -> None:
        """Publish whenever something changed, for ever; what fails is tried again and opens nothing meanwhile."""
        parts = self._parts
        while True:
            count, patience = parts.work.count, _POLL
            try:
                if await asyncio.to_thread(self.step):
                    parts.news.ring()
                    continue
            except Exception as error:
                _log.error("publishing failed", exc_info=not isinstance(error, StoreFailed), error=str(error))
                patience = _RETRY
            await parts.work.wait(count, patience)

    def step(self) -> bool:
        """Take one step in one transaction. Say whether anything was done."""
        with self._parts.store.write() as unit:
            state = load_state(unit)
            if note_drained(self._parts, unit, state):
                state = load_state(unit)
            before, ticked = read_rollout(unit), at_time(state, self._parts.clock())
            state = ticked.state
            if before.held != ticked.held:
                record_ticks(self._parts, unit, before.held, ticked)
            awaited = tuple(HostId(host) for host in awaited_hosts(state.hosts))
            rollout = self._replanned(unit, ticked, forgotten(before, awaited, unit.acks.all()))
            rollout = self._published(unit, state, rollout)
            if not rollout.is_done and is_complete(rollout, awaited, unit.acks.all()):
                rollout = completed(rollout)
            if rollout != before:
                write_rollout(unit, rollout)
            return rollout != before

    def _target(self, unit: Unit, state: State, which: tuple[Revision, int]) -> Bundle:
        """Build what is declared. ``which``: the revision, and the time at which what holds of it changes."""
        if self._built is None or self._built[0] != which:
            numbers = allocate_numbers(unit, state.pool, state.documents)
            self._built = which, build_bundle(state.pool, state.documents, numbers)
        return self._built[1]

    def _replanned(self, unit: Unit, ticked: Ticked, before: Rollout) -> Rollout:
        """Take in what was declared, began or ended since: a new plan if it bears on packets, else the old one."""
        source = unit.revisions.current()
        if source == before.source and before.target and ticked.boundary == before.boundary:
            return msgspec.structs.replace(before, held=ticked.held)
        target = self._target(unit, ticked.state, (source, ticked.boundary))
        planned = self._planned(unit, before, target, source)
        return msgspec.structs.replace(planned, boundary=ticked.boundary, held=ticked.held)

    def _planned(self, unit: Unit, before: Rollout, target: Bundle, source: Revision) -> Rollout:
        name = target.digest()
        if name == before.target:
            return self._renamed(unit, before, target, source)
        in_force = [load_bundle(unit, each) for each in before.in_force]
        stages = tuple(
            PlannedStage(each.stage, store_bundle(unit, each.bundle), each.waits_for_all)
            for each in plan_rollout(in_force, target)
        )
        if not stages:
            stages = (PlannedStage(Stage.OPEN, store_bundle(unit, target), waits_for_all=False),)
        return Rollout(source, name, stages, in_force=before.in_force, is_done=False, holdings=before.holdings)

    def _renamed(self, unit: Unit, before: Rollout, target: Bundle, source: Revision) -> Rollout:
        """Packets see no difference; rules may have new names."""
        if not before.stages:
            return msgspec.structs.replace(before, source=source)
        last = before.stages[-1]
        stages = (*before.stages[:-1], msgspec.structs.replace(last, wanted=store_bundle(unit, target)))
        return msgspec.structs.replace(before, source=source, stages=stages)

    def _published(self, unit: Unit, state: State, rollout: Rollout) -> Rollout:
        """Tell each host the stage that it may take now, if it was not told already."""
        hosts = members(state)
        if not rollout.stages:
            return rollout
        seen, acks = sights(unit), unit.acks.all()
        awaited = tuple(HostId(host) for host in awaited_hosts(state.hosts))
        positions = {host.id: rollout.positions[host.id] for host in hosts if host.id in rollout.positions}
        due = []
        for host in hosts:
            errand = errand_for(self._parts, state, seen, host)
            index, rest = next_index(rollout, host.id, awaited, acks), rest_of(self._parts, state, host, errand)
            position = positions.get(host.id)
            if position is None or position.index != index or position.rest != rest:
                due.append((host, index, rest, errand))
        if not due:
            return rollout
        revision = unit.revisions.allocate("publish", "controller", self._parts.clock())
        everybody = canonical_bytes(Members(build_members(state.hosts)))
        unit.objects.put({digest_of(everybody): everybody})
        for host, index, rest, errand in due:
            stage = rollout.stages[index]
            self._publish(unit, host, stage, revision, errand, digest_of(everybody))
            positions[host.id] = moved(positions.get(host.id), index, revision, rest)
            rollout = told(rollout, host.id, stage.wanted, revision)
        return msgspec.structs.replace(rollout, positions=positions, source=self._through(rollout, revision))

    def _through(self, rollout: Rollout, revision: Revision) -> Revision:
        """Our own revision declares nothing: what was built for the one before is built for it too."""
        if self._built is not None and self._built[0] == (rollout.source, rollout.boundary):
            self._built = (revision, rollout.boundary), self._built[1]
        return revision

    def _publish(
        self,
        unit: Unit,
        host: Host,
        stage: PlannedStage,
        revision: Revision,
        errand: Errand,
        members: Digest,
    ) -> None:
        manifest = self._manifest(host, stage, revision, errand, members)
        statement = sign(Kind.MANIFEST, canonical_bytes(manifest), self._parts.keys.issuing)
        unit.manifests.put(PublishedManifest(host.id, revision, stage.stage.value, statement, manifest.issued_at))

    def _manifest(
        self, host: Host, stage: PlannedStage, revision: Revision, errand: Errand, members: Digest
    ) -> Manifest:
        return Manifest(
            pool=self._parts.settings.pool,
            host=host.id,
            host_name=host.name,
            revision=revision,
            stage=stage.stage,
            issued_at=self._parts.clock(),
            root=stage.wanted.root,
            members=members,
            draining=host.state is not HostState.ACTIVE,
            adoptions=errand.adoptions,
            twins=errand.twins,
        )
