"""The shield as dictionaries: ports/shield in memory, with a kernel's refusals. Judges no packets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, VmNumber
from buckler.model.program import Program
from buckler.model.shield import Address, AddressKey, BridgePort, MacKey, Service, ServiceKey, Tap
from buckler.ports.shield import ShieldFailed


class InMemoryShield:
    """``interfaces`` are the indexes that exist; a tap whose interface is taken away reads back as gone."""

    def __init__(self, interfaces: set[int]) -> None:
        self.interfaces = interfaces
        self.rejudged = 0
        self.believes = False
        self._programs: dict[Digest, Program] = {}
        self._taps: dict[int, Tap] = {}

    def open(self) -> None:
        """See the port."""

    def taps(self) -> dict[int, Tap]:
        """See the port."""
        return {ifindex: tap for ifindex, tap in self._taps.items() if ifindex in self.interfaces}

    def put_tap(self, tap: Tap) -> None:
        """See the port."""
        if tap.program not in self._programs:
            raise ShieldFailed(f"tap {tap.ifindex}: program {tap.program} was not put before")
        if tap.ifindex not in self.interfaces:
            raise ShieldFailed(f"cannot configure tap {tap.ifindex}: no such interface")
        self._taps[tap.ifindex] = tap

    def prepare_taps(self, taps: Sequence[Tap]) -> None:
        """See the port. Nothing takes long here."""

    def delete_tap(self, ifindex: int) -> None:
        """See the port."""
        self._taps.pop(ifindex, None)

    def programs(self) -> frozenset[Digest]:
        """See the port."""
        return frozenset(self._programs)

    def put_program(self, digest: Digest, program: Program) -> None:
        """See the port."""
        if digest_of(canonical_bytes(program)) != digest:
            raise ShieldFailed(f"the program is not what {digest} names")
        self._programs[digest] = program

    def delete_program(self, digest: Digest) -> None:
        """See the port."""
        self._programs.pop(digest, None)

    def rejudge(self) -> None:
        """See the port."""
        self.rejudged += 1

    def held(self) -> frozenset[int]:
        """See the port."""
        return frozenset(self._taps)

    def fallen(self) -> frozenset[int]:
        """See the port."""
        return frozenset(self._taps) - self.interfaces

    def altered_programs(self) -> frozenset[Digest]:
        """See the port."""
        return frozenset()

    def prune(self) -> int:
        """See the port."""
        return 0

    def keep_time(self, *, is_believed: bool) -> bool:
        """See the port. No clock here is ever stepped."""
        was, self.believes = self.believes, is_believed
        return was != is_believed


class InMemoryAddressBook:
    """ports/shield.AddressBook."""

    def __init__(self) -> None:
        self._addresses: dict[AddressKey, Address] = {}
        self._macs: dict[MacKey, VmNumber] = {}

    def addresses(self) -> dict[AddressKey, Address]:
        """See the port."""
        return dict(self._addresses)

    def put_addresses(self, entries: Mapping[AddressKey, Address]) -> None:
        """See the port."""
        self._addresses.update(entries)

    def delete_addresses(self, keys: frozenset[AddressKey]) -> None:
        """See the port."""
        for key in keys:
            self._addresses.pop(key, None)

    def macs(self) -> dict[MacKey, VmNumber]:
        """See the port."""
        return dict(self._macs)

    def put_macs(self, entries: Mapping[MacKey, VmNumber]) -> None:
        """See the port."""
        self._macs.update(entries)

    def delete_macs(self, keys: frozenset[MacKey]) -> None:
        """See the port."""
        for key in keys:
            self._macs.pop(key, None)


class InMemoryServices:
    """ports/shield.Services."""

    def __init__(self) -> None:
        self._services: dict[ServiceKey, Service] = {}

    def services(self) -> dict[ServiceKey, Service]:
        """See the port."""
        return dict(self._services)

    def put_services(self, entries: Mapping[ServiceKey, Service]) -> None:
        """See the port."""
        self._services.update(entries)

    def delete_services(self, keys: frozenset[ServiceKey]) -> None:
        """See the port."""
        for key in keys:
            self._services.pop(key, None)


class InMemoryPorts:
    """ports/shield.Ports."""

    def __init__(self, interfaces: set[int]) -> None:
        self.interfaces = interfaces
        self._ports: dict[int, BridgePort] = {}

    def bridge_ports(self) -> dict[int, BridgePort]:
        """See the port."""
        return {ifindex: port for ifindex, port in self._ports.items() if ifindex in self.interfaces}

    def put_bridge_port(self, port: BridgePort) -> None:
        """See the port."""
        if port.ifindex not in self.interfaces:
            raise ShieldFailed(f"cannot configure bridge port {port.ifindex}: no such interface")
        self._ports[port.ifindex] = port

    def delete_bridge_port(self, ifindex: int) -> None:
        """See the port."""
        self._ports.pop(ifindex, None)
