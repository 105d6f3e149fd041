"""ports/shield.py and ports/telemetry.py in memory: holds what a kernel would. Judges no packet."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, VmNumber
from buckler.model.program import Program
from buckler.model.shield import Address, AddressKey, BridgePort, MacKey, Tap
from buckler.ports.shield import ShieldFailed
from buckler.ports.telemetry import PairCount, ReasonCount, Shed, ShieldEvent


class InMemoryShield:
    """``generation`` counts how often connections were to be judged again; ``seen`` is what ``events`` will give."""

    def __init__(self) -> None:
        self._taps: dict[int, Tap] = {}
        self._programs: dict[Digest, Program] = {}
        self._addresses: dict[AddressKey, Address] = {}
        self._macs: dict[MacKey, VmNumber] = {}
        self._ports: dict[int, BridgePort] = {}
        self.generation = 0
        self.seen: deque[ShieldEvent] = deque()

    def open(self) -> None:
        """What is here stays."""

    def taps(self) -> dict[int, Tap]:
        return dict(self._taps)

    def put_tap(self, tap: Tap) -> None:
        if tap.program not in self._programs:
            raise ShieldFailed(f"tap {tap.ifindex}: program {tap.program} was not put before")
        addresses = tuple(sorted(set(tap.addresses)))
        self._taps[tap.ifindex] = msgspec.structs.replace(tap, addresses=addresses, mac=tap.mac.lower())

    def delete_tap(self, ifindex: int) -> None:
        self._taps.pop(ifindex, None)

    def programs(self) -> frozenset[Digest]:
        return frozenset(self._programs)

    def put_program(self, digest: Digest, program: Program) -> None:
        if digest_of(canonical_bytes(program)) != digest:
            raise ShieldFailed(f"the program is not what {digest} names")
        self._programs[digest] = program

    def delete_program(self, digest: Digest) -> None:
        self._programs.pop(digest, None)

    def rejudge(self) -> None:
        self.generation += 1

    def addresses(self) -> dict[AddressKey, Address]:
        return dict(self._addresses)

    def put_addresses(self, entries: Mapping[AddressKey, Address]) -> None:
        self._addresses.update(entries)

    def delete_addresses(self, keys: frozenset[AddressKey]) -> None:
        for key in keys:
            self._addresses.pop(key, None)

    def macs(self) -> dict[MacKey, VmNumber]:
        return dict(self._macs)

    def put_macs(self, entries: Mapping[MacKey, VmNumber]) -> None:
        self._macs.update(entries)

    def delete_macs(self, keys: frozenset[MacKey]) -> None:
        for key in keys:
            self._macs.pop(key, None)

    def bridge_ports(self) -> dict[int, BridgePort]:
        return dict(self._ports)

    def put_bridge_port(self, port: BridgePort) -> None:
        self._ports[port.ifindex] = port

    def delete_bridge_port(self, ifindex: int) -> None:
        self._ports.pop(ifindex, None)

    def events(self, limit: int) -> list[ShieldEvent]:
        return [self.seen.popleft() for _ in range(min(limit, len(self.seen)))]

    def shed(self) -> Shed:
        return Shed(0, 0)

    def reasons(self, ifindex: int) -> dict[tuple[int, int], ReasonCount]:  # noqa: ARG002 - no packet was judged
        return {}

    def pairs(self) -> list[PairCount]:
        return []

    def connections(self, ifindex: int) -> tuple[int, int]:  # noqa: ARG002 - nor a connection made
        return (0, 0)
