"""VMs over the operator API: looked at, adopted, quarantined, moved; their passports and histories. Decides nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from buckler.model.agentapi import TaskState
from buckler.model.operatorapi.body import Answer, HostWait, Request
from buckler.model.pool import Interface, ShieldMode


class InterfaceView(Answer, frozen=True):
    """A registered interface and what its host last observed of it. ``labels`` are all that selectors see.

    ``sources`` says of each address where it comes from: declared, implied (link-local of the MAC), dhcp or detected.
    """

    mac: str
    network: str
    addresses: tuple[str, ...] = ()
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    identity: int = 0
    device: str = ""
    bridge: str = ""
    admitted: bool = False
    reason: str = ""


class PolicyName(Answer, frozen=True):
    kind: str
    name: str
    tenant: str
    tier: str


class Allowance(StrEnum):
    """What a quarantine leaves open: nothing, or what policies of the quarantine tier say."""

    NOTHING = ""
    REMEDIATION = "remediation"


class HostStand(Answer, frozen=True):
    """Whether a host's kernel has closed what a quarantine closes; ``reason`` says why not, as far as known."""

    host: str
    enforced: bool
    wanted: int = 0
    enforced_revision: int = 0
    reason: str = ""


class QuarantineView(Answer, frozen=True):
    """A quarantine in force. ``response`` is the Response that decided it; empty: ``by`` did, a person."""

    reason: str
    by: str
    at: float
    allow: Allowance = Allowance.NOTHING
    response: str = ""
    hosts: tuple[HostStand, ...] = ()


class VmView(Answer, frozen=True):
    """``host`` and ``state`` are empty and ``unknown`` while no host reports the domain.

    ``waiting`` is told only by what changes a VM and waits: who does not enforce the change yet.
    """

    id: str
    number: int
    name: str
    tenant: str
    uuid: str
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    mode: ShieldMode = ShieldMode.ENFORCE
    quarantined: bool = False
    quarantine: QuarantineView | None = None
    host: str = ""
    state: str = "unknown"
    has_passport: bool = False
    interfaces: tuple[InterfaceView, ...] = ()
    policies: tuple[PolicyName, ...] = ()
    owner: str = ""
    purpose: str = ""
    etag: str = ""
    waiting: tuple[HostWait, ...] = ()


class AdoptRequest(Request, frozen=True):
    """Register a rogue by libvirt's uuid. ``interfaces`` empty: as its host observes them, networks told by bridge."""

    uuid: str
    name: str
    tenant: str = "default"
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    mode: ShieldMode = ShieldMode.ENFORCE
    interfaces: tuple[Interface, ...] = ()
    owner: str = ""
    purpose: str = ""
    dry_run: bool = False


class PassportView(Answer, frozen=True):
    """The signed statement and its claims in clear."""

    statement: str
    claims: dict[str, Any]


class HistoryEntry(Answer, frozen=True):
    """One ledger entry about a VM. ``text`` tells it in words; ``index`` is its place in the ledger.

    ``partOf``: the entry that tells the whole of the move that this one is a part of (0: it stands for itself).
    """

    index: int
    at: float
    kind: str
    text: str
    host: str = ""
    actor: str = ""
    cause: str = ""
    detail: dict[str, Any] = msgspec.field(default_factory=dict)
    part_of: int = 0


class QuarantineRequest(Request, frozen=True):
    """``wait``: as ApplyRequest's; a quarantine waits for its closing only. A release allows nothing of its own."""

    reason: str
    allow: Allowance = Allowance.NOTHING
    dry_run: bool = False
    wait: float = 0


class MigrateRequest(Request, frozen=True):
    host: str
    dry_run: bool = False


class TaskView(Answer, frozen=True):
    """``state`` None: no host has taken it yet."""

    id: str
    kind: str
    vm: str
    source: str
    destination: str
    state: TaskState | None
    message: str = ""
    created_at: float = 0
    updated_at: float = 0


class BoundCard(Answer, frozen=True):
    """One interface of a VM while a policy bound it. ``rules`` say its program in words."""

    mac: str
    network: str
    mode: ShieldMode
    identity: int
    program: str
    addresses: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


class BoundPolicy(Answer, frozen=True):
    """What bound a VM on one host from ``since`` to ``until`` (0: still), by that host's own clock.

    ``revisions`` all said the same of this VM; ``binding`` digests it, and is the same on every host. No ``cards``: it was
    in no revision that the host enforced, so it was closed. ``entries`` of the ledger prove it; ``note`` says what is not certain.
    """

    host: str
    since: float
    until: float
    revisions: tuple[int, ...]
    binding: str = ""
    cards: tuple[BoundCard, ...] = ()
    entries: tuple[int, ...] = ()
    note: str = ""
