"""What people's tools and a controller say to each other: the bodies of ``/api/v1`` on the root-only unix socket.

Owns their form only; documents inside are the language of buckler.policy. All under ``/api/v1``; names in JSON are
camelCase. ``{vm}`` is a VM's name in ``?tenant=`` (default: ``default``) or its Buckler id; ``{host}`` a host's name or id.

=======  ===================================  ==================================================================
method   path                                 body or query → answer
=======  ===================================  ==================================================================
POST     /apply                               ApplyRequest → ApplyResult, or 422 Problem with every problem
POST     /diff                                ApplyRequest (dryRun, wait ignored) → DiffResult, or 422
GET      /documents                           kind, tenant, selector (``a=b,c!=d,e``) → tuple[DocumentItem]
GET      /documents/{kind}/{tenant}/{name}    → DocumentItem, header ETag
DELETE   /documents/{kind}/{tenant}/{name}    dryRun=, If-Match → ApplyResult (412 when another changed it)
PATCH    /documents/{kind}/{tenant}/{name}/labels  LabelRequest, If-Match → ApplyResult
GET      /vms                                 tenant, selector → tuple[VmView]
POST     /vms/adopt                           AdoptRequest → VmView (409 when the uuid is registered already)
GET      /vms/{vm}                            → VmView
GET      /vms/{vm}/passport                   → PassportView
GET      /vms/{vm}/history                    limit= → tuple[HistoryEntry], oldest first
POST     /vms/{vm}/quarantine, …/release      QuarantineRequest → VmView
POST     /vms/{vm}/migrate                    MigrateRequest → TaskView (state ``done`` at once when dryRun)
GET      /hosts, /hosts/{host}                → tuple[HostView], HostView
POST     /hosts/{host}/drain, …/undrain, …/revoke  HostRequest → HostChange
POST     /join-tokens                         JoinTokenRequest → JoinToken
GET      /explain                             from, to, protocol, port → Explanation
GET      /reach                               tenant → Reach
GET      /flows                               verdict, from, to, after, limit, follow → tuple[FlowItem], oldest first (without
                                              ``after`` the newest ``limit`` of all);
                                              with ``follow=true`` newline-delimited FlowItem (empty line: heartbeat)
GET      /counters                            verdict, from, to → tuple[CounterItem]: totals per rule and pair of ends
GET      /tasks, /tasks/{id}                  → tuple[TaskView], TaskView
GET      /status                              → PoolStatus
GET      /unprotected                         → tuple[Unprotected]
GET      /rogues                              → tuple[Rogue]
GET      /ledger/entries                      after (index), limit → LedgerPage
GET      /ledger/keys                         → LedgerKeys: what a verifier needs beside the entries
GET      /metrics                             → Prometheus text
GET      /openapi.json                        → OpenAPI 3.1
=======  ===================================  ==================================================================

Errors are RFC 9457 problems (``application/problem+json``): Problem. 400 malformed request, 404 unknown name, 409 refused
because of the state of the pool, 412 If-Match did not fit, 422 documents with problems: nothing was applied.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from buckler.model.agentapi import TaskState
from buckler.model.flow import FlowRecord
from buckler.model.pool import HostState, Interface, ShieldMode

SOCKET = "/run/buckler/api.sock"
PREFIX = "/api/v1"


class _Request(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A body from outside: unknown fields are refused, never ignored."""


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    """A body from the controller: a newer one may say more."""


class Issue(_Answer, frozen=True):
    """One problem or warning in something that a person wrote. ``path`` is like ``spec.ingress[0].ports[1].port``."""

    message: str
    file: str = ""
    line: int = 0
    path: str = ""
    hint: str = ""


class Problem(_Answer, frozen=True):
    """RFC 9457. ``problems`` is our extension: all of them at once."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    instance: str = ""
    problems: tuple[Issue, ...] = ()


class SourceFile(_Request, frozen=True):
    """One file of documents, as text (YAML, of which JSON is a part), and the name to blame in problems."""

    name: str
    text: str


class Reference(_Request, frozen=True):
    """One document. ``etag`` (when given) must still be the document's."""

    kind: str
    name: str
    tenant: str = "default"
    etag: str = ""


class ApplyRequest(_Request, frozen=True):
    """Documents to create or replace and documents to delete, in one transaction: all or nothing.

    ``wait`` is how many seconds to wait for every reachable host to enforce the result; 0 answers once committed.
    """

    files: tuple[SourceFile, ...] = ()
    delete: tuple[Reference, ...] = ()
    dry_run: bool = False
    wait: float = 0


class Action(StrEnum):
    """What became, or would become, of one document."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class Change(_Answer, frozen=True):
    kind: str
    tenant: str
    name: str
    action: Action


class HostWait(_Answer, frozen=True):
    """A host that does not yet enforce what is wanted, and why as far as known."""

    host: str
    wanted: int
    enforced: int
    reason: str = ""


class ApplyResult(_Answer, frozen=True):
    """``revision`` is the committed one (0 when nothing changed or ``dryRun``). ``waiting`` is empty once all enforce it."""

    revision: int
    changes: tuple[Change, ...]
    warnings: tuple[Issue, ...] = ()
    dry_run: bool = False
    waiting: tuple[HostWait, ...] = ()


class DocumentDiff(_Answer, frozen=True):
    """``before`` and ``after`` are whole documents; None where there is none."""

    kind: str
    tenant: str
    name: str
    action: Action
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class ReachChange(_Answer, frozen=True):
    """What the change does to one pair of VMs: lists of allowed ports in words (``TCP 443``), before and after."""

    origin: str = msgspec.field(name="from")
    to: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class DiffResult(_Answer, frozen=True):
    documents: tuple[DocumentDiff, ...]
    reach: tuple[ReachChange, ...] = ()
    warnings: tuple[Issue, ...] = ()


class DocumentItem(_Answer, frozen=True):
    """``document`` is what ``apply`` would take again; ``file`` and ``line`` say where it was written."""

    document: dict[str, Any]
    etag: str
    revision: int
    file: str = ""
    line: int = 0


class LabelRequest(_Request, frozen=True):
    """Without ``overwrite`` a key that has another value is refused (409). ``wait``: as ApplyRequest's."""

    set: dict[str, str] = {}
    remove: tuple[str, ...] = ()
    overwrite: bool = False
    dry_run: bool = False
    wait: float = 0


class InterfaceView(_Answer, frozen=True):
    """A registered interface and what its host last observed of it. ``labels`` are all that selectors see.

    ``sources`` says of each address where it comes from: declared, implied (link-local of the MAC), dhcp or detected.
    """

    mac: str
    network: str
    addresses: tuple[str, ...] = ()
    sources: dict[str, str] = {}
    labels: dict[str, str] = {}
    identity: int = 0
    device: str = ""
    bridge: str = ""
    admitted: bool = False
    reason: str = ""


class PolicyName(_Answer, frozen=True):
    kind: str
    name: str
    tenant: str
    tier: str


class VmView(_Answer, frozen=True):
    """``host`` and ``state`` are empty and ``unknown`` while no host reports the domain.

    ``waiting`` is told only by what changes a VM and waits: who does not enforce the change yet.
    """

    id: str
    number: int
    name: str
    tenant: str
    uuid: str
    labels: dict[str, str] = {}
    mode: ShieldMode = ShieldMode.ENFORCE
    quarantined: bool = False
    host: str = ""
    state: str = "unknown"
    has_passport: bool = False
    interfaces: tuple[InterfaceView, ...] = ()
    policies: tuple[PolicyName, ...] = ()
    owner: str = ""
    purpose: str = ""
    etag: str = ""
    waiting: tuple[HostWait, ...] = ()


class AdoptRequest(_Request, frozen=True):
    """Register a rogue by libvirt's uuid. ``interfaces`` empty: as its host observes them, networks told by bridge."""

    uuid: str
    name: str
    tenant: str = "default"
    labels: dict[str, str] = {}
    mode: ShieldMode = ShieldMode.ENFORCE
    interfaces: tuple[Interface, ...] = ()
    owner: str = ""
    purpose: str = ""
    dry_run: bool = False


class PassportView(_Answer, frozen=True):
    """The signed statement and its claims in clear."""

    statement: str
    claims: dict[str, Any]


class HistoryEntry(_Answer, frozen=True):
    """One ledger entry about a VM. ``text`` tells it in words; ``index`` is its place in the ledger."""

    index: int
    at: float
    kind: str
    text: str
    host: str = ""
    actor: str = ""
    cause: str = ""
    detail: dict[str, Any] = {}


class QuarantineRequest(_Request, frozen=True):
    """``wait``: as ApplyRequest's."""

    reason: str
    dry_run: bool = False
    wait: float = 0


class MigrateRequest(_Request, frozen=True):
    host: str
    dry_run: bool = False


class TaskView(_Answer, frozen=True):
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


class HostView(_Answer, frozen=True):
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


class HostRequest(_Request, frozen=True):
    reason: str = ""
    dry_run: bool = False


class HostChange(_Answer, frozen=True):
    """``tasks`` are the migrations that a drain began; ``staying`` says which VMs cannot leave, and why."""

    host: HostView
    tasks: tuple[TaskView, ...] = ()
    staying: tuple[str, ...] = ()
    dry_run: bool = False


class JoinTokenRequest(_Request, frozen=True):
    """``host``: the only name that may join with it (empty: any)."""

    host: str = ""
    lifetime: float = 3600
    dry_run: bool = False


class JoinToken(_Answer, frozen=True):
    """Single use. ``token`` is the text of model.agentapi, which pins the pool; ``url`` is where the agent joins."""

    token: str
    expires_at: float
    url: str = ""


class Step(_Answer, frozen=True):
    """One rule that was considered, in order. ``outcome`` in words: ``decides``, ``observed only`` and the like."""

    tier: str
    policy: str
    rule: str
    action: str
    outcome: str
    file: str = ""
    line: int = 0


class Side(_Answer, frozen=True):
    """What one end's shield does. ``policy`` empty: nothing matched, denied by default. ``text`` says it in words."""

    vm: str
    direction: str
    verdict: str
    text: str
    tier: str = ""
    policy: str = ""
    rule: str = ""
    file: str = ""
    line: int = 0
    steps: tuple[Step, ...] = ()
    mode: ShieldMode = ShieldMode.ENFORCE


class ExplainedPath(_Answer, frozen=True):
    """One pair of interfaces that share a network, or a VM's interface and an outside peer. ``sides``: egress, ingress."""

    network: str
    origin: str = msgspec.field(name="from")
    to: str
    verdict: str
    sides: tuple[Side, ...]


class Explanation(_Answer, frozen=True):
    """``verdict`` is ``allow`` when some path allows. No path: ``text`` says why (no network in common)."""

    origin: str = msgspec.field(name="from")
    to: str
    protocol: str
    port: int
    verdict: str
    text: str
    paths: tuple[ExplainedPath, ...] = ()


class PortRange(_Answer, frozen=True, omit_defaults=True):
    """``protocol`` TCP, UDP, SCTP, ICMP, ICMPv6, another's number, or ``any``; ``port`` to ``endPort``, both included.

    For ICMP type << 8 | code. 0 to 65535: all.
    """

    protocol: str
    port: int = 0
    end_port: int = 65535


class ReachPair(_Answer, frozen=True):
    """What may be sent from one to another, both ends' shields considered. Empty: nothing."""

    origin: str = msgspec.field(name="from")
    to: str
    allowed: tuple[PortRange, ...] = ()


class Reach(_Answer, frozen=True):
    """Every ordered pair of different ``vms`` (and ``world``) occurs once in ``pairs``."""

    revision: int
    vms: tuple[str, ...]
    pairs: tuple[ReachPair, ...]


class FlowItem(_Answer, frozen=True):
    """``cursor`` goes into ``after`` to read on. ``shed`` counts events known to be missing just before this one."""

    cursor: int
    flow: FlowRecord
    shed: int = 0


class CounterItem(_Answer, frozen=True):
    """Packets between two ends that one rule decided, as ``local``'s shields counted, over all hosts it was on.

    The verdict ``shed`` counts events that a host's shields did not tell as flows; it has no ends, and its packets are
    in the other counters.
    """

    local: str
    peer: str
    direction: str
    verdict: str
    policy: str
    rule: str
    packets: int
    bytes: int
    hosts: tuple[str, ...] = ()


class Rollout(_Answer, frozen=True):
    """A change that is under way: its stage and who has not acknowledged it."""

    revision: int
    stage: str
    waiting: tuple[HostWait, ...] = ()


class PoolStatus(_Answer, frozen=True):
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


class Unprotected(_Answer, frozen=True):
    """A VM whose shield does not enforce, or not yet, with the reason."""

    vm: str
    tenant: str
    host: str
    reason: str


class Rogue(_Answer, frozen=True):
    """A domain that nobody registered: it runs closed until it is adopted. ``twin_of``: the VM that it is a copy of."""

    uuid: str
    name: str
    host: str
    state: str
    macs: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    since: float = 0
    twin_of: str = ""


class LedgerPage(_Answer, frozen=True):
    """``entries`` are signed statements (kind LEDGER), in order from index ``first``; ``size`` is the whole ledger's."""

    first: int
    size: int
    entries: tuple[str, ...]


class LedgerKeys(_Answer, frozen=True):
    """``issuers``: every ISSUERS statement that the pool's root ever signed, oldest first; ``hosts``: id → public key."""

    pool: str
    root_key: str
    issuers: tuple[str, ...]
    hosts: dict[str, str] = {}
