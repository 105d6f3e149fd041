"""Hosts over the operator API: seen, drained, revoked, joined. Owns the form, not who may join."""

from __future__ import annotations

from buckler.model.operatorapi.body import Answer, Request
from buckler.model.operatorapi.vms import TaskView
from buckler.model.pool import HostState


class HostView(Answer, frozen=True):
    """``seen_at`` is when its agent was last heard (0: never); ``connected`` whether its stream is open now."""

    id: str
    name: str
    state: HostState
    fabric: str = ""
    addresses: tuple[str, ...] = ()
    migrate_uri: str = ""
    connected: bool = False
    seen_at: float = 0
    wanted: int = 0
    enforced: int = 0
    stage: str = ""
    vms: tuple[str, ...] = ()
    rogues: int = 0
    problems: tuple[str, ...] = ()


class HostRequest(Request, frozen=True):
    reason: str = ""
    dry_run: bool = False


class HostChange(Answer, frozen=True):
    """``tasks`` are the migrations that a drain began; ``staying`` says which VMs cannot leave, and why."""

    host: HostView
    tasks: tuple[TaskView, ...] = ()
    staying: tuple[str, ...] = ()
    dry_run: bool = False


class JoinTokenRequest(Request, frozen=True):
    """``host``: the only name that may join with it (empty: any)."""

    host: str = ""
    lifetime: float = 3600
    dry_run: bool = False


class JoinToken(Answer, frozen=True):
    """Single use. ``token`` is the text of model.agentapi, which pins the pool; ``url`` is where the agent joins."""

    token: str
    expires_at: float
    url: str = ""
