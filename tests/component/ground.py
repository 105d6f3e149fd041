"""A host's network in a namespace of the test's own thread: bridge, taps driven by the test, shield and guard.

Nothing has a name outside: when the test ends, the namespace and all in it are gone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buckler.drivers.ebpf.address_book import EbpfAddressBook
from buckler.drivers.ebpf.bridge_ports import EbpfPorts
from buckler.drivers.ebpf.claims import EbpfClaims
from buckler.drivers.ebpf.kernel import DEFAULT_OBJECT, Kernel
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.ebpf.services import EbpfServices
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.drivers.ebpf.telemetry import EbpfTelemetry
from buckler.drivers.nftables.guard import NftablesGuard
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, IdentityNumber, RuleNumber, VmNumber, Zone
from buckler.model.program import Direction, Entry, Program, Verdict
from buckler.model.shield import Address, AddressKey, MacKey, Tap

_NEW_NETWORK, _NEW_MOUNTS = 0x40000000, 0x00020000
_TUNSETIFF, _TAP, _NO_PI = 0x400454CA, 2, 0x1000
_ETH_ALL = 3
_libc = ctypes.CDLL(None, use_errno=True)

SLOWNESS = int(os.environ.get("BUCKLER_TEST_SLOWNESS", "1"))
"""How many times longer than on a real machine things may take here: an emulated one sets it. Floods shrink by it."""

ZONE = Zone(5)
WEB, APP = IdentityNumber(0x20000001), IdentityNumber(0x20000002)


def run(command: str) -> None:
    subprocess.run(command, shell=True, check=True, capture_output=True)


@contextmanager
def own_network() -> Iterator[None]:
    """Give this thread a network of its own, and take it back."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if _libc.unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "unshare")
    try:
        run(
            "ip link set lo up; sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 || true"
        )
        yield
    finally:
        if _libc.setns(before, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(before)


@contextmanager
def own_bpffs(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    run(f"mount -t bpf bpf {folder}")
    try:
        yield folder / "buckler"
    finally:
        run(f"umount {folder}")


class Wire:
    """One end of something that frames go through."""

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd, self.ifindex = name, fd, socket.if_nametoindex(name)

    def send(self, *frames: bytes) -> None:
        for frame in frames:
            os.write(self.fd, frame)

    def receive(self, until: bytes | None = None, seconds: float = 2.0) -> list[bytes]:
        """Everything up to the frame ``until``; without one, what comes within ``seconds``."""
        found: list[bytes] = []
        end = time.monotonic() + (seconds if until is None else seconds * SLOWNESS)
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                break
            frame = os.read(self.fd, 70000)
            if until is not None and frame == until:
                return found
            found.append(frame)
        if until is not None:
            raise AssertionError(f"{self.name}: the frame that ends the wait never came")
        return found

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def open_tap(name: str, bridge: str = "br0") -> Wire:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_PI))
    run(f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1")
    run(f"ip link set {name} master {bridge} up")
    return Wire(name, fd)


def open_veth(name: str, bridge: str | None = "br0") -> Wire:
    """A port of the bridge whose other end the test holds; without bridge: a plain interface."""
    far = name + "-far"
    run(f"ip link add {name} type veth peer name {far}")
    for end in (name, far):
        run(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")
        run(f"ip link set {end} up")
    if bridge:
        run(f"ip link set {name} master {bridge}")
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL))
    packet.bind((far, 0))
    return Wire(name, packet.detach())


def add_bridge(name: str = "br0") -> None:
    run(f"ip link add {name} type bridge mcast_snooping 0 forward_delay 0")
    run(f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1")
    run(f"ip link set {name} up")


class Host:
    """The real drivers on one kernel object."""

    def __init__(
        self,
        pins: Path,
        *,
        tcx: bool | None = None,
        events_per_second: int = 100000,
        object_file: Path = DEFAULT_OBJECT,
    ) -> None:
        self.kernel = Kernel(pins, object_file, events_per_second, tcx=tcx)
        self.shield = EbpfShield(self.kernel)
        self.book = EbpfAddressBook(self.kernel)
        self.services = EbpfServices(self.kernel)
        self.ports = EbpfPorts(self.kernel)
        self.telemetry = EbpfTelemetry(self.kernel)
        self.claims = EbpfClaims(self.kernel)
        self.guard = NftablesGuard()
        self.shield.open()

    def put_program(self, *entries: Entry) -> Digest:
        program = Program(tuple(sorted(entries)))
        digest = digest_of(canonical_bytes(program))
        self.shield.put_program(digest, program)
        return digest

    def admit(self, ifindex: int, vm: Vm, program: Digest, **changes: object) -> Tap:
        tap = Tap(
            ifindex, vm.number, vm.mac, ZONE, 0, vm.identity, tuple(sorted((vm.ipv4, vm.ipv6, vm.link_local))), program
        )
        tap = Tap(**{**{name: getattr(tap, name) for name in tap.__struct_fields__}, **changes})
        self.know(vm)
        self.shield.put_tap(tap)
        return tap

    def know(self, vm: Vm, zone: Zone = ZONE) -> None:
        owner = Address(vm.identity, vm.number)
        prefixes = (f"{vm.ipv4}/32", f"{vm.ipv6}/128", f"{vm.link_local}/128")
        self.book.put_addresses({AddressKey(zone, prefix): owner for prefix in prefixes})
        self.book.put_macs({MacKey(zone, vm.mac): vm.number})

    def reasons(self, ifindex: int) -> dict[tuple[Direction, Reason], int]:
        counts = self.telemetry.reasons(ifindex)
        return {(Direction(direction), Reason(reason)): count.packets for (direction, reason), count in counts.items()}

    def close(self) -> None:
        self.kernel.close()


class Vm:
    """What a test VM owns."""

    def __init__(self, number: int, identity: IdentityNumber) -> None:
        self.number, self.identity = VmNumber(number), identity
        self.mac = f"52:54:00:00:00:{number:02x}"
        self.ipv4, self.ipv6 = f"10.9.0.{number}", f"fd00:9::{number:x}"
        self.link_local = f"fe80::5054:ff:fe00:{number:x}"

    @property
    def v4(self) -> tuple[str, str]:
        return self.mac, self.ipv4

    @property
    def v6(self) -> tuple[str, str]:
        return self.mac, self.ipv6

    @property
    def ll(self) -> tuple[str, str]:
        return self.mac, self.link_local


def allow(peer: int, direction: Direction, protocol: int = 0, port: int = 0, prefix: int = 8, rule: int = 1) -> Entry:
    return Entry(IdentityNumber(peer), direction, protocol, port, prefix, Verdict.ALLOW, RuleNumber(rule))


def both_ways(peer: int, protocol: int = 0, port: int = 0, prefix: int = 8, rule: int = 1) -> tuple[Entry, Entry]:
    return tuple(allow(peer, direction, protocol, port, prefix, rule) for direction in Direction)  # type: ignore[return-value]
