"""The kernel of one imagined host, from the in-memory drivers. Interfaces appear in the shield and the links at once."""

from __future__ import annotations

from buckler.agent.apply import Kernel
from buckler.drivers.inmemory.connections import InMemoryConnections
from buckler.drivers.inmemory.guard import InMemoryGuard
from buckler.drivers.inmemory.links import InMemoryLinks
from buckler.drivers.inmemory.shield import InMemoryAddressBook, InMemoryPorts, InMemoryServices, InMemoryShield
from buckler.ports.links import Link


class MemoryKernel:
    def __init__(self, addresses: tuple[str, ...] = ("10.99.0.1", "127.0.0.1")) -> None:
        self.interfaces: set[int] = set()
        self.shield, self.book = InMemoryShield(self.interfaces), InMemoryAddressBook()
        self.services = InMemoryServices()
        self.ports = InMemoryPorts(self.interfaces)
        self.connections = InMemoryConnections(self._room)
        self.guard, self.links = InMemoryGuard(), InMemoryLinks(addresses=addresses)

    def kernel(self) -> Kernel:
        return Kernel(self.shield, self.book, self.services, self.ports, self.shield, self.guard, self.links)

    def _room(self, ifindex: int) -> int | None:
        tap = self.shield.taps().get(ifindex)
        return None if tap is None else tap.connections

    def add(self, link: Link) -> None:
        self.interfaces.add(link.ifindex)
        self.links.put(link)

    def remove(self, ifindex: int) -> None:
        self.interfaces.discard(ifindex)
        self.links.take(ifindex)

    def read(self) -> tuple[object, ...]:
        """Everything that it holds, the indexes of interfaces that are gone among it."""
        learning = {index: link.learning for index, link in self.links.links().items()}
        taps = {index: (tap.addresses, tap.program, tap.identity, tap.vm) for index, tap in self.shield._taps.items()}
        book = (self.book.addresses(), self.book.macs(), self.services.services())
        return (taps, self.shield.programs(), book, self.ports.bridge_ports(), self.guard.observe(), learning)
