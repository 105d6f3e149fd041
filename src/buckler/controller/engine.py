"""The pool engine: turns what is declared into what hosts are told, stage by stage. The store alone is the truth."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from buckler.controller.mirror import Mirror
from buckler.controller.moving import note_drained
from buckler.controller.orders import Rests, publish_orders
from buckler.controller.parts import Parts
from buckler.controller.rollout_state import PlannedStage, Rollout, StateName, parse_rollout, state_of, write_rollout
from buckler.controller.stepping import AcksAsked, completed, forgotten, is_complete, not_taken, noted
from buckler.controller.target import Target
from buckler.controller.ticking import Ticked, at_time, record_ticks
from buckler.model.bundle import Stage
from buckler.model.ids import Digest, Revision
from buckler.policy.pieces import BadPieces
from buckler.policy.rollout import awaited_hosts
from buckler.policy.touched import TreePlanner
from buckler.ports.store import StoreFailed, Unit

_log = structlog.get_logger("buckler.controller")
_POLL = 2.0
_RETRY = 1.0


class Engine:
    """Keeps in memory what it need not read or work out twice; after any failure it begins anew from the store."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._mirror = Mirror()
        self._target: Target | None = None
        self._planner = TreePlanner()
        self._stood = "", Rollout()
        self._rests = Rests()

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
        try:
            with self._parts.store.write() as unit:
                return self._step(unit)
        except BaseException:
            # What was read and numbered in this transaction never was.
            self._mirror, self._target, self._planner, self._rests = Mirror(), None, TreePlanner(), Rests()
            raise

    def _step(self, unit: Unit) -> bool:
        state = self._mirror.look(unit)
        if note_drained(self._parts, unit, state):
            state = self._mirror.look(unit)
        before, ticked = self._standing(unit), at_time(state, self._parts.clock())
        state = ticked.state
        if before.held != ticked.held:
            record_ticks(self._parts, unit, before.held, ticked)
        awaited, acks = awaited_hosts(state.hosts), AcksAsked(unit.acks.all)
        since = not_taken(before)
        rollout = before if since is None else noted(before, unit.manifests.taken(since))
        rollout = self._replanned(unit, ticked, forgotten(rollout, awaited, acks))
        rollout = publish_orders(self._parts, unit, state, self._mirror.seen(), rollout, acks, self._rests)
        if not rollout.is_done and is_complete(rollout, awaited, acks):
            rollout = completed(rollout)
        if rollout != before:
            self._stood = write_rollout(unit, rollout), rollout
        self._mirror.tidy(unit)
        return rollout != before

    def _standing(self, unit: Unit) -> Rollout:
        """Where publishing stands, read again only if it is not what was written last."""
        text = unit.revisions.rollout()
        if text != self._stood[0]:
            self._stood = text, parse_rollout(text)
        return self._stood[1]

    def _replanned(self, unit: Unit, ticked: Ticked, before: Rollout) -> Rollout:
        """Take in what was declared, began or ended since: a new plan if it bears on packets, else the old one."""
        source = unit.revisions.current()
        if source == before.source and before.target and ticked.boundary == before.boundary:
            return msgspec.structs.replace(before, held=ticked.held)
        if self._target is None:
            self._target = Target(unit)
        wanted = self._target.settle(unit, ticked.state)
        planned = self._planned(unit, self._target, before, wanted, source)
        return msgspec.structs.replace(planned, boundary=ticked.boundary, held=ticked.held)

    def _planned(self, unit: Unit, target: Target, before: Rollout, wanted: StateName, source: Revision) -> Rollout:
        if wanted.state == before.target:
            return _renamed(before, wanted, source)
        in_force = tuple(each.root for each in before.in_force)
        try:
            plan = self._planner.plan(in_force, wanted.root, lambda digests: target.fetch(unit, digests))
        except BadPieces as error:
            raise StoreFailed(f"a state cannot be read from the store: {error}") from error
        fresh: dict[Digest, bytes] = {}
        for each in plan:
            fresh |= each.objects
        unit.objects.put(fresh)
        stages = tuple(PlannedStage(each.stage, state_of(each, wanted), each.waits_for_all) for each in plan)
        stages = stages or (PlannedStage(Stage.OPEN, wanted, waits_for_all=False),)
        return Rollout(source, wanted.state, stages, in_force=before.in_force, is_done=False, holdings=before.holdings)


def _renamed(before: Rollout, wanted: StateName, source: Revision) -> Rollout:
    """Packets see no difference; rules may have new names."""
    if not before.stages:
        return msgspec.structs.replace(before, source=source)
    last = msgspec.structs.replace(before.stages[-1], wanted=wanted)
    return msgspec.structs.replace(before, source=source, stages=(*before.stages[:-1], last))
