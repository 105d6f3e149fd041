"""The pool engine: turns what is declared into signed manifests, stage by stage. Stateless but for the store."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from buckler.controller.moving import note_drained
from buckler.controller.numbering import allocate_numbers
from buckler.controller.observed import sights
from buckler.controller.orders import publish_orders
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
from buckler.controller.stepping import Acks, completed, forgotten, is_complete, noted
from buckler.controller.ticking import Ticked, at_time, record_ticks
from buckler.model.bundle import Stage
from buckler.model.ids import HostId, Revision
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.rollout import awaited_hosts, plan_rollout
from buckler.ports.store import StoreFailed, Unit

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
            awaited, acks = tuple(HostId(host) for host in awaited_hosts(state.hosts)), unit.acks.all()
            rollout = noted(before, unit.manifests.orders())
            rollout = self._replanned(unit, ticked, forgotten(rollout, awaited, acks))
            rollout = self._published(unit, state, rollout, acks)
            if not rollout.is_done and is_complete(rollout, awaited, acks):
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

    def _published(self, unit: Unit, state: State, rollout: Rollout, acks: Acks) -> Rollout:
        """Our own revision declares nothing: what was built for the one before is built for it too."""
        after = publish_orders(self._parts, unit, state, sights(unit), rollout, acks)
        if after.source != rollout.source and self._built and self._built[0] == (rollout.source, rollout.boundary):
            self._built = (after.source, rollout.boundary), self._built[1]
        return after
