"""ports/claims.Claims on the loaded object: its ring of claims. Reads no DHCP and no DNS."""

from __future__ import annotations

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.ring import Ring
from buckler.drivers.ebpf.telemetry import sum_cpus
from buckler.ports.claims import SeenClaim
from buckler.ports.shield import ShieldFailed
from buckler.ports.telemetry import Shed


class EbpfClaims:
    """One reader of claims per kernel object."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ring: tuple[int, Ring] | None = None

    def claims(self, limit: int) -> list[SeenClaim]:
        """See the port."""
        table = self._kernel["claims"]
        try:
            if self._ring is None or self._ring[0] != table.id:
                self._ring = (table.id, Ring(table.fd, table.max_entries))
            return [_read_claim(raw) for raw in self._ring[1].read(limit)]
        except (OSError, ValueError) as failure:
            raise ShieldFailed(f"cannot read claims: {failure}") from failure

    def shed(self) -> Shed:
        """See the port."""
        lost, suppressed = sum_cpus(self._kernel["claim_sheds"].get(layout.U32.pack(0)) or b"", 2)
        return Shed(lost, suppressed)


def _read_claim(raw: bytes) -> SeenClaim:
    at, ifindex, vm, address, server, length, source, port, data = layout.CLAIM.unpack(raw[: layout.CLAIM.size])
    return SeenClaim(at, ifindex, vm, source, address, server, data[:length], port)
