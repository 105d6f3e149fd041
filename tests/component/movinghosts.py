"""Two private hosts with agents of their own keys in one pool, a wire between them, and a VM that moves."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.drivers.libvirt.hypervisor import LibvirtHypervisor
from buckler.drivers.state.sqlite import SqliteState
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Member
from buckler.model.ids import HostId
from buckler.trust.statement import key_text
from tests.component.agenthost import AgentHost, agent_host
from tests.privatehost import wait_until

FABRIC = "10.98.0"
IDS = tuple(HostId(f"01900000-0000-7000-8000-00000000aaa{number}") for number in (1, 2))
_INSIDE = """
import sys, json
from pathlib import Path
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.model.connection import Rows
from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.telemetry import EbpfTelemetry
import socket
kernel = Kernel(Path("/sys/fs/bpf/buckler"))
kernel.open()
door = EbpfConnections(kernel)
request = json.load(sys.stdin)
ifindex = socket.if_nametoindex(request["device"])
if "frame" in request:
    before = {str(key): each.packets for key, each in EbpfTelemetry(kernel).reasons(ifindex).items()}
    passed = run_hook(kernel, "tap_from_vm", bytes.fromhex(request["frame"]), ifindex).passed
    after = {str(key): each.packets for key, each in EbpfTelemetry(kernel).reasons(ifindex).items()}
    print(json.dumps([passed, [key for key in after if after[key] != before.get(key)]]))
elif "rows" in request:
    print(json.dumps(door.write(ifindex, Rows(tuple(bytes.fromhex(one) for one in request["locals"]), bytes.fromhex(request["rows"]))).put))
else:
    held = door.read(ifindex)
    print(json.dumps([[one.hex() for one in held.locals], held.rows.hex()]))
"""


class MovingHosts:
    """``hosts`` by number; ``where`` says which of them runs VM 1."""

    def __init__(self, hosts: tuple[AgentHost, AgentHost]) -> None:
        self.hosts = hosts
        self.pool = hosts[0].pool
        hosts[1].pool = self.pool
        self._cable()
        for number, one in enumerate(hosts, 1):
            with (one.host.root / "etc/libvirt/qemu.conf").open("a") as file:
                file.write(f'migration_host = "{FABRIC}.{number}"\nmigration_address = "{FABRIC}.{number}"\n')
            one.publish = lambda at=number - 1: self.publish(at)  # type: ignore[method-assign]
        self.publish(0)
        self.publish(1)

    def members(self) -> tuple[Member, ...]:
        found = []
        for number, one in enumerate(self.hosts):
            state = SqliteState(one.folder)
            key = Ed25519PrivateKey.from_private_bytes(state.host_key())
            state.close()
            address = f"{FABRIC}.{number + 1}"
            found.append(Member(IDS[number], f"hv{number + 1}", key_text(key.public_key()), address, (address,)))
        return tuple(found)

    def publish(self, at: int, **changes: object) -> None:
        """Put the pool's newest state on one host's disk: the other then knows an older one."""
        state = SqliteState(self.hosts[at].folder)
        self.pool.join(state, host=IDS[at], **{"members": self.members(), "host_name": f"hv{at + 1}", **changes})
        state.close()

    def _cable(self) -> None:
        first, second = (one.host.pid for one in self.hosts)
        words = ["nsenter", "-t", str(first), "-n", "ip", "link", "add", "mig0", "type", "veth"]
        subprocess.run([*words, "peer", "name", "mig0", "netns", str(second)], check=True)
        for number, one in enumerate(self.hosts, 1):
            one.host.run("ip", "addr", "add", f"{FABRIC}.{number}/24", "dev", "mig0")
            one.host.run("ip", "link", "set", "mig0", "up")

    def where(self) -> tuple[AgentHost, AgentHost]:
        """(host that runs the VM, the other one)"""
        running = [one for one in self.hosts if "running" in one.host.virsh("domstate", "vm-1", is_checked=False)]
        assert len(running) == 1, "the VM runs on exactly one host"
        return running[0], next(one for one in self.hosts if one is not running[0])

    def migrate(self) -> tuple[AgentHost, AgentHost]:
        """Move the VM to the other host; return (source, destination)."""
        source, destination = self.where()
        uri = f"qemu+unix:///system?socket={destination.host.root}/run/libvirt/libvirt-sock"
        LibvirtHypervisor(source.host.uri).migrate(source.pool.uuid(1), uri)
        assert self.where() == (destination, source)
        return source, destination

    def settled(self) -> None:
        """The VM's residence of its newest stay stands in its domain."""
        source, _ = self.where()
        wait_until(lambda: read_residence_of(source) == IDS[self.hosts.index(source)], 10, 0.1)


def connections(
    host: AgentHost, device: str, locals_: tuple[bytes, ...] = (), rows: bytes = b""
) -> tuple[list[bytes], bytes]:
    """Read a tap's connections in its host's kernel, or write some first."""
    request: dict[str, object] = {"device": device}
    if rows:
        host.host.run(
            sys.executable, "-c", _INSIDE,
            text=json.dumps({**request, "rows": rows.hex(), "locals": [one.hex() for one in locals_]}),
        )  # fmt: skip
    read = json.loads(host.host.run(sys.executable, "-c", _INSIDE, text=json.dumps(request)))
    return [bytes.fromhex(one) for one in read[0]], bytes.fromhex(read[1])


def judge(host: AgentHost, device: str, frame: bytes) -> tuple[bool, int]:
    """Whether a frame of the VM's passes its shield, and the reason by number."""
    request = {"device": device, "frame": frame.hex()}
    passed, (counted,) = json.loads(host.host.run(sys.executable, "-c", _INSIDE, text=json.dumps(request)))
    return passed, int(counted.strip("()").split(",")[1].split(":")[-1].strip(" >"))


def read_residence_of(host: AgentHost) -> str:
    """Whose residence VM 1 shows: unverified, for waiting only."""
    statement = parse_domain(host.host.virsh("dumpxml", "vm-1")).residence
    payload = statement.split(".")[1] if statement else ""
    return json.loads(base64.urlsafe_b64decode(payload + "=="))["host"] if payload else ""


@contextmanager
def moving_hosts() -> Iterator[MovingHosts]:
    """Both agents run, and VM 1 on the first."""
    with ExitStack() as stack:
        made = MovingHosts((stack.enter_context(agent_host(vms=1)), stack.enter_context(agent_host(vms=1))))
        for one in made.hosts:
            one.start_agent()
            one.host.restart_libvirtd()
        made.hosts[0].define(1)
        assert made.hosts[0].start(1).returncode == 0
        yield made
