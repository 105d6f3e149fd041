"""The host's state and what is done about each thing that happens. Runs in the worker's thread only; starts no thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from buckler.agent.belief import Belief
from buckler.agent.chores import Chores
from buckler.agent.chronicle import MOVES, Chronicle
from buckler.agent.desired import Desired
from buckler.agent.doorman import Answer, Request
from buckler.agent.engine import Engine, Outcome
from buckler.agent.handover.account import Account
from buckler.agent.handover.desk import Desk
from buckler.agent.memory import Memory
from buckler.agent.names import Names, names_of
from buckler.agent.residents import Residents, Snapshot
from buckler.agent.residing import Residing, read_residence
from buckler.agent.timekeeping import Timekeeper
from buckler.gate.decide import decide
from buckler.gate.decision import Decision, Operation, Reason, Standing
from buckler.gate.domain import BadDomain, parse_domain
from buckler.model.bundle import Residence
from buckler.model.domain import DomainFacts
from buckler.model.event import EventKind
from buckler.model.ids import Revision, VmId
from buckler.ports.hypervisor import DomainEvent

_MAY_REFUSE = {operation.value: operation for operation in Operation if operation is not Operation.PLUG}
_LEAVING = frozenset({"stopped", "release"})
_NOTHING_YET = Outcome(Desired(), Revision(0), frozenset())


class Parts(msgspec.Struct, frozen=True):
    """What a steward works with. ``later`` does something in the worker's thread, in turn."""

    engine: Engine
    residents: Residents
    chronicle: Chronicle
    memory: Memory
    timekeeper: Timekeeper
    residing: Residing
    chores: Chores
    desk: Desk
    later: Callable[[Callable[[], None]], None]
    on_step: Callable[[str], None]
    changed: Callable[[], None]


class Steward:
    """``changed`` is called after every pass: what the controller should know may be new by then."""

    def __init__(self, parts: Parts, belief: Belief) -> None:
        self._parts = parts
        self._belief = belief
        self._names = names_of(belief)
        self._outcome = _NOTHING_YET
        self._awaited: set[str] = set()  # uuids that come by migration and have not arrived

    @property
    def awaited(self) -> frozenset[str]:
        """Uuids of domains that are on their way here: whatever libvirt says, they do not live here yet."""
        return frozenset(self._awaited)

    @property
    def belief(self) -> Belief:
        return self._belief

    @property
    def names(self) -> Names:
        return self._names

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    @property
    def residents(self) -> Residents:
        return self._parts.residents

    def tidy(self) -> None:
        """One pass, and telling what came of it: first whoever waits for it, then the disk."""
        self._parts.timekeeper.keep(self._belief.manifest)
        self._outcome = self._parts.engine.reconcile(self._belief)
        self._parts.changed()
        self._parts.timekeeper.tell()
        self._parts.chronicle.tell_outcome(self._outcome, self._parts.residents, self._names, self._belief.manifest)
        self._parts.memory.keep(self._outcome, self._parts.residents)

    def sweep(self) -> None:
        """A pass that also proves contents and frees what is over, though nobody told of a change."""
        self._parts.engine.sweep()
        self.tidy()

    def take_belief(self, belief: Belief) -> None:
        """A newer manifest, or newer keys."""
        self._belief = belief
        self._names = names_of(belief)
        self.tidy()
        self._look_after()

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Libvirt was asked."""
        self._parts.residents.take(snapshot)
        self.tidy()
        self._look_after()

    def take_sight(self, snapshot: Snapshot) -> None:
        """Libvirt answers for the first time, or again."""
        self._parts.residents.take(snapshot)
        self._parts.memory.tell_gap(self._parts.residents)
        for uuid in self._awaited & self._parts.residents.running():  # its event was missed
            self._arrive(uuid, time.time())
        self._awaited.clear()
        self.take_snapshot(snapshot)

    def lose_sight(self) -> None:
        """Libvirt is away: everything stays as it is."""
        self._parts.memory.lose_sight()

    def take_event(self, event: DomainEvent) -> None:
        """Something happened to a domain; libvirt is being asked anew meanwhile."""
        kind = self._parts.chronicle.tell_lifecycle(event, self._names)
        if event.what == "device-added":
            self._parts.chores.expect_card(event)
        if event.what == "started" and event.detail != "migrated":
            self._awaited.discard(event.uuid)  # the migration that was announced never began
        if kind in MOVES:
            self._close_move(kind, event)

    def take_hook(self, request: Request) -> Answer:
        """Libvirt's hook asks, and waits."""
        operation = _MAY_REFUSE.get(request.operation)
        if operation is None:
            if request.operation in _LEAVING:
                self._leave(request)
            return Answer(allowed=True)
        try:
            facts = parse_domain(request.xml)
        except BadDomain as error:
            self._parts.chronicle.tell_unreadable(operation, request.name, str(error))
            return Answer(allowed=False, reason=str(error))
        self._parts.on_step(f"hook {operation.value}")
        decision = decide(operation, facts, self._belief.view())
        if operation is Operation.MIGRATE and decision.allowed:
            decision = self._await(facts, decision)
        if operation is Operation.START and decision.allowed:
            decision = self._receive(facts, decision)
        move = self._told(self._parts.desk.account(facts.uuid)) if operation is Operation.MIGRATE else {}
        self._parts.chronicle.tell_gate(operation, facts, decision, self._names, move)
        self._parts.on_step(f"answer {operation.value}")
        return Answer(decision.allowed, "; ".join(str(reason) for reason in decision.reasons))

    def _close_move(self, kind: EventKind, event: DomainEvent) -> None:
        """It is told once the handover is over, which may be after libvirt's word."""
        desk, uuid = self._parts.desk, event.uuid
        endpoint = self._names.by_uuid.get(uuid)
        vm = VmId("") if endpoint is None else endpoint.vm

        def tell(account: Account) -> None:
            self._parts.later(lambda: self._parts.chronicle.tell_move(kind, event, self._names, self._told(account)))

        if kind is EventKind.MIGRATION_LEFT:
            desk.left(uuid, vm, tell)
        elif kind is EventKind.MIGRATION_ABORTED:
            self._awaited.discard(uuid)
            desk.aborted(uuid, tell)
        else:
            desk.arrived(uuid, vm, self._arrive(uuid, event.at), tell)

    def _arrive(self, uuid: str, at: float) -> int:
        """It lives here from now on: a stay of its own begins. Returns its epoch; 0 for a domain of no VM."""
        self._awaited.discard(uuid)
        endpoint, account = self._names.by_uuid.get(uuid), self._parts.desk.account(uuid)
        if endpoint is None:
            return 0
        told = 0 if account is None else account.epoch
        return self._parts.residing.arrive(endpoint.vm, self._carried(uuid, endpoint.vm), at, told)

    def _told(self, account: Account | None) -> dict[str, Any]:
        """Hosts by the names that the pool gives them."""
        if account is None:
            return {}
        names = {member.id: member.name for member in self._belief.members}
        detail = account.detail()
        return detail | {side: names.get(detail[side], detail[side]) for side in ("from", "to") if side in detail}

    def _await(self, facts: DomainFacts, decision: Decision) -> Decision:
        """It is on its way here, unless the host that it claims to come from says that the VM stays there."""
        account = self._parts.desk.account(facts.uuid)
        if account is not None and account.stays:
            return refuse_copy(decision, self._told(account).get("from", account.origin))
        self._awaited.add(facts.uuid)
        return decision

    def _receive(self, facts: DomainFacts, decision: Decision) -> Decision:
        """The taps exist, QEMU does not: shield and admit them before it may."""
        self._parts.residents.arrive(facts, time.monotonic())
        if decision.standing is Standing.REGISTERED and facts.uuid not in self._awaited:
            self._parts.residing.begin(decision.vm, self._carried(facts.uuid, decision.vm), time.time())
        self.tidy()
        shut = [
            plan for plan in decision.interfaces if plan.endpoint is not None and not self._is_admitted(plan.device)
        ]
        if not shut:
            return decision
        self._parts.residents.leave(facts.uuid)
        return refuse_unshielded(decision, tuple(plan.device or plan.mac for plan in shut), self._outcome.problems)

    def _carried(self, uuid: str, vm: VmId) -> Residence | None:
        facts = self._parts.residents.facts_of(uuid)
        return None if facts is None else read_residence(facts.residence, vm, self._belief)

    def _look_after(self) -> None:
        """Whatever the newest state of things asks for beside the kernel."""
        residents = self._parts.residents
        for uuid in residents.running():
            decision = self._outcome.desired.standing.get(uuid)
            if decision is not None and decision.standing is Standing.REGISTERED:
                self._parts.residing.find(decision.vm, self._carried(uuid, decision.vm), time.time())
        self._parts.chores.look_after(self._belief, residents, self._outcome, self._parts.residing.statements)

    def _is_admitted(self, device: str) -> bool:
        return any(self._outcome.desired.devices.get(index) == device for index in self._outcome.admitted)

    def _leave(self, request: Request) -> None:
        try:
            facts = parse_domain(request.xml)
        except BadDomain:
            return
        self._awaited.discard(facts.uuid)
        self._parts.residents.leave(facts.uuid)
        self.tidy()


def refuse_copy(decision: Decision, host: str) -> Decision:
    """Turn an allowance into a refusal because the VM runs on ``host`` and is not leaving it."""
    reason = Reason(f"the VM runs on {host} and is not leaving it", "a copy needs an identity of its own")
    return msgspec.structs.replace(decision, allowed=False, standing=Standing.TWIN, reasons=(reason,))


def refuse_unshielded(decision: Decision, devices: tuple[str, ...], problems: tuple[str, ...]) -> Decision:
    """Turn an allowance into a refusal because the kernel does not hold what was decided."""
    why = f"the shield of {', '.join(devices)} does not stand: {'; '.join(problems) or 'the tap was not found'}"
    hint = "buckler agent status on this host says more"
    return msgspec.structs.replace(decision, allowed=False, reasons=(Reason(why, hint),))
