"""What agents and controllers say to each other over TLS: the bodies of ``/agent/v1``.

=======  ======================  ===========================================================================
method   path                    body → answer
=======  ======================  ===========================================================================
GET      /agent/v1/ca            → CaCertificate (fetched unverified: believed only if it has the token's digest)
POST     /agent/v1/join          JoinRequest → JoinResponse (the single-use token is the only credential)
POST     /agent/v1/nonce         NonceRequest → NonceResponse
POST     /agent/v1/token         TokenRequest → TokenResponse (5 minutes)
GET      /agent/v1/watch?since=  → newline-delimited StreamMessage for as long as the token lives
POST     /agent/v1/objects       ObjectsWanted → their contents in order, one a line; perhaps only the first of them
POST     /agent/v1/ack           Acknowledgement → 204
POST     /agent/v1/events        EventBatch → EventsStored
PUT      /agent/v1/observed      Observation → 204
POST     /agent/v1/flows         FlowBatch → 204
PUT      /agent/v1/counters      CounterReport → 204
POST     /agent/v1/samples       SampleBatch → SamplesStored
POST     /agent/v1/names         NameBatch → ClaimsAnswered
POST     /agent/v1/claims        ClaimBatch → ClaimsAnswered
POST     /agent/v1/tasks         TaskReport → 204
GET      /agent/v1/ledger/consistency?old=&new=  → ConsistencyProof between two sizes of the ledger
POST     /agent/v1/ledger/cosignature  Cosigned → 204
=======  ======================  ===========================================================================

All but the first four carry ``Authorization: Bearer``. Errors are RFC 9457 problems.

A join token is the text ``bjt1.<id>.<secret>.<digest>``: ``digest`` is the lower-case hexadecimal SHA-256 of the DER
of the pool's CA certificate, whose key IS the pool root key. A joining agent gets ``/agent/v1/ca`` without checking
TLS, compares the digest, and only then joins over TLS checked against exactly that certificate, sending the whole text.
A wrong token or host gets 401; a revoked host 403; a body that is too large 413; too many failures 429.
Events must continue where the last batch ended: a gap gets 409, whose problem has the member ``through``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from buckler.model.event import Event
from buckler.model.flow import FlowRecord
from buckler.model.ids import Digest, HostId, Revision, VmId
from buckler.model.sample import Sample

MOST_WANTED = 1000
"""Objects that one request may name."""


class CaCertificate(msgspec.Struct, frozen=True):
    """The pool root as an X.509 certificate in PEM: what TLS to the controllers is checked against, and nothing else."""

    certificate: str


class JoinRequest(msgspec.Struct, frozen=True):
    """A new host's request. ``public_key``: see trust.statement.key_text; ``migrate_uri``: libvirt's, as peers reach it."""

    token: str
    name: str
    public_key: str
    fabric: str
    addresses: tuple[str, ...]
    migrate_uri: str = ""


class JoinResponse(msgspec.Struct, frozen=True):
    """``issuers`` is a statement of kind ISSUERS by the pool root: payload Issuers.

    ``root_key`` (trust.statement.key_text) must be the public key of ``ca_certificate`` (PEM), which must be the one
    that the token's digest names: the agent keeps both.
    """

    pool: str
    host: HostId
    root_key: str
    issuers: str
    ca_certificate: str = ""


class Issuers(msgspec.Struct, frozen=True):
    """The keys that may sign manifests, tasks, passports and checkpoints of the ledger now. Higher ``version`` wins."""

    pool: str
    version: int
    keys: tuple[str, ...]


class NonceRequest(msgspec.Struct, frozen=True):
    host: HostId


class NonceResponse(msgspec.Struct, frozen=True):
    nonce: str


class TokenRequest(msgspec.Struct, frozen=True):
    """``statement``: kind NONCE, payload the nonce's bytes, signed with the host's key."""

    host: HostId
    statement: str


class TokenResponse(msgspec.Struct, frozen=True):
    token: str
    expires_in: float


class StreamMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the stream. Exactly one field is set; an empty one is a heartbeat (at least every 5 s)."""

    manifest: str = ""
    issuers: str = ""
    task: str = ""
    checkpoint: str = ""


class ConsistencyProof(msgspec.Struct, frozen=True):
    """The hashes of RFC 9162, 2.1.4, in Base64."""

    path: tuple[str, ...]


class Cosigned(msgspec.Struct, frozen=True):
    """A checkpoint of the ledger (C2SP tlog-checkpoint) with the reporting host's cosignature (C2SP tlog-cosignature)."""

    note: str


class ObjectsWanted(msgspec.Struct, frozen=True):
    """At most ``MOST_WANTED`` at once. Nothing is signed: an object is what its digest says, and a manifest names digests."""

    digests: tuple[Digest, ...]


class Acknowledgement(msgspec.Struct, frozen=True):
    """``revision`` is what the kernel really enforces for every interface of the host, proven by reading back."""

    revision: Revision
    at: float
    problems: tuple[str, ...] = ()


class EventBatch(msgspec.Struct, frozen=True):
    events: tuple[Event, ...]


class EventsStored(msgspec.Struct, frozen=True):
    """Everything up to and including ``through`` is committed: the host may forget it."""

    through: int


class ObservedInterface(msgspec.Struct, frozen=True):
    mac: str
    kind: str
    bridge: str = ""
    device: str = ""
    admitted: bool = False
    reason: str = ""


class ObservedDomain(msgspec.Struct, frozen=True):
    """A libvirt domain as a host sees it. ``vm`` is empty while it is a rogue; ``passport`` as found, unverified.

    ``residence`` is the reporting host's own statement (kind RESIDENCE) of the VM's stay there.
    """

    uuid: str
    name: str
    state: str
    vm: str = ""
    passport: str = ""
    interfaces: tuple[ObservedInterface, ...] = ()
    volumes: tuple[str, ...] = ()
    residence: str = ""


class Observation(msgspec.Struct, frozen=True):
    """The whole state of a host; replaces the one before."""

    at: float
    revision: Revision
    domains: tuple[ObservedDomain, ...]
    problems: tuple[str, ...] = ()


class FlowBatch(msgspec.Struct, frozen=True):
    """``shed`` counts events that the kernel or the agent had to drop since the last batch.

    ``name`` is the batch's own: the same one after another is told once, for an answer that got lost.
    """

    flows: tuple[FlowRecord, ...]
    shed: int = 0
    name: str = ""


class Counter(msgspec.Struct, frozen=True):
    """How often one rule decided between a VM and its peer in one direction, since ``epoch`` (ns, when this count began).

    ``key`` names the count within its host; ``local``, ``peer``, ``direction``, ``verdict`` as in FlowRecord. The verdict
    ``shed`` counts events that were not told as flows; it has no ends. ``staged-allow``, ``-deny`` and ``-reject`` count packets once more by what
    the staged draft says of them. Absolute, so telling it twice counts nothing twice.
    """

    key: str
    epoch: int
    packets: int
    bytes: int = 0
    local: str = ""
    peer: str = ""
    direction: str = ""
    verdict: str = ""
    policy: str = ""
    rule: str = ""


class CounterReport(msgspec.Struct, frozen=True):
    """Those that changed since they were last taken. Of one key the higher epoch adds to all earlier ones."""

    counters: tuple[Counter, ...]


class SampleBatch(msgspec.Struct, frozen=True):
    """In order of their sequence numbers; a number that is missing is a sample that was shed."""

    samples: tuple[Sample, ...]


class SamplesStored(msgspec.Struct, frozen=True):
    """Everything up to and including ``through`` is committed: the host may forget it."""

    through: int


class AddressSource(StrEnum):
    """Where an interface's address comes from."""

    DECLARED = "declared"
    IMPLIED = "implied"
    DHCP = "dhcp"
    DETECTED = "detected"


class AddressClaim(msgspec.Struct, frozen=True):
    """An address that an interface would have: leased to it by ``server``, or probed for (RFC 4862, RFC 5227).

    ``at`` is when its host saw it (Unix seconds), ``lease`` how long it holds from then on (0: for ever).
    """

    vm: VmId
    mac: str
    address: str
    source: AddressSource
    at: float
    lease: int = 0
    server: str = ""


class ClaimBatch(msgspec.Struct, frozen=True):
    """``shed`` counts claims that the kernel or the agent had to drop since the last batch."""

    claims: tuple[AddressClaim, ...]
    shed: int = 0


class ClaimOutcome(StrEnum):
    """``later``: the controller does not see the VM on this host yet; all others settle the claim."""

    GRANTED = "granted"
    REFUSED = "refused"
    LATER = "later"


class ClaimsAnswered(msgspec.Struct, frozen=True):
    """One outcome for each claim, in order."""

    outcomes: tuple[ClaimOutcome, ...]


class NameClaim(msgspec.Struct, frozen=True):
    """An address that ``resolver`` answered for ``name``, and how long it said that it holds from ``at`` on (Unix seconds)."""

    vm: VmId
    mac: str
    name: str
    address: str
    at: float
    seconds: int
    resolver: str


class NameBatch(msgspec.Struct, frozen=True):
    """``shed`` counts answers that the agent had to drop since the last batch."""

    claims: tuple[NameClaim, ...]
    shed: int = 0


class TaskKind(StrEnum):
    MIGRATE = "migrate"


class Task(msgspec.Struct, frozen=True):
    """One thing for one host to do once. Refused after ``expires_at``."""

    id: str
    host: HostId
    kind: TaskKind
    vm: VmId
    destination: HostId
    destination_uri: str
    expires_at: float
    revision: Revision = Revision(0)
    actor: str = ""
    """Who ordered it."""


class TaskState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class TaskReport(msgspec.Struct, frozen=True):
    id: str
    state: TaskState
    message: str = ""
    detail: dict[str, Any] = {}
