"""Many connections carried from one kernel table to another by the handover's own parts, TLS between, each step timed."""

from __future__ import annotations

import ipaddress
import socket
import struct
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.handover.bundle import MAX_BODY, Bundle, Expected, check_bodies, read_bundle, seal, sign_bundle
from buckler.agent.handover.channel import Channel, Deadline, Identity, connect
from buckler.agent.handover.connections import ConnectionsSection
from buckler.agent.handover.section import Content
from buckler.agent.handover.talk import Handed, Taken
from buckler.agent.settings import DEFAULT_PINS
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.model.bundle import Member
from buckler.model.connection import Held, Rows, State
from buckler.model.ids import Digest, HostId, IdentityNumber, Revision, VmId
from buckler.model.program import Direction
from buckler.trust.statement import key_text, public_bytes
from tests.component.ground import Host, Vm, add_bridge, both_ways, open_tap, own_bpffs, own_network

_VM = VmId("01900000-0000-7000-8000-000000000001")
_SOURCE, _DESTINATION = HostId("source"), HostId("destination")
_NAME, _SECONDS = "connections", 60.0
_ROW = struct.Struct("<8BHHI16sQ")


class Carried(msgspec.Struct, frozen=True):
    """``seconds`` from the first look at the source's table to the destination's word that all of them stand in its own."""

    connections: int
    arrived: int
    bytes: int
    read_s: float
    send_and_put_s: float
    seconds: float
    cpu_s: float

    def __str__(self) -> str:
        return (
            f"{self.connections} connections ({self.bytes / 2**20:.1f} MiB) carried in {self.seconds:g} s: read {self.read_s:g} s, "
            f"signed, sent over TLS, checked and put {self.send_and_put_s:g} s; {self.cpu_s:g} s of processor time; {self.arrived} stand at the destination"
        )


def rows_of(vm: Vm, count: int) -> Rows:
    """``count`` established TCP connections, each of another remote end, to one port of the VM."""
    local = b"\0" * 10 + b"\xff\xff" + ipaddress.ip_address(vm.ipv4).packed
    first = int(ipaddress.ip_address("198.18.0.1"))
    return Rows(
        (local,),
        b"".join(
            _ROW.pack(
                *(6, Direction.INGRESS, State.ESTABLISHED, Held.ESTABLISHED, 0, 0x07, 0x07, 0),
                *(1024 + number % 60000, 8080, 3_600_000),
                b"\0" * 10 + b"\xff\xff" + (first + number // 60000).to_bytes(4, "big"),
                1000,
            )
            for number in range(count)
        ),
    )


def fill(device: str, count: int) -> None:
    """Put ``count`` connections at a tap whose shield an agent made, in the namespaces of its host."""
    kernel = Kernel(Path(DEFAULT_PINS))
    shield = EbpfShield(kernel)
    shield.open()
    ifindex = socket.if_nametoindex(device)
    tap = shield.taps()[ifindex]
    vm = Vm(1, tap.identity)
    vm.ipv4 = next(address for address in tap.addresses if ":" not in address)
    written = EbpfConnections(kernel).write(ifindex, rows_of(vm, count))
    kernel.close()
    assert written.put == count, written


class _End:
    """One host: kernel objects of its own, a tap, and its section."""

    def __init__(self, stack: ExitStack, folder: Path, name: str, vm: Vm, room: int) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.host = Host(stack.enter_context(own_bpffs(folder / name)))
        stack.callback(self.host.close)
        wire = stack.enter_context(closing(open_tap(name)))
        program = self.host.put_program(*both_ways(0, 6, 8080, 24))
        tap = self.host.admit(wire.ifindex, vm, program, connections=room)
        self.ifindex = wire.ifindex
        self.connections = EbpfConnections(self.host.kernel)
        self.section = ConnectionsSection(self.connections, lambda _vm: (tap,), lambda: ())


def carry(count: int) -> Carried:
    """Raises whatever a part of the handover raises."""
    vm = Vm(1, IdentityNumber(0x20000001))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(own_network())
        add_bridge()
        source, destination = (_End(stack, folder, name, vm, 2 * count) for name in ("src", "dst"))
        written = source.connections.write(source.ifindex, rows_of(vm, count))
        assert written.put == count, written
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        taker = threading.Thread(target=_take, args=(listener, source, destination), daemon=True)
        taker.start()
        channel = connect(
            Identity(_SOURCE, source.key),
            listener.getsockname(),
            public_bytes(destination.key.public_key()),
            Deadline(_SECONDS),
        )
        began, cpu = time.monotonic(), time.process_time()
        body = source.section.follow(_VM)()
        read = time.monotonic() - began
        answer = _hand(channel, source, body)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        taker.join(_SECONDS)
        assert answer.moved == count, answer
        arrived = len(destination.connections.read(destination.ifindex))
    return Carried(
        connections=count,
        arrived=arrived,
        bytes=len(body),
        read_s=round(read, 3),
        send_and_put_s=round(seconds - read, 3),
        seconds=round(seconds, 3),
        cpu_s=round(cpu, 3),
    )


def _hand(channel: Channel, source: _End, body: bytes) -> Taken:
    contents = {_NAME: Content(1, body)}
    bundle = Bundle(
        vm=_VM,
        source=_SOURCE,
        destination=_DESTINATION,
        nonce="of this run",
        epoch=1,
        serial=1,
        revision=Revision(1),
        binding=Digest("sha256:" + "0" * 64),
        is_final=True,
        sections=seal(contents),
    )
    channel.send(Handed(sign_bundle(bundle, source.key)), Deadline(_SECONDS))
    channel.send_bytes(body, Deadline(_SECONDS))
    answer = channel.receive(Deadline(_SECONDS))
    channel.close()
    assert isinstance(answer, Taken)
    return answer


def _take(listener: socket.socket, source: _End, destination: _End) -> None:
    plain, _ = listener.accept()
    channel = Channel(Identity(_DESTINATION, destination.key), plain, is_server=True)
    assert channel.shake_hands(Deadline(_SECONDS)) == public_bytes(source.key.public_key())
    message = channel.receive(Deadline(_SECONDS))
    assert isinstance(message, Handed)
    member = Member(_SOURCE, "source", key_text(source.key.public_key()), "127.0.0.1", ("127.0.0.1",))
    bundle = read_bundle(message.statement, member, Expected(_VM, _SOURCE, _DESTINATION, "of this run", 1))
    bodies = {name: channel.receive_bytes(MAX_BODY, Deadline(_SECONDS)) for name in sorted(bundle.sections)}
    for content in check_bodies(bundle, bodies).values():
        destination.section.take(_VM, content)
    moved, refused = destination.section.counts(_VM)
    channel.send(Taken(bundle.serial, moved, refused), Deadline(_SECONDS))
    channel.close()
