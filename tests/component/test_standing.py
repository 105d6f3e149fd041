"""The shield stands whatever dies: adoption, upgrade, drift, reused interfaces, forged tunnels, tampering."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from buckler.drivers.ebpf.attach import TAP_HOOKS
from buckler.drivers.ebpf.kernel import DEFAULT_OBJECT, Kernel
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.drivers.nftables.ruleset import write_probe
from buckler.model.ids import Digest
from buckler.model.program import Direction
from buckler.model.shield import BridgePort, GuardState, PortRole
from buckler.ports.shield import ShieldFailed
from tests import packets as p
from tests.component.ground import (
    APP,
    WEB,
    ZONE,
    Host,
    Vm,
    Wire,
    add_bridge,
    both_ways,
    open_tap,
    open_veth,
    own_bpffs,
    own_network,
    run,
)  # fmt: skip

ONE, TWO = Vm(1, WEB), Vm(2, APP)
ALLOWED = p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(777, 777))
SPOOFED = p.ip_frame((ONE.mac, "10.9.0.9"), TWO.v4, 17, p.udp(777, 777))
KILLED = """
import os, signal, sys
from pathlib import Path
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.shield import EbpfShield
shield = EbpfShield(Kernel(Path(sys.argv[1])))
shield.open()
assert shield.taps()
os.kill(os.getpid(), signal.SIGKILL)
"""


def shield_two(host: Host) -> tuple[Wire, Wire]:
    one, two = open_tap("tap1"), open_tap("tap2")
    program = host.put_program(*both_ways(WEB, 17, prefix=16), *both_ways(APP, 17, prefix=16))
    host.admit(one.ifindex, ONE, program)
    host.admit(two.ifindex, TWO, program)
    host.guard.apply(GuardState(frozenset({"br0"}), frozenset((wire.ifindex, "br0") for wire in (one, two))))
    return one, two


def assert_judging(one: Wire, two: Wire) -> None:
    one.send(SPOOFED, ALLOWED)
    assert two.receive(until=ALLOWED) == []


def test_attached_but_unconfigured_drops(host: Host) -> None:
    tap = open_tap("tap1")
    for hook in TAP_HOOKS:
        host.kernel.attachments.attach(tap.ifindex, hook)
    witness = open_veth("out0")
    tap.send(ALLOWED)
    assert witness.receive(seconds=0.2) == []
    for hook in TAP_HOOKS:
        host.kernel.attachments.detach(tap.ifindex, hook)
    tap.send(ALLOWED)
    assert witness.receive(until=ALLOWED) == []


def test_a_killed_agent_leaves_the_shield_standing_and_is_followed_without_loading_anything(tcx_host: Host) -> None:
    one, two = shield_two(tcx_host)
    before, programs = tcx_host.shield.taps(), dict(tcx_host.kernel.attachments._program_ids)
    killed = subprocess.run([sys.executable, "-c", KILLED, tcx_host.kernel.pins.root], check=False)
    assert killed.returncode == -signal.SIGKILL
    tcx_host.close()
    assert_judging(one, two)
    successor = EbpfShield(kernel := Kernel(tcx_host.kernel.pins.root))
    assert kernel.open(), "adopted"
    assert kernel.attachments._program_ids == programs
    successor.open()
    assert successor.taps() == before
    assert_judging(one, two)
    kernel.close()


def test_a_newer_object_takes_over_live_links_and_connections(host: Host, tmp_path: Path) -> None:
    one, two = shield_two(host)
    assert_judging(one, two)
    before = host.shield.taps()
    newer = tmp_path / "newer.bpf.o"
    shutil.copy(DEFAULT_OBJECT, newer)
    with newer.open("ab") as file:
        file.write(b"\0")
    old_id = host.kernel.attachments._program_ids["tap_from_vm"]
    tcx = host.kernel._tcx
    host.close()
    kernel = Kernel(host.kernel.pins.root, newer, tcx=tcx)
    shield = EbpfShield(kernel)
    shield.open()
    assert kernel.attachments._program_ids["tap_from_vm"] != old_id
    assert shield.taps() == before, "attached with the new programs"
    assert_judging(one, two)
    kernel.close()


def test_a_filter_deleted_by_hand_is_seen_and_put_back(host: Host) -> None:
    one, two = shield_two(host)
    tap = host.shield.taps()[one.ifindex]
    link = host.kernel.pins.link(one.ifindex, "tap_from_vm")
    run(f"bpftool link detach pinned {link}" if link.exists() else "tc filter del dev tap1 ingress")
    assert one.ifindex not in host.shield.taps()
    one.send(ALLOWED)
    assert two.receive(seconds=0.2) == [], "the guard holds meanwhile"
    host.shield.put_tap(tap)
    assert host.shield.taps()[one.ifindex] == tap
    assert_judging(one, two)


def test_a_new_interface_with_an_old_index_is_not_the_old_tap(host: Host) -> None:
    one, _ = shield_two(host)
    index = one.ifindex
    one.close()
    run(f"ip link add again index {index} type veth peer name again-far")
    assert socket.if_nametoindex("again") == index
    assert index not in host.shield.taps()
    other = Vm(9, APP)
    host.admit(index, other, host.put_program(*both_ways(WEB)))
    assert host.shield.taps()[index].vm == 9


def test_deleting_a_tap_leaves_nothing(host: Host) -> None:
    one, two = shield_two(host)
    assert_judging(one, two)
    for wire in (one, two):
        host.shield.delete_tap(wire.ifindex)
        host.shield.delete_tap(wire.ifindex)
    for digest in host.shield.programs():
        host.shield.delete_program(digest)
    assert host.shield.taps() == {}
    assert host.shield.programs() == frozenset()
    assert list(host.kernel.pins.links.iterdir()) == []
    for name in ("tap_index", "own_addresses", "residents", "counters"):
        assert host.kernel[name].items() == {}, name
    host.telemetry.forget_pairs(frozenset(pair.vm for pair in host.telemetry.pairs() if pair.vm != 0xFFFFFFFF))
    assert host.telemetry.pairs() == []


def test_a_program_that_is_not_its_digest_is_refused(tcx_host: Host) -> None:
    from buckler.model.program import Program

    with pytest.raises(ShieldFailed):
        tcx_host.shield.put_program(Digest("sha256:" + "0" * 64), Program(()))


def test_a_swapped_program_is_found_by_the_sweep(tcx_host: Host) -> None:
    first = tcx_host.put_program(*both_ways(WEB))
    second = tcx_host.put_program(*both_ways(APP))
    assert tcx_host.shield.altered_programs() == frozenset()
    path = tcx_host.kernel.pins.policy(first)
    path.unlink()
    run(f"bpftool map pin pinned {tcx_host.kernel.pins.policy(second)} {path}")
    assert tcx_host.shield.altered_programs() == {first}


def test_a_policy_swap_gives_no_wrong_verdict(tcx_host: Host) -> None:
    one, two = shield_two(tcx_host)
    programs = [
        tcx_host.put_program(*both_ways(WEB, 17, prefix=16, rule=n), *both_ways(APP, 17, prefix=16, rule=n))
        for n in (1, 2)
    ]
    sent = 0
    for turn in range(20):
        for _ in range(20):
            one.send(ALLOWED)
            sent += 1
        tcx_host.admit(one.ifindex, ONE, programs[turn % 2])
        one.send(SPOOFED)
    one.send(last := p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(777, 777, b"last")))
    arrived = two.receive(until=last)
    assert arrived == [ALLOWED] * sent


def test_a_guest_cannot_forge_tunnel_frames_into_its_host(tcx_host: Host) -> None:
    """VXLAN over the fabric: accepted on the fabric interface from members only."""
    one, two = shield_two(tcx_host)
    fabric, stray = open_veth("fab0", bridge=None), open_veth("stray0", bridge=None)
    run("ip addr add 192.168.50.1/24 dev fab0; ip addr add 192.168.60.1/24 dev stray0")
    run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.stray0.rp_filter=0 net.ipv4.conf.fab0.rp_filter=0")
    run("ip link add vx0 type vxlan id 5 local 192.168.50.1 remote 192.168.50.2 dstport 4789 dev fab0")
    run("sysctl -qw net.ipv6.conf.vx0.disable_ipv6=1; ip link set vx0 master br0 up")
    vxlan = socket.if_nametoindex("vx0")
    tcx_host.ports.put_bridge_port(BridgePort(vxlan, PortRole.TUNNEL, ZONE))
    remote = Vm(7, WEB)
    tcx_host.know(remote)
    ports = frozenset({(one.ifindex, "br0"), (two.ifindex, "br0"), (vxlan, "br0")})
    tcx_host.guard.apply(GuardState(frozenset({"br0"}), ports, fabric="fab0", members=frozenset({"192.168.50.2"})))

    def carry(wire: Wire, source: str, destination: str, inner: bytes) -> None:

        link = subprocess.run(
            ["ip", "-o", "link", "show", wire.name], capture_output=True, text=True, check=True
        ).stdout
        mac = link.split("link/ether ")[1].split()[0]
        outer = p.udp(4789, 4789, b"\x08\0\0\0\0\0\x05\0" + inner)
        wire.send(p.ip_frame(("02:00:00:00:00:02", source), (mac, destination), 17, outer))

    inner = p.ip_frame(remote.v4, TWO.v4, 17, p.udp(777, 777))
    carry(fabric, "192.168.50.2", "192.168.50.1", inner)
    assert two.receive(until=inner) == [], "a member's frame arrives"
    carry(fabric, "192.168.50.66", "192.168.50.1", inner)
    carry(stray, "192.168.50.2", "192.168.50.1", inner)
    carry(stray, "192.168.60.2", "192.168.60.1", inner)
    assert two.receive(seconds=0.3) == []
    assert tcx_host.guard.counts()["tunnel"] == 3
    tcx_host.guard.remove()
    carry(fabric, "192.168.50.66", "192.168.50.1", inner)
    assert two.receive(until=inner) == [], "without the guard it works, so this test can fail"


def test_the_host_is_closed_to_guests_without_a_gateway(tcx_host: Host) -> None:
    one, two = shield_two(tcx_host)
    run("ip addr add 10.9.0.100/24 dev br0")
    ask = p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, ONE.v4, ("00:00:00:00:00:00", "10.9.0.100")))
    one.send(ask)
    assert [frame for frame in one.receive(seconds=0.3) if frame[12:14] == b"\x08\x06"] == []
    assert tcx_host.guard.counts()["towards_host"] == 1
    ports = frozenset((wire.ifindex, "br0") for wire in (one, two))
    tcx_host.guard.apply(GuardState(frozenset({"br0"}), ports, gateways=frozenset({"br0"})))
    one.send(ask)
    assert [frame for frame in one.receive(seconds=0.5) if frame[12:14] == b"\x08\x06"], "a gateway answers"


def test_other_bridges_are_left_alone(tcx_host: Host) -> None:
    shield_two(tcx_host)
    add_bridge("br9")
    left, right = open_veth("left0", "br9"), open_veth("right0", "br9")
    ports = tcx_host.guard._observe()
    assert ports is not None
    tcx_host.guard.apply(ports[0])
    left.send(ALLOWED)
    assert right.receive(until=ALLOWED) == []


def test_events_over_the_budget_are_counted(tmp_path: Path) -> None:
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        host = Host(pins, events_per_second=10)
        one, _ = shield_two(host)
        one.send(*[SPOOFED] * 50)
        events = host.telemetry.events(1000)
        shed = host.telemetry.shed()
        assert len(events) + shed.suppressed + shed.lost == 50
        assert shed.suppressed >= 30
        assert host.reasons(one.ifindex)[Direction.EGRESS, Reason.SPOOFED_ADDRESS] == 50
        host.close()


def test_the_guard_asks_for_bridges_in_words_that_nft_understands() -> None:
    """Else it would take the other form of its rules on every kernel, and nobody would notice."""
    asked = subprocess.run(["nft", "-c", "-f", "-"], input=write_probe(), capture_output=True, text=True, check=False)
    assert "syntax error" not in asked.stderr
    assert asked.returncode == 0 or "Could not process rule" in asked.stderr


def test_an_ingress_qdisc_is_no_place_for_a_shield(tmp_path: Path) -> None:
    """An ingress qdisc (libvirt's bandwidth limit) has one list of filters: nothing would judge what goes to the VM."""
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        host = Host(pins, tcx=False)
        tap = open_tap("tap1")
        run("tc qdisc add dev tap1 ingress")
        with pytest.raises(ShieldFailed, match="another qdisc"):
            host.admit(tap.ifindex, ONE, host.put_program(*both_ways(WEB)))
        assert host.shield.taps() == {}
        run("tc qdisc del dev tap1 ingress")
        admitted = host.admit(tap.ifindex, ONE, host.put_program(*both_ways(WEB)))
        assert host.shield.taps() == {tap.ifindex: admitted}
        run("tc qdisc del dev tap1 clsact; tc qdisc add dev tap1 ingress")
        assert host.shield.taps() == {}
        tap.close()
        host.close()
