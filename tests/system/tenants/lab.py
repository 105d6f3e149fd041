"""A lab of three tenants on two hosts whose addresses overlap, with stations outside. Owns its machines, no policy.

Red is untagged on ``br0``, green tags its frames there, blue has a bridge of its own. ``red-1``, ``blue-1`` and
``green-1`` have one address, ``red-1`` and ``blue-1`` one MAC too.
"""

import json
from contextlib import contextmanager
from typing import NamedTuple

from buckler.lab.datacentre import DataCentre, build_lab
from buckler.lab.fabric import build_station
from buckler.lab.plan import BRIDGE, SERVED, GuestPlan, LabPlan, plan_lab
from buckler.lab.pool import Pool, raise_pool
from buckler.lab.sweep import sweep
from buckler.model.operatorapi.documents import SourceFile

RED, BLUE, GREEN = "red", "blue", "green"
NETWORKS = {RED: (BRIDGE, 0), BLUE: ("br1", 0), GREEN: (BRIDGE, 20)}
"""Bridge and VLAN of each tenant's network, which has the tenant's name."""
GUESTS = (
    ("red-1", RED, "host1", 0x11, "52:54:00:53:00:11"),
    ("red-2", RED, "host2", 0x12, "52:54:00:53:00:12"),
    ("red-3", RED, "host1", 0x13, "52:54:00:53:00:13"),
    ("red-4", RED, "host2", 0x14, "52:54:00:53:00:14"),
    ("blue-1", BLUE, "host1", 0x11, "52:54:00:53:00:11"),
    ("blue-2", BLUE, "host2", 0x22, "52:54:00:53:00:12"),
    ("green-1", GREEN, "host1", 0x11, "52:54:00:53:00:31"),
    ("green-2", GREEN, "host2", 0x32, "52:54:00:53:00:32"),
)
"""Name, network, host, last part of both addresses, MAC."""


STATIONS = {"printer": 200, "partner": 210, "stranger": 230}


class Party(NamedTuple):
    """Somebody who asks and is asked. ``namespace`` of a station; a guest has none."""

    name: str
    network: str
    ipv4: str
    ipv6: str
    namespace: str = ""

    def address(self, version):
        return self.ipv4 if version == 4 else self.ipv6


class TenantLab(NamedTuple):
    """The lab, its Buckler and everybody in it: guests, ``printer`` (an Endpoint), ``partner`` (in prefixes that rules name)
    and ``stranger`` (whom none names)."""

    centre: DataCentre
    pool: Pool
    parties: tuple[Party, ...]

    def party(self, name):
        return next(each for each in self.parties if each.name == name)


def _addresses(last):
    return f"10.50.0.{last}", f"fd50::{last:x}"


def plan_tenants(prefix):
    """Two hosts with two bridges each; nobody's guests but the tenants'."""
    guests = tuple(_guest(*each) for each in GUESTS)
    base = plan_lab((), prefix=prefix)
    return LabPlan(prefix, base.folder, base.hosts, base.controller, guests, (BRIDGE, "br1"))


def _guest(name, network, host, last, mac):
    bridge, vlan = NETWORKS[network]
    number = [each[0] for each in GUESTS].index(name)
    uuid = f"53530000-0000-4000-8000-{number:012d}"
    return GuestPlan(name, host, uuid, mac, *_addresses(last), bridge=bridge, vlan=vlan)


@contextmanager
def tenant_lab(prefix="blp"):
    plan = plan_tenants(prefix)
    try:
        centre = build_lab(plan, print)
        stations = tuple(_station(plan, name, last) for name, last in STATIONS.items())
        for each in stations:
            centre.start_at(each.namespace, "serve", "served", "-", *SERVED)
        pool = raise_pool(centre, (as_file("base", base_documents()), as_file("vms", vm_documents())), print)
        guests = (Party(name, network, *_addresses(last)) for name, network, _, last, _ in GUESTS)
        yield TenantLab(centre, pool, (*guests, *stations))
    finally:
        sweep(plan.folder, plan.prefix)


def _station(plan, name, last):
    addresses = _addresses(last)
    return Party(name, RED, *addresses, build_station(plan, name, *addresses))


def base_documents():
    networks = [
        _document("Network", name, name, bridge=bridge, vlan=vlan, cidrs=["10.50.0.0/24", "fd50::/64"])
        for name, (bridge, vlan) in NETWORKS.items()
    ]
    printer = _document(
        "Endpoint",
        "printer",
        RED,
        network=RED,
        addresses=list(_addresses(STATIONS["printer"])),
        owner="red",
        purpose="prints",
    )
    printer["metadata"]["labels"] = {"role": "c"}
    partners = {"cidrs": ["10.50.0.208/28", "fd50::d0/124"], "except": ["10.50.0.220/32"]}
    return [*networks, printer, _document("AddressGroup", "partners", "default", **partners)]


def vm_documents(labels=None, mode="enforce"):
    """``labels``: of each guest by its name."""
    return [_vm(_guest(*each), each[1], (labels or {}).get(each[0], {}), mode) for each in GUESTS]


def _vm(guest, network, labels, mode):
    card = {"mac": guest.mac, "network": network, "addresses": [guest.ipv4, guest.ipv6]}
    made = _document(
        "VM", guest.name, network, uuid=guest.uuid, owner=network, purpose="probing", mode=mode, interfaces=[card]
    )
    made["metadata"]["labels"] = labels
    return made


def _document(kind, name, tenant, **spec):
    return {
        "apiVersion": "buckler.io/v1",
        "kind": kind,
        "metadata": {"name": name, "tenant": tenant},
        "spec": {key: value for key, value in spec.items() if value != 0},
    }


def as_file(name, documents):
    """Write documents as JSON, which YAML has in it: the same value twice makes no anchor."""
    return SourceFile(f"{name}.yaml", "\n---\n".join(json.dumps(each) for each in documents))
