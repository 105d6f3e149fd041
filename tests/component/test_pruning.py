"""What is freed is needless at that moment, not at the look before it."""

from __future__ import annotations

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.pruning import free_buckets
from buckler.drivers.ebpf.table import Table

SIZES = (layout.RATE_KEY.size, layout.RATE.size)
FULL, TAKEN, LATE = (layout.RATE_KEY.pack(0, rule, 0) for rule in range(3))
NOW = 1_000


class Busy(Table):
    """A real table in which packets open connections while somebody looks through it."""

    def items(self) -> dict[bytes, bytes]:
        found = super().items()
        self.put(LATE, layout.RATE.pack(NOW + 500))
        return found


def test_a_bucket_that_was_taken_from_after_the_look_is_not_filled_by_freeing_it() -> None:
    made = Table.create(libbpf.HASH, "rates", SIZES, 8)
    rates = Busy(made.fd)
    for key, due in ((FULL, NOW - 1), (TAKEN, NOW + 1), (LATE, NOW - 1)):
        rates.put(key, layout.RATE.pack(due))
    try:
        free_buckets(rates, NOW)
        assert Table.items(rates) == {TAKEN: layout.RATE.pack(NOW + 1), LATE: layout.RATE.pack(NOW + 500)}
    finally:
        made.close()
