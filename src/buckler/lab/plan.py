"""What a lab consists of, as values: hosts, guests, names and addresses. Builds nothing."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import msgspec

FABRIC = "10.99.0"
CONTROLLER_ADDRESS = f"{FABRIC}.250"
CONTROLLER = "controller"
OUTSIDE_IPV4 = "10.50.0.100"
OUTSIDE_IPV6 = "fd50::100"
MTU = 1450
BRIDGE = "br0"
TUNNEL = "vx100"
OUTSIDE_PORT = "cl0"
UPLINK = "ul0"
LIBVIRT_PORT = 16509
SERVED = ("tcp/22", "tcp/80", "tcp/8080", "tcp/5432", "udp/53", "udp/514")
"""Every guest serves all of these, so that only policy decides what can be reached."""
MOST_HOSTS = 99


class HostPlan(msgspec.Struct, frozen=True):
    """One hypervisor host, or the machine of the controller: a set of namespaces with an address on the fabric."""

    name: str
    namespace: str
    address: str
    number: int

    @property
    def uuid(self) -> str:
        """The host UUID for libvirt: two hosts of one migration must differ."""
        return f"b0c11e00-0000-4000-8000-{self.number:012d}"


class GuestPlan(msgspec.Struct, frozen=True):
    """One guest. ``upstream`` is the next tier that its web page asks; ``registered`` is false for the rogue; 0 MiB: no disk.

    A guest of a ``vlan`` tags what it sends itself; 0: untagged.
    """

    name: str
    host: str
    uuid: str
    mac: str
    ipv4: str
    ipv6: str
    upstream: str = ""
    registered: bool = True
    disk_mib: int = 0
    bridge: str = BRIDGE
    vlan: int = 0


class LabPlan(msgspec.Struct, frozen=True):
    """A whole lab. ``prefix`` begins the name of each of its namespaces; ``folder`` holds its state."""

    prefix: str
    folder: Path
    hosts: tuple[HostPlan, ...]
    controller: HostPlan
    guests: tuple[GuestPlan, ...]
    bridges: tuple[str, ...] = (BRIDGE,)

    @property
    def tunnels(self) -> dict[str, str]:
        """The tunnel port of each bridge, on every host."""
        return dict(zip(self.bridges, (f"{TUNNEL[:-1]}{number}" for number in range(len(self.bridges))), strict=True))

    @property
    def fabric(self) -> str:
        """The namespace with the switch that joins the hosts."""
        return f"{self.prefix}-fab"

    @property
    def outside(self) -> str:
        """The namespace that stands for the rest of the world."""
        return f"{self.prefix}-out"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All of them."""
        return (self.fabric, self.outside, self.controller.namespace, *(host.namespace for host in self.hosts))

    def host(self, name: str) -> HostPlan:
        """Find a host by name. Raises KeyError."""
        return {host.name: host for host in self.hosts}[name]

    def guest(self, name: str) -> GuestPlan:
        """Find a guest by name. Raises KeyError."""
        return {guest.name: guest for guest in self.guests}[name]


class ShopVm(msgspec.Struct, frozen=True):
    """What the shop's document says of one VM."""

    name: str
    uuid: str
    mac: str
    addresses: tuple[str, ...]


PLACES = {"web1": 1, "web2": 1, "app": 2, "db": 2, "attacker": 1}
UPSTREAMS = {"web1": ("app", 8080), "web2": ("app", 8080), "app": ("db", 5432)}
ROGUE = GuestPlan(
    name="rogue",
    host="host1",
    uuid="b0c11e66-6666-4666-8666-666666666666",
    mac="52:54:00:66:66:66",
    ipv4="10.50.0.66",
    ipv6="fd50::66",
    registered=False,
)


def plan_lab(shop: tuple[ShopVm, ...], hosts: int = 2, prefix: str = "bl") -> LabPlan:
    """Place the shop's VMs and the rogue on ``hosts`` hosts. Raises ValueError with what does not fit."""
    if not 2 <= hosts <= MOST_HOSTS:
        raise ValueError(f"a lab has 2 to {MOST_HOSTS} hosts, not {hosts}")
    machines = tuple(
        HostPlan(name=f"host{n}", namespace=f"{prefix}-h{n}", address=f"{FABRIC}.{n}", number=n)
        for n in range(1, hosts + 1)
    )
    controller = HostPlan(name=CONTROLLER, namespace=f"{prefix}-ctl", address=CONTROLLER_ADDRESS, number=250)
    addresses = {vm.name: _address(vm, 4) for vm in shop}
    guests = tuple(
        GuestPlan(
            name=vm.name,
            host=f"host{PLACES.get(vm.name, 1)}",
            uuid=vm.uuid,
            mac=vm.mac,
            ipv4=_address(vm, 4),
            ipv6=_address(vm, 6),
            upstream=_upstream(vm.name, addresses),
        )
        for vm in shop
    )
    return LabPlan(
        prefix=prefix,
        folder=Path("/var/lib/buckler-lab") / prefix,
        hosts=machines,
        controller=controller,
        guests=(*guests, ROGUE),
    )


def _upstream(name: str, addresses: dict[str, str]) -> str:
    if name not in UPSTREAMS:
        return ""
    tier, port = UPSTREAMS[name]
    return f"tcp/{addresses[tier]}/{port}"


def _address(vm: ShopVm, version: int) -> str:
    for address in vm.addresses:
        if ip_address(address).version == version:
            return address
    raise ValueError(f"the VM {vm.name} of the shop has no IPv{version} address")
