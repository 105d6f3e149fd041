"""A shop that is made, not written: pairs of a client and a server on two hosts, for moving many at once. Starts nothing."""

from __future__ import annotations

import msgspec

from buckler.lab.plan import GuestPlan, LabPlan, ShopVm, plan_lab
from buckler.model.operatorapi.documents import SourceFile

MOST_PAIRS = 40
UNSERVED = 9999
"""A UDP port that the policy allows and nobody serves: what comes back is an ICMP error, a related packet."""
DISK_MIB = 16
POLICIES = f"""\
apiVersion: buckler.io/v1
kind: Network
metadata: {{name: fleet, tenant: shop}}
spec:
  bridge: br0
  cidrs: [10.50.0.0/24, "fd50::/64"]
---
apiVersion: buckler.io/v1
kind: Flow
metadata: {{name: clients-to-servers, tenant: shop}}
spec:
  description: Clients use the servers
  owner: fleet
  reason: this is what they are for
  review: 2036-12-31
  order: 100
  from: [{{vm: {{matchLabels: {{role: client}}}}}}]
  to: [{{vm: {{matchLabels: {{role: server}}}}}}]
  ports:
    - {{protocol: TCP, port: 8080}}
    - {{protocol: UDP, port: 53}}
    - {{protocol: UDP, port: {UNSERVED}}}
    - {{protocol: ICMP, type: 8, code: 0}}
    - {{protocol: ICMPv6, type: 128, code: 0}}
---
apiVersion: buckler.io/v1
kind: Policy
metadata: {{name: servers-from-world, tenant: shop}}
spec:
  description: The world reaches the servers
  owner: fleet
  reason: a station outside sees a move as a customer does
  review: 2036-12-31
  tier: tenant
  order: 100
  subject:
    matchLabels: {{role: server}}
  ingress:
    - name: http
      action: allow
      from: [{{world: true}}]
      ports: [{{protocol: TCP, port: 80}}]
"""
"""``client-N`` may ask ``server-N`` (and every other server); the way back is nobody's."""


def fleet_vms(pairs: int) -> tuple[ShopVm, ...]:
    """Name the VMs: ``client-1``, ``server-1`` and so on."""
    if not 1 <= pairs <= MOST_PAIRS:
        raise ValueError(f"a fleet has 1 to {MOST_PAIRS} pairs, not {pairs}")
    return tuple(
        _vm(role, number, at) for number in range(1, pairs + 1) for at, role in enumerate(("client", "server"))
    )


def _vm(role: str, number: int, at: int) -> ShopVm:
    place = 2 * number + at
    addresses = (f"10.50.0.{100 + place}", f"fd50::{100 + place:x}")
    return ShopVm(f"{role}-{number}", f"50500000-0000-4000-8000-{place:012d}", f"52:54:00:51:00:{place:02x}", addresses)


def plan_fleet(pairs: int, prefix: str, with_disk: frozenset[str] = frozenset()) -> LabPlan:
    """Plan a lab of two hosts: clients begin on the first, servers on the second. A guest with a disk moves with its storage."""
    plan = plan_lab(fleet_vms(pairs), prefix=prefix)
    guests = tuple(_placed(guest, with_disk) for guest in plan.guests if guest.registered)
    return msgspec.structs.replace(plan, guests=guests)


def _placed(guest: GuestPlan, with_disk: frozenset[str]) -> GuestPlan:
    return msgspec.structs.replace(
        guest,
        host="host1" if guest.name.startswith("client") else "host2",
        disk_mib=DISK_MIB if guest.name in with_disk else 0,
    )


def fleet_documents(pairs: int) -> tuple[SourceFile, ...]:
    """Write the documents that register the fleet."""
    vms = "---\n".join(_document(vm) for vm in fleet_vms(pairs))
    return SourceFile("fleet/policies.yaml", POLICIES), SourceFile("fleet/vms.yaml", vms)


def _document(vm: ShopVm) -> str:
    four, six = vm.addresses
    return f"""\
apiVersion: buckler.io/v1
kind: VM
metadata:
  name: {vm.name}
  tenant: shop
  labels: {{role: {vm.name.partition("-")[0]}}}
spec:
  uuid: {vm.uuid}
  owner: fleet
  purpose: moves
  interfaces:
    - mac: "{vm.mac}"
      network: fleet
      addresses: [{four}, "{six}"]
"""
