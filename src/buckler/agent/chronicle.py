"""What happened here, in events: each thing once. Decides nothing and changes no kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from buckler.agent.engine import Outcome
from buckler.agent.names import Names
from buckler.agent.recorder import Recorder
from buckler.agent.residents import Residents
from buckler.gate.decision import Decision, Operation, Standing
from buckler.model.binding import policy_of
from buckler.model.bundle import Manifest
from buckler.model.domain import DomainFacts
from buckler.model.event import EventKind
from buckler.model.ids import Digest
from buckler.ports.hypervisor import DomainEvent

_LIFECYCLE = {
    "defined": EventKind.DOMAIN_DEFINED,
    "undefined": EventKind.DOMAIN_UNDEFINED,
    "started": EventKind.DOMAIN_STARTED,
    "suspended": EventKind.DOMAIN_SUSPENDED,
    "pmsuspended": EventKind.DOMAIN_SUSPENDED,
    "reboot": EventKind.DOMAIN_REBOOTED,
    "shutdown": EventKind.DOMAIN_SHUTDOWN,
    "resumed": EventKind.DOMAIN_RESUMED,
    "stopped": EventKind.DOMAIN_STOPPED,
    "crashed": EventKind.DOMAIN_CRASHED,
}
MOVES = frozenset({EventKind.MIGRATION_ARRIVED, EventKind.MIGRATION_LEFT, EventKind.MIGRATION_ABORTED})
_Card = tuple[str, str]


class Chronicle:
    """Remembers what was already told, until it changes."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._arriving: set[str] = set()
        self._open: dict[_Card, str] = {}
        self._closed: dict[_Card, str] = {}
        self._rogues: set[str] = set()
        self._enforced: tuple[int, Digest | None] = (0, None)
        self._digested: tuple[Manifest | None, Digest | None] = (None, None)

    def tell_gate(
        self, operation: Operation, facts: DomainFacts, decision: Decision, names: Names, move: Mapping[str, Any] = {}
    ) -> None:
        """A verdict of the gate. ``prepare`` is told only when it refuses: another question follows it."""
        kind = EventKind.GATE_ALLOWED if decision.allowed else EventKind.GATE_REFUSED
        if operation is Operation.PREPARE and decision.allowed:
            return
        if operation is Operation.MIGRATE and decision.allowed:
            kind = EventKind.MIGRATION_PREPARED
        reasons = [str(reason) for reason in decision.reasons]
        self._record(
            kind,
            facts.uuid,
            names,
            operation.value,
            **{**move, "name": facts.name, "standing": decision.standing.value, "reasons": reasons},
        )

    def tell_unreadable(self, operation: Operation, name: str, why: str) -> None:
        """The gate refused what it could not read: nothing is known but the name that libvirt gave it."""
        self._recorder.record(EventKind.GATE_REFUSED, cause=operation.value, name=name[:256], reasons=[why])

    def tell_lifecycle(self, event: DomainEvent, names: Names) -> EventKind | None:
        """An event of libvirt's, as what it means for the VM's life. A move is only named: ``tell_move`` tells it."""
        kind = self._meaning(event)
        if kind is not None and kind not in MOVES:
            self._record(kind, event.uuid, names, event.detail, at=event.at, name=event.name)
        return kind

    def tell_move(self, kind: EventKind, event: DomainEvent, names: Names, account: Mapping[str, Any]) -> None:
        """A VM that arrived, left or did not come, with what is known of its handover. It happened when libvirt said so."""
        self._record(kind, event.uuid, names, event.detail, at=event.at, **{**account, "name": event.name})

    def tell_outcome(self, outcome: Outcome, residents: Residents, names: Names, manifest: Manifest | None) -> None:
        """Differences between two passes: admissions, refusals, rogues, drift, a revision that now stands."""
        if outcome.drift:
            self._recorder.record(
                EventKind.DRIFT_REPAIRED, cause="drift", differed=list(outcome.drift), seconds=outcome.seconds
            )
        self._tell_cards(outcome, residents, names)
        self._tell_rogues(outcome, residents, names)
        is_told = manifest is not None and manifest.revision == outcome.enforced
        enforced = outcome.enforced, self._digest(manifest if is_told else None)
        if outcome.enforced and enforced != self._enforced:
            self._enforced = enforced
            policy: dict[str, Any] = {} if enforced[1] is None else {"policy": enforced[1]}
            self._recorder.record(
                EventKind.REVISION_ENFORCED, revision=outcome.enforced, seconds=outcome.seconds, **policy
            )

    def _digest(self, manifest: Manifest | None) -> Digest | None:
        """Of one revision hosts in different stages are told different things, and may lend them to each other."""
        if manifest is not self._digested[0]:
            self._digested = manifest, None if manifest is None else policy_of(manifest)
        return self._digested[1]

    def _tell_cards(self, outcome: Outcome, residents: Residents, names: Names) -> None:
        admitted = {outcome.desired.devices.get(index, "") for index in outcome.admitted}
        opened: dict[_Card, str] = {}
        closed: dict[_Card, str] = {}
        for one in residents.all():
            decision = outcome.desired.standing.get(one.facts.uuid)
            for plan in () if decision is None else decision.interfaces:
                card = (one.facts.uuid, plan.mac)
                if plan.device in admitted:
                    opened[card] = plan.device
                elif plan.reason:
                    closed[card] = plan.reason
        for card, device in opened.items():
            if self._open.get(card) != device:
                self._record(EventKind.INTERFACE_ADMITTED, card[0], names, "", mac=card[1], device=device)
        for card, reason in closed.items():
            if self._closed.get(card) != reason:
                self._record(EventKind.INTERFACE_REFUSED, card[0], names, reason, mac=card[1])
        for card in self._open.keys() - opened.keys() - closed.keys():
            self._record(EventKind.INTERFACE_REMOVED, card[0], names, "", mac=card[1], device=self._open[card])
        self._open, self._closed = opened, closed

    def _tell_rogues(self, outcome: Outcome, residents: Residents, names: Names) -> None:
        strange = (Standing.ROGUE, Standing.TWIN)
        rogues = {one.facts.uuid: one.facts for one in residents.all() if _standing(outcome, one.facts.uuid) in strange}
        for uuid in rogues.keys() - self._rogues:
            facts = rogues[uuid]
            reasons = [str(reason) for reason in outcome.desired.standing[uuid].reasons]
            macs = [card.mac for card in facts.interfaces]
            cause = "twin" if _standing(outcome, uuid) is Standing.TWIN else ""
            self._record(EventKind.DOMAIN_ROGUE, uuid, names, cause, name=facts.name, macs=macs, reasons=reasons)
        self._rogues = set(rogues)

    def _meaning(self, event: DomainEvent) -> EventKind | None:
        match event.what, event.detail:
            case "started", "migrated":
                self._arriving.add(event.uuid)
                return None  # still paused on its way; it has arrived once it is resumed here
            case "resumed", "migrated":
                self._arriving.discard(event.uuid)
                return EventKind.MIGRATION_ARRIVED
            case "suspended", "paused" if event.uuid in self._arriving:
                self._arriving.discard(event.uuid)
                return EventKind.MIGRATION_ARRIVED  # it was paused at the source, and is here
            case "stopped", "migrated":
                return EventKind.MIGRATION_LEFT
            case "stopped", _ if event.uuid in self._arriving:
                self._arriving.discard(event.uuid)
                return EventKind.MIGRATION_ABORTED
            case "stopped", "crashed":
                return EventKind.DOMAIN_CRASHED
        return _LIFECYCLE.get(event.what)

    def _record(self, kind: EventKind, uuid: str, names: Names, cause: str, *, at: float = 0.0, **detail: Any) -> None:
        vm, tenant = names.vm_of(uuid)
        self._recorder.record(kind, vm=vm, tenant=tenant, cause=cause, at=at, uuid=uuid, **detail)


def _standing(outcome: Outcome, uuid: str) -> Standing | None:
    decision = outcome.desired.standing.get(uuid)
    return None if decision is None else decision.standing
