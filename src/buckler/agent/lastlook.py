"""A shield whose taps are counted to their last packet: their counts are read before they are freed. Judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from buckler.model.ids import Digest
from buckler.model.program import Program
from buckler.model.shield import Tap
from buckler.ports.shield import Shield


class CountedShield:
    """ports/shield.Shield around another one; ``put`` is told of each tap that stands, ``closing`` of each that will not."""

    def __init__(self, shield: Shield, put: Callable[[Tap], None], closing: Callable[[int], None]) -> None:
        self._shield = shield
        self._put = put
        self._closing = closing

    def open(self) -> None:
        """See the port."""
        self._shield.open()

    def taps(self) -> dict[int, Tap]:
        """See the port."""
        return self._shield.taps()

    def put_tap(self, tap: Tap) -> None:
        """See the port."""
        self._shield.put_tap(tap)
        self._put(tap)

    def prepare_taps(self, taps: Sequence[Tap]) -> None:
        """See the port."""
        self._shield.prepare_taps(taps)

    def delete_tap(self, ifindex: int) -> None:
        """See the port. Closing comes first also when counts cannot be kept."""
        self._closing(ifindex)
        self._shield.delete_tap(ifindex)

    def programs(self) -> frozenset[Digest]:
        """See the port."""
        return self._shield.programs()

    def put_program(self, digest: Digest, program: Program) -> None:
        """See the port."""
        self._shield.put_program(digest, program)

    def delete_program(self, digest: Digest) -> None:
        """See the port."""
        self._shield.delete_program(digest)

    def rejudge(self) -> None:
        """See the port."""
        self._shield.rejudge()
