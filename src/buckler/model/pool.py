"""What a pool holds: VMs with their interfaces, the networks they stand in, the hosts that run them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from buckler.model.ids import HostId, VmId, VmNumber, Zone
from buckler.model.label import Selector


class ShieldMode(StrEnum):
    """``enforce`` drops what policy denies; ``observe`` lets it pass and records it (listed by ``unprotected``).

    Anti-spoofing and the protection of hosts hold in both.
    """

    ENFORCE = "enforce"
    OBSERVE = "observe"


class Interface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One virtual network card. ``addresses`` are declared, without prefix length; Its network says whether EUI-64 link-local is implied."""

    mac: str
    network: str
    addresses: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Vm(msgspec.Struct, frozen=True):
    """A registered VM. ``labels`` are its own; those of interface and network join them per interface.

    ``connections``: how many each of its interfaces may hold at once; 0: what its network says.
    """

    id: VmId
    number: VmNumber
    name: str
    tenant: str
    uuid: str
    labels: dict[str, str] = {}
    interfaces: tuple[Interface, ...] = ()
    mode: ShieldMode = ShieldMode.ENFORCE
    connections: int = 0


class Outsider(msgspec.Struct, frozen=True):
    """A labelled thing that is no VM (a physical server, a device). Its address is its only proof of identity."""

    name: str
    tenant: str
    network: str
    addresses: tuple[str, ...]
    labels: dict[str, str] = {}


class ServiceAddress(msgspec.Struct, frozen=True):
    """A virtual address of a service in one network. ``ports``: (protocol, first, last); ``selector``: who serves."""

    name: str
    tenant: str
    network: str
    address: str
    selector: Selector
    ports: tuple[tuple[int, int, int], ...]


class Network(msgspec.Struct, frozen=True):
    """A bridge (and VLAN) that belongs to one tenant: the zone of every address look-up.

    ``dhcp_servers`` and ``routers`` are the only addresses whose DHCP answers and router advertisements
    reach a VM. ``gateway`` lists addresses that the hypervisor host itself serves on the bridge (identity
    HOST); without it guests cannot reach the host at all. ``resolvers`` are whose DNS answers are believed, of names that
    one of ``names``, all patterns that policies may mean here, means. ``detected`` is how many addresses an interface may have
    by duplicate address detection, ``connections`` how many it may hold at once where its VM says nothing (0: all that
    a shield has room for). ``link_local``: its interfaces have the IPv6 address of their MAC; else nobody here speaks by one.
    """

    name: str
    zone: Zone
    tenant: str
    bridge: str
    vlan: int = 0
    cidrs: tuple[str, ...] = ()
    dhcp_servers: tuple[str, ...] = ()
    routers: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    resolvers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    detected: int = 0
    connections: int = 0
    link_local: bool = True


class HostState(StrEnum):
    """``active`` takes VMs; ``draining`` and ``drained`` take none; ``revoked`` is no member any more."""

    ACTIVE = "active"
    DRAINING = "draining"
    DRAINED = "drained"
    REVOKED = "revoked"


class Host(msgspec.Struct, frozen=True):
    """A hypervisor host. ``addresses`` are its underlay, migration and management addresses: never a guest's peer."""

    id: HostId
    name: str
    public_key: str
    fabric: str
    addresses: tuple[str, ...] = ()
    migrate_uri: str = ""
    labels: dict[str, str] = {}
    state: HostState = HostState.ACTIVE
