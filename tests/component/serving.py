"""A network with virtual addresses: a client and its members on taps of one bridge, and what each of them reads off the wire."""

from __future__ import annotations

import ipaddress
import select
import struct
import time

import msgspec

from buckler.drivers.ebpf.reasons import Reason
from buckler.model.bundle import ServiceMember, ServicePort
from buckler.model.program import Direction, Entry
from buckler.model.shield import GuardState, Service, ServiceKey
from tests import packets as p
from tests.component.ground import APP, SLOWNESS, WEB, ZONE, Host, Vm, Wire, both_ways, open_tap
from tests.component.reading import take_frames

CLIENT, FIRST, SECOND = Vm(1, WEB), Vm(2, APP), Vm(3, APP)
VIP4, VIP6 = "10.9.0.200", "fd00:9::200"
NUMBER4, NUMBER6 = 7, 0x0A0B0C
MAC4, MAC6 = "02:62:6b:00:00:07", "02:62:6b:0a:0b:0c"
TCP, UDP, SCTP = 6, 17, 132
PORTS = (ServicePort(TCP, 80, 81), ServicePort(UDP, 53, 53), ServicePort(SCTP, 3868, 3868))
PORT_OF = {TCP: 80, UDP: 53, SCTP: 3868}
Ends = tuple[tuple[str, str], tuple[str, str]]


class Packet(msgspec.Struct, frozen=True):
    """Ends as (MAC, address); ports; and the bytes behind the transport's first eight, without its sum."""

    source: tuple[str, str]
    destination: tuple[str, str]
    protocol: int
    ports: tuple[int, int]
    rest: bytes


def read_packet(frame: bytes) -> Packet:
    """Every sum in it is held to be right."""
    six = frame[12:14] == b"\x86\xdd"
    packet = frame[14:]
    if six:
        size = struct.unpack(">H", packet[4:6])[0]
        protocol, source, destination, body = packet[6], packet[8:24], packet[24:40], packet[40 : 40 + size]
    else:
        header = (packet[0] & 15) * 4
        assert p.checksum(packet[:header]) == 0, "the sum of the IPv4 header"
        size = struct.unpack(">H", packet[2:4])[0]
        protocol, source, destination, body = packet[9], packet[12:16], packet[16:20], packet[header:size]
    ends = (str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination)))
    if protocol in (TCP, UDP):
        at = 16 if protocol == TCP else 6
        if protocol == TCP or body[at : at + 2] != b"\0\0":
            assert p.checksum(p.pseudo(*ends, protocol, len(body)) + body) == 0, "the sum of the transport"
    if protocol in (1, 58):
        assert p.checksum((p.pseudo(*ends, 58, len(body)) if six else b"") + body) == 0, "the sum of ICMP"
    return Packet(
        (frame[6:12].hex(":"), ends[0]),
        (frame[:6].hex(":"), ends[1]),
        protocol,
        struct.unpack(">HH", body[:4]),
        body[8:16] + body[18:] if protocol == TCP else body[8:],
    )


def whole_tcp(ends: Ends, *words: int, **fields: object) -> bytes:
    """A segment with a right sum."""
    body = p.tcp(*words, **fields)  # type: ignore[arg-type]
    value = p.checksum(p.pseudo(ends[0][1], ends[1][1], TCP, len(body)) + body)
    return p.ip_frame(*ends, TCP, body[:16] + struct.pack(">H", value) + body[18:])


def sctp(source: int, destination: int, *, opens: bool, data: bytes = b"") -> bytes:
    chunk = struct.pack(">BBH", 1 if opens else 2, 0, 20 + len(data)) + bytes(16) + data
    return struct.pack(">HHII", source, destination, 77, 0xC0FFEE) + chunk


def first_frame(protocol: int, ends: Ends, local: int = 4000, port: int = 0) -> bytes:
    port = port or PORT_OF[protocol]
    if protocol == TCP:
        return whole_tcp(ends, local, port, p.SYN, sequence=1000)
    if protocol == UDP:
        return p.ip_frame(*ends, UDP, p.udp(local, port, b"q" * 21, ends=(ends[0][1], ends[1][1])))
    return p.ip_frame(*ends, SCTP, sctp(local, port, opens=True))


def reply_frame(protocol: int, ends: Ends, local: int = 4000, port: int = 0) -> bytes:
    """What a member says to the first frame; ``ends`` from member to client."""
    port = port or PORT_OF[protocol]
    if protocol == TCP:
        return whole_tcp(ends, port, local, p.SYN | p.ACK, sequence=5000, acknowledgement=1001)
    if protocol == UDP:
        return p.ip_frame(*ends, UDP, p.udp(port, local, b"a" * 33, ends=(ends[0][1], ends[1][1])))
    return p.ip_frame(*ends, SCTP, sctp(port, local, opens=False))


def next_frame(protocol: int, ends: Ends, local: int = 4000, port: int = 0, data: bytes = b"") -> bytes:
    """The client's third word."""
    port = port or PORT_OF[protocol]
    if protocol == TCP:
        return whole_tcp(ends, local, port, p.ACK, sequence=1001, acknowledgement=5001, data=data)
    if protocol == UDP:
        return p.ip_frame(*ends, UDP, p.udp(local, port, data or b"more", ends=(ends[0][1], ends[1][1])))
    return p.ip_frame(*ends, SCTP, sctp(local, port, opens=False, data=data))


def service(number: int, *members: Vm, six: bool = False, ports: tuple[ServicePort, ...] = PORTS) -> Service:
    standing = [ServiceMember(vm.ipv6 if six else vm.ipv4, vm.mac) for vm in members]
    return Service(number, ports, tuple(standing))


class Served:
    """VM 1 is the client; VMs 2 and 3 stand behind both virtual addresses."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.wires = {vm.number: open_tap(f"tap{vm.number}") for vm in (CLIENT, FIRST, SECOND)}
        self.client = self.wires[CLIENT.number]
        self.stand(FIRST, SECOND)
        self.rules(both_ways(0), both_ways(0))
        ports = frozenset((wire.ifindex, "br0") for wire in self.wires.values())
        host.guard.apply(GuardState(bridges=frozenset({"br0"}), ports=ports, fabric=""))
        for vm in (CLIENT, FIRST, SECOND):
            self.wires[vm.number].send(
                p.ether(vm.mac, p.BROADCAST, 0x0806, p.arp(1, vm.v4, ("00:00:00:00:00:00", vm.ipv4)))
            )
        self.drain()

    def stand(self, *members: Vm) -> None:
        self.host.services.put_services({
            ServiceKey(ZONE, VIP4): service(NUMBER4, *members),
            ServiceKey(ZONE, VIP6): service(NUMBER6, *members, six=True),
        })  # fmt: skip

    def rules(self, client: tuple[Entry, ...], members: tuple[Entry, ...], **changes: object) -> None:
        for vm, entries in ((CLIENT, client), (FIRST, members), (SECOND, members)):
            program = self.host.put_program(*entries)
            self.host.admit(self.wires[vm.number].ifindex, vm, program, **{"services": True, **changes})

    def drain(self) -> None:
        for wire in self.wires.values():
            wire.receive(seconds=0.1)
        self.host.telemetry.events(1 << 16)

    def reasons(self, vm: Vm = CLIENT) -> dict[tuple[Direction, Reason], int]:
        return self.host.reasons(self.wires[vm.number].ifindex)

    def reason(self, frame: bytes, vm: Vm = CLIENT) -> Reason:
        """Send one frame that ends at the sender's own shield or goes on, and say what the shield made of it."""
        before = self.reasons(vm)
        self.wires[vm.number].send(frame)
        end = time.monotonic() + 5 * SLOWNESS
        while (after := self.reasons(vm)) == before and time.monotonic() < end:
            time.sleep(0.001)
        (changed,) = [key for key, count in after.items() if count != before.get(key) and key[0] is Direction.EGRESS]
        return changed[1]

    def arrived(self) -> tuple[Vm, bytes]:
        """At which member the one frame under way came out."""
        select.select([self.wires[vm.number].fd for vm in (FIRST, SECOND)], [], [], 5 * SLOWNESS)
        found = [(vm, frame) for vm in (FIRST, SECOND) for frame in self.wires[vm.number].receive(seconds=0.03)]
        assert len(found) == 1, found
        return found[0]

    def nothing(self) -> None:
        for wire in self.wires.values():
            assert wire.receive(seconds=0.1) == [], wire.name

    def take(self, wire: Wire) -> bytes:
        (frame,) = take_frames(wire)
        return frame

    def open(self, protocol: int = TCP, *, six: bool = False, local: int = 4000) -> Vm:
        """A whole connection through the virtual address: three words, each read where it arrived."""
        to, back = ends_to(six)
        self.client.send(first_frame(protocol, to, local))
        vm, _ = self.arrived()
        self.wires[vm.number].send(reply_frame(protocol, (end_of(vm, six), end_of(CLIENT, six)), local))
        assert read_packet(self.take(self.client)).source == back
        self.client.send(next_frame(protocol, to, local))
        assert self.arrived()[0] is vm
        return vm

    def open_half(self, six: bool, local: int) -> Vm:
        """One word, unanswered."""
        self.client.send(first_frame(TCP, ends_to(six)[0], local))
        return self.arrived()[0]

    def close(self) -> None:
        for wire in self.wires.values():
            wire.close()


def end_of(vm: Vm, six: bool) -> tuple[str, str]:
    return vm.v6 if six else vm.v4


def ends_to(six: bool) -> tuple[Ends, tuple[str, str]]:
    """From the client to the virtual address, and that address by itself."""
    virtual = (MAC6, VIP6) if six else (MAC4, VIP4)
    return (end_of(CLIENT, six), virtual), virtual
