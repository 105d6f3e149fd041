"""One host whose kernel, state and hypervisor are in memory, and its whole agent. Owns no claim."""

from __future__ import annotations

import time
from pathlib import Path

from buckler.agent.assemble import Agent, Drivers
from buckler.agent.doorman import Answer, Request, ask
from buckler.agent.settings import AgentSettings
from buckler.drivers.inmemory.claims import InMemoryClaims
from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.inmemory.performance import InMemoryPerformance
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.model.event import EventKind
from buckler.ports.links import Link
from tests.memorykernel import MemoryKernel
from tests.poolkit import Pool, card, domain
from tests.privatehost import wait_until


class World:
    """One host whose kernel and hypervisor outlive its agents."""

    def __init__(self, folder: Path) -> None:
        self.pool = Pool(vms=2)
        self.state = InMemoryState()
        self.pool.join(self.state)
        self.memory, self.telemetry = MemoryKernel(), InMemoryTelemetry()
        self.shield, self.guard, self.links = self.memory.shield, self.memory.guard, self.memory.links
        self.hypervisor = InMemoryHypervisor()
        self.memory.add(Link(2, "br0", "bridge", "02:00:00:00:00:01", "", up=True))
        self.memory.add(Link(3, "vx100", "vxlan", "02:00:00:00:00:02", "br0", up=True))
        self.socket = folder / "agent.sock"
        self.settings = AgentSettings(
            tunnel=("vx100",), fabric="ul0", socket=str(self.socket), pass_seconds=0.3, sweep_seconds=1
        )
        self.agent = self.boot()

    def drivers(self) -> Drivers:
        return Drivers(
            self.state,
            self.hypervisor,
            InMemoryPerformance(self.hypervisor),
            self.memory.kernel(),
            self.telemetry,
            InMemoryClaims(),
            self.memory.connections,
        )

    def boot(self) -> Agent:
        agent = Agent(self.settings, self.drivers())
        agent.start()
        wait_until(lambda: agent.steward.residents.is_complete, 5)
        return agent

    def hook(self, operation: str, xml: str) -> Answer:
        return ask(self.socket, Request(operation, xml=xml))

    def plug_tap(self, index: int, name: str, mac: str, bridge: str = "br0") -> None:
        self.memory.add(Link(index, name, "tun", "fe" + mac[2:], bridge, up=True))

    def start(self, number: int, passport: str | None = "own") -> Answer:
        """As libvirt does it: prepare, the tap, the hook, QEMU."""
        mac = Pool.mac(number)
        shown = self.pool.passport(number) if passport == "own" else passport
        xml = domain(number, shown, card(mac, f"vnet{number}"))
        answer = self.hook("prepare", xml)
        if answer.allowed:
            self.plug_tap(10 + number, f"vnet{number}", mac)
            answer = self.hook("start", xml)
        if answer.allowed:
            self.hypervisor.start(xml)
        return answer

    def is_open(self, index: int) -> bool:
        state = self.guard.observe()
        return state is not None and (index, "br0") in state.ports and index in self.shield.taps()

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.state.pending(1000)]

    def events(self, kind: EventKind) -> list[dict[str, object]]:
        return [event.detail for event in self.state.pending(1000) if event.kind is kind]

    def settle(self) -> None:
        self.agent._worker.ask(lambda: None, 5)
        time.sleep(0.05)
        self.agent._worker.ask(self.agent.steward.tidy, 5)
