"""Who takes part: hosts, the tokens they join with, keys, and the tasks given to hosts."""

from __future__ import annotations

from typing import Protocol

import msgspec

from buckler.model.agentapi import Task, TaskState
from buckler.model.ids import HostId
from buckler.model.pool import Host


class HostRecord(msgspec.Struct, frozen=True):
    """``seen_at`` is when its agent was last heard (0: never); ``lost_at`` when silence was recorded (0: not silent)."""

    host: Host
    joined_at: float
    seen_at: float = 0
    lost_at: float = 0


class Hosts(Protocol):
    """Hosts that ever joined; names are unique among those not revoked."""

    def all(self) -> tuple[HostRecord, ...]:
        """All, the revoked ones too, by name."""

    def get(self, host: HostId) -> HostRecord | None:
        """By id."""

    def put(self, record: HostRecord) -> None:
        """Add or replace by id."""

    def seen(self, host: HostId, at: float) -> None:
        """Note that the agent was heard, so it is not lost."""


class JoinTokenRecord(msgspec.Struct, frozen=True):
    """``digest`` is the SHA-256 of the secret; the secret is kept nowhere. ``used_at`` 0: not used."""

    id: str
    digest: str
    host_name: str
    expires_at: float
    created_by: str
    used_at: float = 0
    used_by: str = ""


class JoinTokens(Protocol):
    """Single-use tokens."""

    def get(self, token: str) -> JoinTokenRecord | None:
        """By id."""

    def put(self, record: JoinTokenRecord) -> None:
        """Add or replace by id."""


class Nonces(Protocol):
    """Nonces that were used."""

    def use(self, nonce: str, expires_at: float, now: float) -> bool:
        """Note a nonce as used; False when it was used before. Forgets those that expired before ``now``."""


class KeyRecord(msgspec.Struct, frozen=True):
    """An ISSUERS statement that the root signed; the newest names the keys that may sign now."""

    version: int
    statement: str
    created_at: float


class Keys(Protocol):
    """Every set of issuing keys that the root ever named, oldest first."""

    def issuers(self) -> tuple[KeyRecord, ...]:
        """All, oldest first."""

    def add(self, record: KeyRecord) -> None:
        """Add one."""


class TaskRecord(msgspec.Struct, frozen=True):
    """``statement`` is the signed Task for its host; ``state`` None: not taken yet. ``source`` and ``vm_name`` for people."""

    task: Task
    statement: str
    created_at: float
    updated_at: float
    actor: str
    vm_name: str = ""
    state: TaskState | None = None
    message: str = ""


class Tasks(Protocol):
    """Tasks given to hosts."""

    def all(self) -> tuple[TaskRecord, ...]:
        """All, oldest first."""

    def get(self, task: str) -> TaskRecord | None:
        """By id."""

    def put(self, record: TaskRecord) -> None:
        """Add or replace by id."""

    def open_for(self, host: HostId, now: float) -> tuple[TaskRecord, ...]:
        """Those of a host that it has not ended and that have not expired."""
