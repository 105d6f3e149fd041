"""One bridge with two VMs twice over: as taps whose frames we write, and as namespaces with a TCP stack. Owns no filter."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyroute2 import IPRoute
from tests.component.ground import Wire, add_bridge, open_tap, run

_NEW_NETWORK = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
SOURCES = Path(__file__).parent
SENDER_MAC, RECEIVER_MAC = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
SENDERS = tuple(f"10.9.1.{number}" for number in range(1, 65))
RECEIVER = "10.9.0.2"
FIRST_PORT, FIRST_TARGET = 2000, 5008
"""As in traffic.c."""
STREAM_PORT, CONNECT_PORT = 5002, 5003
_TRIES = 3


def build_traffic(folder: Path) -> Path:
    """Compile the generator."""
    built = folder / "traffic"
    run(f"gcc -O2 -pthread -o {built} {SOURCES / 'traffic.c'}")
    return built


class Namespace:
    """A network of its own, without a name and without a way out; gone with its last holder."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if _libc.unshare(_NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "unshare")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            run("ip link set lo up")
        finally:
            _libc.setns(home, _NEW_NETWORK)
            os.close(home)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread, and what it starts, into this network."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if _libc.setns(self.fd, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            _libc.setns(home, _NEW_NETWORK)
            os.close(home)

    def close(self) -> None:
        """Let it go."""
        os.close(self.fd)


class World:
    """br0 with the taps tapA and tapB; br1 with vethA and vethB, behind which stand the namespaces of sender and receiver."""

    def __init__(self, name: str, traffic: Path) -> None:
        self.name, self._traffic = name, traffic
        self.forget: Callable[[], object] = lambda: None
        """Frees what earlier bursts left behind; set by what is installed."""
        self._stack = ExitStack()
        self.host, self._sender, self._receiver = Namespace(), Namespace(), Namespace()
        self.folder = Path(tempfile.mkdtemp(prefix="buckler-dataplane-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        for namespace in (self.host, self._sender, self._receiver):
            self._stack.callback(namespace.close)
        try:
            with self.host.entered():
                self._build()
            with self._receiver.entered():
                self._start("drain", str(STREAM_PORT))
                self._start("sink", str(CONNECT_PORT))
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        calls = " ".join(f"net.bridge.bridge-nf-call-{kind}=0" for kind in ("iptables", "ip6tables", "arptables"))
        run(f"sysctl -qw {calls} || true")
        add_bridge("br0")
        add_bridge("br1")
        self.tap_a, self.tap_b = self._open_tap("tapA"), self._open_tap("tapB")
        ends = ((self._sender, "vethA", SENDER_MAC, SENDERS[0]), (self._receiver, "vethB", RECEIVER_MAC, RECEIVER))
        for namespace, name, mac, address in ends:
            far = f"{name}-far"
            run(f"ip link add {name} type veth peer name {far}")
            run(f"ip link set {name} master br1 up")
            _move_link(far, namespace)
            with namespace.entered():
                run(f"sysctl -qw net.ipv6.conf.{far}.disable_ipv6=1")
                run(f"ip link set {far} name eth0 address {mac} up && ip addr add {address}/16 dev eth0")
        self.veth_a, self.veth_b = socket.if_nametoindex("vethA"), socket.if_nametoindex("vethB")
        for namespace, address, mac in (
            (self._sender, RECEIVER, RECEIVER_MAC),
            (self._receiver, SENDERS[0], SENDER_MAC),
        ):
            with namespace.entered():
                run(f"ip neigh replace {address} lladdr {mac} dev eth0 nud permanent")

    def _open_tap(self, name: str) -> Wire:
        wire = open_tap(name, "br0")
        os.set_inheritable(wire.fd, True)
        self._stack.callback(wire.close)
        return wire

    def _start(self, *words: str) -> None:
        process = subprocess.Popen([self._traffic, *words])
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def run_traffic(self, *words: str) -> list[float]:
        """Run the generator in the sender's namespace and return the numbers that it prints."""
        command = [str(self._traffic), *words]
        for _ in range(_TRIES):  # a loaded machine may be late to answer a handshake
            with self._sender.entered():
                done = subprocess.run(command, capture_output=True, text=True, check=False, close_fds=False, timeout=60)
            if done.returncode == 0:
                return [float(word) for word in done.stdout.split()]
            time.sleep(1)
        raise RuntimeError(f"{self.name}: traffic {words[0]}: {done.stderr.strip()}")

    def exchange(self, ask: bytes, answer: bytes) -> None:
        """Send a frame from the sender to the receiver and one back, twice, and the first again: on both bridges."""
        with self._sender.entered():
            sender = _open_packet()
        with self._receiver.entered():
            receiver = _open_packet()
        for _ in range(2):
            self.tap_a.send(ask)
            self.tap_b.send(answer)
            sender.send(ask)
            receiver.send(answer)
        self.tap_a.send(ask)
        sender.send(ask)
        sender.close()
        receiver.close()

    def keep(self, close: ExitStack) -> None:
        """Close ``close`` together with this world, before it."""
        self._stack.push(close)

    def close(self) -> None:
        """End the processes and let the namespaces go."""
        self._stack.close()


def _open_packet() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    opened.bind(("eth0", 0))
    return opened


def _move_link(name: str, namespace: Namespace) -> None:
    """Hand an interface over by descriptor: the namespace has no name."""
    with IPRoute() as route:
        route.link("set", index=socket.if_nametoindex(name), net_ns_fd=namespace.fd)
