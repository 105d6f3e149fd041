"""The words of policy documents as frozen values: what a checked document says. Owns no reading and no judging."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from buckler.model.label import Selector
from buckler.model.pool import ShieldMode
from buckler.policy.times import Times

API_VERSION = "buckler.io/v1"
DEFAULT_TENANT = "default"
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
PROTOCOL_ANY = 0
"""In a resolved table: every protocol without a number of its own in ``PROTOCOLS``."""


class Kind(StrEnum):
    NETWORK = "Network"
    VM = "VM"
    POLICY = "Policy"
    FLOW = "Flow"
    ENDPOINT = "Endpoint"
    ADDRESS_GROUP = "AddressGroup"
    SERVICE = "Service"
    RESPONSE = "Response"
    EXCEPTION = "Exception"


class Tier(StrEnum):
    """In the order of judging. ``quarantine`` says what VMs in quarantine with remediation may still do, of no others."""

    QUARANTINE = "quarantine"
    EMERGENCY = "emergency"
    PLATFORM = "platform"
    SECURITY = "security"
    TENANT = "tenant"
    BASELINE = "baseline"


TIER_RANK = {tier: rank for rank, tier in enumerate(Tier)}


class Action(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    REJECT = "reject"
    PASS = "pass"  # noqa: S105 - a verdict, no secret


DENIALS = frozenset({Action.DENY, Action.REJECT})


class Priority(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class PolicyMode(StrEnum):
    ENFORCE = "enforce"
    OBSERVE = "observe"
    STAGED = "staged"


class Stand(StrEnum):
    """Whose end of a connection a rule is asked for: a VM's, the hypervisor host's, or the border to the world."""

    VM = "vm"
    HOST = "host"
    EDGE = "edge"


class _Spec(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of a document share: their form in storage."""


class Peer(_Spec, frozen=True):
    """Exactly one field is set. ``excluded`` belongs to ``cidr``. ``addresses`` names an AddressGroup, ``dns`` outside names."""

    vm: Selector | None = None
    addresses: str = ""
    cidr: str = ""
    excluded: tuple[str, ...] = msgspec.field(default=(), name="except")
    dns: str = ""
    world: bool = False
    host: bool = False
    group: bool = False
    any: bool = False


class Port(_Spec, frozen=True):
    """As written. ``port`` None: every port of the protocol; ``code`` None: every code of the type."""

    protocol: str = "any"
    port: int | None = None
    end_port: int | None = None
    type: int | None = None
    code: int | None = None

    def span(self) -> tuple[int, int]:
        """Return the first and last number that it covers: destination ports, or type << 8 | code."""
        if self.type is not None:
            first = self.type << 8
            return (first, first | 255) if self.code is None else (first | self.code, first | self.code)
        if self.port is not None:
            return self.port, self.port if self.end_port is None else self.end_port
        return 0, 65535


class ScheduleSpec(_Spec, frozen=True):
    """Hours of some days of the week, by a time zone's wall clock. ``to`` not after ``from``: until the day after."""

    days: tuple[str, ...]
    start: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    timezone: str


class RateLimitSpec(_Spec, frozen=True):
    """At most so many new connections in so many seconds, at each interface."""

    connections: int
    within: int


class RuleSpec(_Spec, frozen=True):
    """One rule, none after ``until``. No peers or no ports: any. ``service``: its VMs in place of peers, its ports."""

    name: str
    action: Action
    overridable: bool = False
    until: str = ""
    log: bool = False
    rate_limit: RateLimitSpec | None = None
    service: str = ""
    ports: tuple[Port, ...] = ()
    peers: tuple[Peer, ...] = ()


class IngressRule(RuleSpec, frozen=True):
    peers: tuple[Peer, ...] = msgspec.field(default=(), name="from")


class EgressRule(RuleSpec, frozen=True):
    peers: tuple[Peer, ...] = msgspec.field(default=(), name="to")


class Subject(Selector, frozen=True):
    """At whom rules stand: VMs by their labels, or, where ``host`` or ``edge`` is true, an end without a shield."""

    host: bool | msgspec.UnsetType = msgspec.UNSET
    edge: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def stand(self) -> Stand:
        """Say whose end it is."""
        return Stand.HOST if self.host is True else Stand.EDGE if self.edge is True else Stand.VM


class InstanceSpec(_Spec, frozen=True):
    """Of which shipped policy a document is one, with which parameters: it may be edited, and allow no more than that."""

    library: str
    parameters: dict[str, str] = {}


class PolicySpec(_Spec, frozen=True):
    """A named list of rules at one subject, with the people and the reason behind it."""

    description: str
    owner: str
    reason: str
    review: str
    priority: Priority = Priority.MEDIUM
    tier: Tier = Tier.TENANT
    order: int = 1000
    mode: PolicyMode = PolicyMode.ENFORCE
    until: str = ""
    schedule: ScheduleSpec | None = None
    subject: Subject = Subject()
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    instance: InstanceSpec | None = None


class FlowSpec(_Spec, frozen=True):
    """One flow: egress at the VMs of ``sources`` and ingress at the VMs of ``destinations``, or of ``service``."""

    description: str
    owner: str
    reason: str
    review: str
    sources: tuple[Peer, ...] = msgspec.field(name="from")
    destinations: tuple[Peer, ...] = msgspec.field(name="to", default=())
    service: str = ""
    priority: Priority = Priority.MEDIUM
    tier: Tier = Tier.TENANT
    order: int = 1000
    mode: PolicyMode = PolicyMode.ENFORCE
    until: str = ""
    schedule: ScheduleSpec | None = None
    action: Action = Action.ALLOW
    overridable: bool = False
    log: bool = False
    rate_limit: RateLimitSpec | None = None
    ports: tuple[Port, ...] = ()
    instance: InstanceSpec | None = None


class InterfaceSpec(_Spec, frozen=True):
    mac: str
    network: str
    addresses: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class VmSpec(_Spec, frozen=True):
    uuid: str
    interfaces: tuple[InterfaceSpec, ...] = ()
    mode: ShieldMode = ShieldMode.ENFORCE
    owner: str = ""
    purpose: str = ""
    connections: int | None = None


class AddressClaimsSpec(_Spec, frozen=True):
    """How many addresses each interface may have by duplicate address detection."""

    limit: int = 0


NO_CLAIMS = AddressClaimsSpec()


class NetworkSpec(_Spec, frozen=True):
    bridge: str
    vlan: int = 0
    cidrs: tuple[str, ...] = ()
    dhcp_servers: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    address_claims: AddressClaimsSpec = NO_CLAIMS
    connections: int | None = None
    link_local: bool = True


class EndpointSpec(_Spec, frozen=True):
    """A labelled thing that is no VM. Its only proof of identity is its address: no shield of ours stands before it."""

    network: str
    addresses: tuple[str, ...]
    owner: str = ""
    purpose: str = ""


class AddressGroupSpec(_Spec, frozen=True):
    """Prefixes of the outside world under one name, with those within them that are not meant."""

    cidrs: tuple[str, ...]
    excluded: tuple[str, ...] = msgspec.field(default=(), name="except")
    description: str = ""
    owner: str = ""


class ServiceSpec(_Spec, frozen=True):
    """Ports at VMs, under one name. ``virtual_address``: in ``network`` it means one of them, as the client's shield chooses."""

    selector: Selector
    ports: tuple[Port, ...]
    network: str = ""
    virtual_address: str = ""
    description: str = ""
    owner: str = ""
    listener: str = ""


class Countermeasure(StrEnum):
    QUARANTINE = "quarantine"


class QuarantineAllowance(StrEnum):
    NOTHING = ""
    REMEDIATION = "remediation"


class TriggerSpec(_Spec, frozen=True):
    """What a VM's own shield refused it within so many seconds. More than every given number triggers."""

    within: int
    refusals: int | None = None
    peers: int | None = None
    ports: int | None = None


class LimitSpec(_Spec, frozen=True):
    """At most so many VMs in so many seconds."""

    vms: int
    within: int


class ResponseSpec(_Spec, frozen=True):
    """What is done by itself to a VM of ``subject`` that triggers it, unless ``exempt`` selects it."""

    description: str
    owner: str
    reason: str
    review: str
    trigger: TriggerSpec
    limit: LimitSpec
    priority: Priority = Priority.MEDIUM
    mode: PolicyMode = PolicyMode.OBSERVE
    subject: Selector = Selector()
    exempt: Selector | None = None
    action: Countermeasure = Countermeasure.QUARANTINE
    allow: QuarantineAllowance = QuarantineAllowance.NOTHING


class Yielding(StrEnum):
    """What becomes of the rule: traffic that it refuses is allowed in its place, or the rule is taken for none."""

    ALLOW = "allow"
    DISABLE = "disable"


class ExceptionSpec(_Spec, frozen=True):
    """Until a time, one rule of a policy, or a flow, yields for what is named here: all of it where nothing is.

    Exactly one of ``policy`` (with ``rule``) and ``flow``, of the exception's own tenant. ``subject``: of a policy's subject.
    """

    owner: str
    reason: str
    until: str
    action: Yielding
    policy: str = ""
    rule: str = ""
    flow: str = ""
    description: str = ""
    tier: Tier = Tier.TENANT
    subject: Selector | None = None
    sources: tuple[Peer, ...] = msgspec.field(default=(), name="from")
    destinations: tuple[Peer, ...] = msgspec.field(default=(), name="to")
    ports: tuple[Port, ...] = ()
    log: bool = False


Spec = (
    NetworkSpec
    | VmSpec
    | PolicySpec
    | FlowSpec
    | EndpointSpec
    | AddressGroupSpec
    | ServiceSpec
    | ResponseSpec
    | ExceptionSpec
)
SPECS: dict[Kind, type[Spec]] = {
    Kind.NETWORK: NetworkSpec,
    Kind.VM: VmSpec,
    Kind.POLICY: PolicySpec,
    Kind.FLOW: FlowSpec,
    Kind.ENDPOINT: EndpointSpec,
    Kind.ADDRESS_GROUP: AddressGroupSpec,
    Kind.SERVICE: ServiceSpec,
    Kind.RESPONSE: ResponseSpec,
    Kind.EXCEPTION: ExceptionSpec,
}


class Document(msgspec.Struct, frozen=True):
    """A checked document. ``file`` and ``line`` say where it came from; ``lines`` (path → line) its parts.

    ``times`` are those of a document in which something begins or ends, ``ended`` its rules (``ingress/name``) that did
    before (``timing``); ``exceptions`` those to its rules (``compose``). None is written: a document has them while it is judged.
    """

    kind: Kind
    name: str
    spec: Spec
    tenant: str = DEFAULT_TENANT
    labels: dict[str, str] = {}
    file: str = ""
    line: int = 0
    lines: dict[str, int] = {}
    times: Times | None = None
    ended: tuple[str, ...] = ()
    exceptions: tuple[Document, ...] = ()

    @property
    def key(self) -> str:
        """``Kind/tenant/name``: what a later document replaces."""
        return f"{self.kind}/{self.tenant}/{self.name}"
