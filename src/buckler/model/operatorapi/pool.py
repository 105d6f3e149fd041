"""The pool as a whole over the operator API: status, what is not protected, who is not registered."""

from __future__ import annotations

from buckler.model.operatorapi.body import Answer, HostWait
from buckler.model.operatorapi.hosts import HostView


class Rollout(Answer, frozen=True):
    """A change that is under way: its stage and who has not acknowledged it."""

    revision: int
    stage: str
    waiting: tuple[HostWait, ...] = ()


class PoolStatus(Answer, frozen=True):
    pool: str
    revision: int
    version: str
    at: float
    hosts: tuple[HostView, ...] = ()
    rollout: Rollout | None = None
    vms: int = 0
    policies: int = 0
    rogues: int = 0
    unprotected: int = 0
    ledger_entries: int = 0


class Unprotected(Answer, frozen=True):
    """A VM whose shield does not enforce, or not yet, with the reason."""

    vm: str
    tenant: str
    host: str
    reason: str


class Rogue(Answer, frozen=True):
    """A domain that nobody registered: it runs closed until it is adopted. ``twin_of``: the VM that it is a copy of."""

    uuid: str
    name: str
    host: str
    state: str
    macs: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    since: float = 0
    twin_of: str = ""
