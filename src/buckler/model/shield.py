"""What a host's kernel is to hold: taps behind shields, the address book, and the guard around them."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from buckler.model.bundle import ServiceMember, ServicePort
from buckler.model.ids import Digest, IdentityNumber, VmNumber, Zone
from buckler.model.pool import ShieldMode

MOST_CONNECTIONS = 65536
"""What a shield has room for at one interface."""


class Tap(msgspec.Struct, frozen=True):
    """One VM interface on this host. ``addresses`` include implied link-local ones. An index is never a name."""

    ifindex: int
    vm: VmNumber
    mac: str
    zone: Zone
    vlan: int
    identity: IdentityNumber
    addresses: tuple[str, ...]
    program: Digest
    mode: ShieldMode = ShieldMode.ENFORCE
    connections: int = MOST_CONNECTIONS
    """Quota of established connections; beyond it new ones are refused and counted. A lower one cuts none that stands."""
    services: bool = False
    """Whether its network has virtual addresses: elsewhere the shield looks for none."""


class PortRole(IntEnum):
    """What a bridge port that is no tap may carry. Equal to PORT_* in bpf/abi.h."""

    TUNNEL = 1
    """Frames of pool VMs that live on other hosts; never of one that lives here."""
    OUTSIDE = 2
    """Frames of the world; never the MAC or address of any pool VM."""


class BridgePort(msgspec.Struct, frozen=True):
    """A port of a pool bridge that is no tap. ``zone`` is that of untagged frames, ``vlans`` (sorted) of tagged ones."""

    ifindex: int
    role: PortRole
    zone: Zone
    vlans: tuple[tuple[int, Zone], ...] = ()


class AddressKey(msgspec.Struct, frozen=True, array_like=True):
    """A prefix (``10.0.0.1/32``, ``fd00::/8``) in a zone. Zone 0 holds what is the same in all (INFRA)."""

    zone: Zone
    prefix: str


class AddressFlag(IntEnum):
    """Bits. Equal to ADDR_* in bpf/abi.h."""

    DHCP_SERVER = 1
    ROUTER = 2
    RESOLVER = 4


class Address(msgspec.Struct, frozen=True, array_like=True):
    """Whose address it is: identity, VM (0: none), flags (AddressFlag bits), and whether the VM lives on this host."""

    identity: IdentityNumber
    vm: VmNumber = VmNumber(0)
    flags: int = 0


class MacKey(msgspec.Struct, frozen=True, array_like=True):
    """A MAC in a zone: which VM it belongs to, for tunnel and outside ports."""

    zone: Zone
    mac: str


class ServiceKey(msgspec.Struct, frozen=True, array_like=True):
    """A virtual address in a zone."""

    zone: Zone
    address: str


class Service(msgspec.Struct, frozen=True, array_like=True):
    """What stands behind a virtual address. ``number`` is pool-wide, from 1; ports and members sorted."""

    number: int
    ports: tuple[ServicePort, ...]
    members: tuple[ServiceMember, ...]


class GuardState(msgspec.Struct, frozen=True):
    """The guard: which ports of which bridges may carry frames at all.

    ``ports`` are (ifindex, bridge) pairs; a frame enters only with the shield's judged mark, leaves only towards a
    pair in the set. ``fabric`` is the interface that tunnels use, ``members`` the only sources of tunnel frames.
    ``gateways`` are bridges on which the host itself may be spoken to (its shield still judges).
    """

    bridges: frozenset[str]
    ports: frozenset[tuple[int, str]]
    gateways: frozenset[str] = frozenset()
    fabric: str = ""
    members: frozenset[str] = frozenset()
    tunnel_ports: frozenset[int] = frozenset({4789})
