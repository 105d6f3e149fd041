"""A private host with a real agent on it: libvirtd, bridge, shield, guard; joined to a pool that exists only on its disk."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from buckler.agent.doorman import Request, ask
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.event import Event, EventKind
from tests.poolkit import Pool, card, domain
from tests.privatehost import PrivateHost, private_host, wait_until

SETTINGS = """
tunnel: [vx100]
fabric: ul0
bridges: [br0]
"""

STARTED = 60.0
"""Seconds: libvirt holds a domain that it gives up until its hooks are answered or over, and an agent that begins looks at it."""


class AgentHost:
    """``start_agent`` runs ``buckler agent run`` inside; ``kill_agent`` is SIGKILL."""

    def __init__(self, host: PrivateHost, pool: Pool) -> None:
        self.host = host
        self.pool = pool
        self.agent: subprocess.Popen[bytes] | None = None
        host.run(
            "sh",
            "-c",
            "ip link add br0 type bridge && ip link set br0 up && ip link add ul0 type veth peer name ul1 && ip link set ul0 up",
        )
        host.run(
            "sh",
            "-c",
            "ip addr add 10.99.0.1/24 dev ul0 && ip link add vx100 type vxlan id 100 dev ul0 dstport 4789 && ip link set vx100 master br0 up",
        )
        (host.root / "etc/buckler/agent.yaml").write_text(SETTINGS)
        self.publish()

    @property
    def folder(self) -> Path:
        return self.host.root / "var/lib/buckler/agent"

    def publish(self) -> None:
        """Put the pool's newest state on the host's disk, as a controller's stream would have."""
        state = SqliteState(self.folder)
        self.pool.join(state)
        state.close()

    def events(self, kind: EventKind | None = None) -> list[Event]:
        state = SqliteState(self.folder)
        try:
            return [event for event in state.pending(10_000) if kind is None or event.kind is kind]
        finally:
            state.close()

    def start_agent(self, *words: str, is_awaited: bool = True) -> None:
        log = (self.host.root / "agent.log").open("ab")
        program = [sys.executable, *(words or ("-m", "buckler", "agent", "run"))]
        environment = {**os.environ, "COLUMNS": "200"}
        self.agent = subprocess.Popen(
            self.host.command(*program), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
        )
        if is_awaited:
            wait_until(lambda: self.status().get("enforced") or self.agent.poll() is not None, STARTED, 0.1)
            assert self.agent.poll() is None, self.log()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in Path(f"/proc/{self.agent.pid}/task/{self.agent.pid}/children").read_text().split():
                os.kill(int(child), number)

    def log(self) -> str:
        return (self.host.root / "agent.log").read_text()[-6000:]

    def kill_agent(self) -> None:
        """SIGKILL the agent itself, not only the nsenter before it."""
        if self.agent is None:
            return
        self._signal(signal.SIGKILL)
        self.agent.kill()
        self.agent.wait(10)
        self.agent = None

    def stop_agent(self) -> None:
        self._signal(signal.SIGTERM)
        self.agent.wait(15)
        self.agent = None

    def status(self) -> dict:
        """Ask the agent through its socket, from outside its namespaces."""
        try:
            return ask(self.host.root / "run/buckler/agent.sock", Request("status")).detail
        except OSError:
            return {}

    def define(self, number: int, passport: str | None = "own", *cards: str, extra: str = "") -> None:
        shown = self.pool.passport(number) if passport == "own" else passport
        xml = domain(number, shown, *(cards or (card(Pool.mac(number)),)), extra=extra)
        path = self.host.root / "run" / f"vm-{number}.xml"
        path.write_text(xml)
        self.host.virsh("define", f"/run/vm-{number}.xml")

    def start(self, number: int) -> subprocess.CompletedProcess[str]:
        words = ("virsh", "-q", "-c", "qemu:///system", "start", f"vm-{number}")
        return subprocess.run(self.host.command(*words), capture_output=True, text=True, timeout=60)

    def destroy(self, number: int) -> None:
        self.host.virsh("destroy", f"vm-{number}", is_checked=False)

    def tap(self, number: int) -> str:
        listed = self.host.virsh("domiflist", f"vm-{number}", is_checked=False).split()
        return listed[0] if listed else ""

    def ifindex(self, device: str) -> int:
        shown = json.loads(self.host.run("ip", "-j", "link", "show", device))
        return int(shown[0]["ifindex"])

    def guard(self) -> str:
        return self.host.run("nft", "list", "ruleset", is_checked=False)

    def guard_ports(self) -> set[tuple[int, str]]:
        """The ports that the guard lets through; empty when there is no sound guard."""
        code = "from buckler.drivers.nftables.guard import NftablesGuard as G; s = G().observe(); print(sorted(s.ports) if s else [])"
        return set(ast.literal_eval(self.host.run(sys.executable, "-c", code)))

    def is_admitted(self, device: str) -> bool:
        return device in self.status().get("taps", [])

    def wait_admitted(self, device: str, seconds: float = 5) -> None:
        wait_until(lambda: self.is_admitted(device), seconds)


@contextlib.contextmanager
def agent_host(vms: int = 3) -> Iterator[AgentHost]:
    with private_host("ag") as host:
        made = AgentHost(host, Pool(vms=vms))
        try:
            yield made
        finally:
            if made.agent is not None:
                made.kill_agent()
            time.sleep(0.1)
