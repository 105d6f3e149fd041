"""What happened, as hosts and controllers tell it to the ledger."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class EventKind(StrEnum):
    """The field-standard word for each thing that is recorded. Every kind is one ledger entry."""

    VM_REGISTERED = "vm.registered"
    VM_ADOPTED = "vm.adopted"
    VM_CHANGED = "vm.changed"
    VM_DELETED = "vm.deleted"
    VM_LABELLED = "vm.labelled"
    VM_QUARANTINED = "vm.quarantined"
    VM_RELEASED = "vm.released"
    DOMAIN_DEFINED = "domain.defined"
    DOMAIN_UNDEFINED = "domain.undefined"
    DOMAIN_STARTED = "domain.started"
    DOMAIN_RESUMED = "domain.resumed"
    DOMAIN_SUSPENDED = "domain.suspended"
    DOMAIN_REBOOTED = "domain.rebooted"
    DOMAIN_SHUTDOWN = "domain.shutdown"
    DOMAIN_STOPPED = "domain.stopped"
    DOMAIN_CRASHED = "domain.crashed"
    DOMAIN_ROGUE = "domain.rogue"
    INTERFACE_ADMITTED = "interface.admitted"
    INTERFACE_REFUSED = "interface.refused"
    INTERFACE_REMOVED = "interface.removed"
    INTERFACE_DETACHED = "interface.detached"
    ADDRESS_CHANGED = "address.changed"
    ADDRESS_REFUSED = "address.refused"
    NAME_CHANGED = "name.changed"
    NAME_REFUSED = "name.refused"
    GATE_ALLOWED = "gate.allowed"
    GATE_REFUSED = "gate.refused"
    MIGRATION_PREPARED = "migration.prepared"
    MIGRATION_ARRIVED = "migration.arrived"
    MIGRATION_LEFT = "migration.left"
    MIGRATION_ABORTED = "migration.aborted"
    POLICY_CHANGED = "policy.changed"
    POLICY_BEGAN = "policy.began"
    POLICY_ENDED = "policy.ended"
    RESPONSE_TRIGGERED = "response.triggered"
    NETWORK_CHANGED = "network.changed"
    REVISION_ENFORCED = "revision.enforced"
    DRIFT_REPAIRED = "drift.repaired"
    CLOCK_DOUBTED = "clock.doubted"
    CLOCK_BELIEVED = "clock.believed"
    AGENT_STARTED = "agent.started"
    AGENT_STOPPED = "agent.stopped"
    AGENT_LOST = "agent.lost"
    CONTROLLER_STARTED = "controller.started"
    GAP = "gap"
    LEDGER_RESEALED = "ledger.resealed"
    WITNESS_REFUSED = "witness.refused"
    WITNESS_FORGOTTEN = "witness.forgotten"
    HOST_INVITED = "host.invited"
    HOST_JOINED = "host.joined"
    HOST_DRAINED = "host.drained"
    HOST_UNDRAINED = "host.undrained"
    HOST_REVOKED = "host.revoked"
    KEY_ROTATED = "key.rotated"
    TASK_ORDERED = "task.ordered"
    TASK_ENDED = "task.ended"


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. ``at`` is Unix time in seconds; ``sequence`` rises by one per host (0: a controller's).

    ``detail`` holds plain JSON values. A host's event is stored once per (host, sequence), however often it is sent.
    """

    kind: EventKind
    at: float
    host: str = ""
    sequence: int = 0
    vm: str = ""
    tenant: str = ""
    actor: str = ""
    cause: str = ""
    detail: dict[str, Any] = {}
