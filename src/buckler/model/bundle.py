"""What a controller tells a host to enforce: a signed manifest, and the tree of content-addressed objects that it names."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from buckler.model.ids import Digest, HostId, IdentityNumber, Revision, RuleNumber, VmId, VmNumber, Zone
from buckler.model.pool import ShieldMode


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interface of one registered VM, wherever it runs; ``program`` is the digest of its shield program.

    ``connections``: how many it may hold at once; 0: all that a shield has room for.
    """

    vm: VmId
    number: VmNumber
    name: str
    tenant: str
    uuid: str
    mac: str
    addresses: tuple[str, ...]
    identity: IdentityNumber
    program: Digest
    mode: ShieldMode = ShieldMode.ENFORCE
    connections: int = 0


class CidrIdentity(msgspec.Struct, frozen=True, array_like=True):
    """A prefix outside the pool that policies name, and the identity that stands for it (longest prefix wins)."""

    cidr: str
    identity: IdentityNumber


MOST_MEMBERS = 32
MOST_PORTS = 16
MOST_SERVICES = 1 << 14
MOST_SERVICE_NUMBER = (1 << 24) - 1


class ServicePort(msgspec.Struct, frozen=True, array_like=True):
    """Ports of a service, the same at its virtual address and at its members. ``protocol``: TCP, UDP or SCTP's number."""

    protocol: int
    first: int
    last: int


class ServiceMember(msgspec.Struct, frozen=True, array_like=True):
    """An interface that a shield may choose for who speaks to a virtual address."""

    address: str
    mac: str


class VirtualService(msgspec.Struct, frozen=True):
    """A virtual address in a network, and who may be meant by it. ``number`` is pool-wide, from 1, never another's later.

    At most ``MOST_PORTS`` ports and ``MOST_MEMBERS`` members, both sorted; without a member nothing answers.
    """

    number: int
    name: str
    tenant: str
    address: str
    ports: tuple[ServicePort, ...]
    members: tuple[ServiceMember, ...]


class Services(msgspec.Struct, frozen=True):
    """A network's virtual addresses by number, as one object: few, and read with the segment's head."""

    services: tuple[VirtualService, ...]


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One network with everything a host must know to judge its frames.

    An address is looked up as the identity in ``identities`` (address → identity), which may lag behind
    ``Endpoint.identity`` while a change is rolled out (close → flip → open).
    """

    network: str
    zone: Zone
    tenant: str
    bridge: str
    vlan: int
    cidrs: tuple[str, ...]
    dhcp_servers: tuple[str, ...]
    routers: tuple[str, ...]
    gateway: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    identities: dict[str, IdentityNumber]
    cidr_identities: tuple[CidrIdentity, ...] = ()
    resolvers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """What policies name of the outside world, as far as VMs here may: of other names no answer is told."""
    services: tuple[VirtualService, ...] = ()
    """Virtual addresses here, by number. The shield of who speaks to one chooses a member and judges as if to it."""


class Placed(msgspec.Struct, frozen=True, omit_defaults=True):
    """An endpoint as it stands in a leaf. ``program`` only where it is not the one that its identity has."""

    vm: VmId
    number: VmNumber
    name: str
    tenant: str
    uuid: str
    mac: str
    addresses: tuple[str, ...]
    identity: IdentityNumber
    mode: ShieldMode = ShieldMode.ENFORCE
    program: Digest = Digest("")
    connections: int = 0


class SegmentHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """A segment in pieces: its few facts, and the roots of its table and of the outside's, which all segments share."""

    network: str
    zone: Zone
    tenant: str
    bridge: str
    vlan: int
    cidrs: tuple[str, ...]
    dhcp_servers: tuple[str, ...]
    routers: tuple[str, ...]
    gateway: tuple[str, ...]
    items: Digest
    outside: Digest
    resolvers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    services: Digest = Digest("")
    """The ``Services`` here; empty where there are none."""


class Leaf(msgspec.Struct, frozen=True):
    """Items of a table by key, sorted. Which keys there are: ``policy.pieces``."""

    items: tuple[tuple[str, Placed | int | str | tuple[str, str, str]], ...]


class Branch(msgspec.Struct, frozen=True):
    """A larger part of a table: sixteen parts by the next four bits of the keys' SHA-256; empty: nothing there."""

    children: tuple[Digest, ...]


class Root(msgspec.Struct, frozen=True):
    """The top of one state of the pool: the heads of all segments by zone, and the table of rules' names (``r:NUMBER``)."""

    segments: tuple[Digest, ...]
    rules: Digest


class RuleName(msgspec.Struct, frozen=True, array_like=True):
    """What a rule number stands for, so that a host can name it with the controller away."""

    number: RuleNumber
    policy: str
    rule: str
    tier: str


class Member(msgspec.Struct, frozen=True):
    """A host of the pool as the others see it."""

    id: HostId
    name: str
    public_key: str
    fabric: str
    addresses: tuple[str, ...]
    migrate_uri: str = ""


class Members(msgspec.Struct, frozen=True):
    """All members, as one object: it changes when hosts join, leave or move, not with policy."""

    members: tuple[Member, ...]


class Stage(StrEnum):
    """Where a change stands across the pool: closing first, then addresses, then opening."""

    CLOSE = "close"
    FLIP = "flip"
    OPEN = "open"
    STEADY = "steady"


class Passport(msgspec.Struct, frozen=True):
    """The immutable claims about a VM that travel in its domain's metadata, signed by the controller."""

    pool: str
    vm: VmId
    tenant: str
    uuid: str
    macs: tuple[str, ...]
    volumes: tuple[str, ...] = ()
    lineage: tuple[VmId, ...] = ()


MOST_EPOCH = 1 << 62
"""No VM moves so often: a member that says so would have others count for ever with numbers of its length."""


class Residence(msgspec.Struct, frozen=True):
    """A VM's stay on a host, signed by that host. ``epoch`` rises with every arrival by migration, and only by that.

    So an exact copy that is started elsewhere has the epoch of what it was copied from, or a lower one.
    """

    vm: VmId
    host: HostId
    epoch: int
    since: float


class Manifest(msgspec.Struct, frozen=True):
    """Everything one host enforces at one revision. A host takes only a higher revision than it has.

    ``root`` and ``members`` name objects: whoever believes the manifest believes what their digests lead to.
    ``adoptions`` (VM id → compact JWS passport) are VMs whose domain has no passport yet: the host that holds the
    domain with that uuid writes it there. ``draining`` hosts admit no VM that arrives or starts.
    """

    pool: str
    host: HostId
    host_name: str
    revision: Revision
    stage: Stage
    issued_at: float
    root: Digest
    members: Digest
    draining: bool = False
    adoptions: dict[str, str] = {}
    twins: tuple[str, ...] = ()
    """uuids of domains that this host must keep closed: the VM runs on another host, and did not come from there."""
