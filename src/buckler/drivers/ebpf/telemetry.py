"""ports/telemetry.Telemetry on the loaded object: events and counters, as the kernel has them."""

from __future__ import annotations

from collections.abc import Callable

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.ring import Ring
from buckler.drivers.ebpf.table import Table
from buckler.drivers.ebpf.waiting import read_waiting
from buckler.model.connection import State
from buckler.ports.shield import ShieldFailed
from buckler.ports.telemetry import PairCount, ReasonCount, Shed, ShieldEvent, StagedCount

_STATE = layout.CONNECTION.size - 9
"""Where a connection's state stands."""


class EbpfTelemetry:
    """One reader of events per kernel object. Raises ShieldFailed."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ring: tuple[int, Ring] | None = None

    def events(self, limit: int) -> list[ShieldEvent]:
        """See the port."""
        table = self._kernel["events"]
        try:
            if self._ring is None or self._ring[0] != table.id:
                self._ring = (table.id, Ring(table.fd, table.max_entries))
            return [_read_event(raw) for raw in self._ring[1].read(limit)]
        except (OSError, ValueError) as failure:
            raise ShieldFailed(f"cannot read events: {failure}") from failure

    def shed(self) -> Shed:
        """See the port."""
        lost, suppressed = sum_cpus(self._kernel["sheds"].get(layout.U32.pack(0)) or b"", 2)
        return Shed(lost, suppressed)

    def reasons(self, ifindex: int) -> dict[tuple[int, int], ReasonCount]:
        """See the port."""
        raw = self._kernel["counters"].get(layout.U32.pack(ifindex))
        if raw is None:
            return {}
        sums = sum_cpus(raw, layout.REASON_COUNTS_SIZE // 8)
        found = {}
        for position in range(0, len(sums), 2):
            direction, reason = divmod(position // 2, layout.REASON_COUNT)
            if sums[position]:
                found[(direction, reason)] = ReasonCount(sums[position], sums[position + 1])
        return found

    def pairs(self) -> list[PairCount]:
        """See the port."""
        found = []
        for key, raw in self._kernel["pairs"].items().items():
            vm, peer_vm, peer_identity, rule, direction, allowed = layout.PAIR_KEY.unpack(key)
            packets, octets = sum_cpus(raw, 2)
            if packets:
                found.append(PairCount(vm, peer_vm, peer_identity, rule, direction, bool(allowed), packets, octets))
        return found

    def staged(self) -> list[StagedCount]:
        """See the port."""
        found = []
        for key, raw in self._kernel["staged"].items().items():
            *pair, staged_rule, staged = layout.STAGED_KEY.unpack(key)
            packets, octets = sum_cpus(raw, 2)
            if packets:
                vm, peer_vm, peer_identity, rule, direction, allowed = pair
                count = PairCount(vm, peer_vm, peer_identity, rule, direction, bool(allowed), packets, octets)
                found.append(StagedCount(staged, staged_rule, count))
        return found

    def forget_pairs(self, vms: frozenset[int]) -> None:
        """See the port."""
        for table in (self._kernel["pairs"], self._kernel["staged"]):
            for key in list(table.each_key()):
                if layout.PAIR_KEY.unpack_from(key)[0] in vms:
                    table.delete(key)

    def connections(self, ifindex: int) -> tuple[int, int]:
        """See the port."""
        index = self._kernel["tap_index"].get(layout.U32.pack(ifindex))
        if index is None:
            return 0, 0
        slot = layout.U32.pack(layout.U32.unpack(index)[0] >> 1)
        _, kept = self._dump_inner("established", slot, Table.dump)
        _, waiting = self._dump_inner("waiting", slot, read_waiting)
        half_open = sum(state < State.ESTABLISHED for state in kept[_STATE :: layout.CONNECTION.size])
        every = len(kept) // layout.CONNECTION.size
        return every - half_open, half_open + len(waiting) // layout.CONNECTION.size

    def _dump_inner(self, outer: str, slot: bytes, read: Callable[[Table], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        number = self._kernel[outer].get(slot)
        if number is None:
            return b"", b""
        table = Table(libbpf.check(libbpf.map_fd_by_id(layout.U32.unpack(number)[0]), f"open {outer}"))
        try:
            return read(table)
        finally:
            table.close()


def sum_cpus(raw: bytes, width: int) -> list[int]:
    """Add up per-CPU values of ``width`` u64 each."""
    values = memoryview(raw).cast("Q").tolist() if raw else [0] * width
    return [sum(values[field::width]) for field in range(width)]


def _read_event(raw: bytes) -> ShieldEvent:
    at, ifindex, vm, peer_vm, peer_identity, rule, observed, staged_rule, length, *rest = layout.EVENT.unpack(raw)
    source, destination, source_port, destination_port, ethertype, protocol, direction, allowed, reason, *rest = rest
    staged, flags, service = rest
    return ShieldEvent(
        at, ifindex, vm, peer_vm, peer_identity, rule, observed, length, source, destination,
        source_port, destination_port, ethertype, protocol, direction, bool(allowed), reason,
        bool(flags & layout.EVENT_LOGGED), bool(flags & layout.EVENT_ANSWERED), staged, staged_rule, service,
    )  # fmt: skip
