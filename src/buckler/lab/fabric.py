"""The lab's wires: one network namespace per host, a fabric that joins them, VXLAN between bridges, an outside station.

No interface of the machine's own namespace is touched and no route leaves the lab's.
"""

from __future__ import annotations

from buckler.lab.machine import run
from buckler.lab.plan import (
    BRIDGE,
    MTU,
    OUTSIDE_IPV4,
    OUTSIDE_IPV6,
    OUTSIDE_PORT,
    UPLINK,
    HostPlan,
    LabPlan,
)

VNI = 100
TUNNEL_PORT = 4789


def build_fabric(plan: LabPlan) -> None:
    """Make every namespace and wire. Raises LabFailed; what was made by then is for sweep to remove."""
    for namespace in plan.namespaces:
        run("ip", "netns", "add", namespace)
    _batch(plan.fabric, ["link set lo up", "link add fab0 type bridge mcast_snooping 0", "link set fab0 up"])
    for machine in (*plan.hosts, plan.controller):
        _join(plan, machine)
    for host in plan.hosts:
        _build_bridge(plan, host)
    _build_outside(plan)


def _join(plan: LabPlan, machine: HostPlan) -> None:
    port = f"p{machine.number}"
    _batch(
        plan.fabric,
        [
            f"link add {port} type veth peer name {UPLINK} netns {machine.namespace}",
            f"link set {port} master fab0 up",
        ],
    )
    _batch(
        machine.namespace,
        ["link set lo up", f"addr add {machine.address}/24 dev {UPLINK}", f"link set {UPLINK} up"],
    )


def _build_bridge(plan: LabPlan, host: HostPlan) -> None:
    """Bridges without an address of their own, each with a tunnel that floods to every other host."""
    for number, (bridge, tunnel) in enumerate(plan.tunnels.items()):
        _batch(
            host.namespace,
            [
                f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
                f"link set {bridge} addrgenmode none",
                f"link set {bridge} up",
                f"link add {tunnel} type vxlan id {VNI + number} local {host.address} dstport {TUNNEL_PORT}",
                f"link set {tunnel} addrgenmode none",
                f"link set {tunnel} mtu {MTU} master {bridge} up",
            ],
        )
        for peer in plan.hosts:
            if peer != host:
                entry = ("00:00:00:00:00:00", "dev", tunnel, "dst", peer.address)
                run("bridge", "-n", host.namespace, "fdb", "append", *entry)


def _build_outside(plan: LabPlan) -> None:
    first = plan.hosts[0].namespace
    _batch(plan.outside, ["link set lo up", f"link add c0 type veth peer name {OUTSIDE_PORT} netns {first}"])
    _batch(
        first,
        [f"link set {OUTSIDE_PORT} addrgenmode none", f"link set {OUTSIDE_PORT} mtu {MTU} master {BRIDGE} up"],
    )
    _batch(
        plan.outside,
        [
            f"link set c0 mtu {MTU} up",
            f"addr add {OUTSIDE_IPV4}/24 dev c0",
            f"addr add {OUTSIDE_IPV6}/64 dev c0 nodad",
        ],
    )


def build_station(plan: LabPlan, name: str, ipv4: str, ipv6: str) -> str:
    """Put one more station beside the outside's own, with a MAC and addresses of its own; return its namespace."""
    namespace = f"{plan.prefix}-{name}"
    run("ip", "netns", "add", namespace)
    _batch(plan.outside, [f"link add link c0 name st0 netns {namespace} type macvlan mode bridge"])
    _batch(
        namespace,
        [
            "link set lo up",
            f"link set st0 mtu {MTU} up",
            f"addr add {ipv4}/24 dev st0",
            f"addr add {ipv6}/64 dev st0 nodad",
        ],
    )
    return namespace


def _batch(namespace: str, lines: list[str]) -> None:
    run("ip", "-n", namespace, "-b", "-", stdin="".join(f"{line}\n" for line in lines))
