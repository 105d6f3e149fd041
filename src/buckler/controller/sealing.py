"""A store whose every transaction that added to the ledger ends with a signed checkpoint over it. Adds no entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from buckler.ledger.checkpoint import Checkpoint
from buckler.ports.store import Store, StoreFailed, Unit
from buckler.trust.statement import Untrusted

_OTHERWISE = "the ledger is not as its checkpoint says: nothing is signed over it; run ledger verify"


class SealedStore:
    """ports.store.Store over another. Entries and the checkpoint that covers them are committed together.

    The key is lent to nobody: what somebody else wrote into the tree is not signed, and the transaction fails. ``read``
    reads a checkpoint by the keys that the root named (raises Untrusted).
    """

    def __init__(
        self, store: Store, sign: Callable[[Checkpoint], str], read: Callable[[Unit, str], Checkpoint]
    ) -> None:
        self._store = store
        self._sign = sign
        self._read = read
        self._newest: tuple[str, Checkpoint] = ("", Checkpoint(0, b""))

    def read(self) -> AbstractContextManager[Unit]:
        return self._store.read()

    @contextmanager
    def write(self) -> Iterator[Unit]:
        with self._store.write() as unit:
            yield unit
            if unit.ledger.is_unsealed():
                self._check(unit)
                self._seal(unit)

    @contextmanager
    def begin(self) -> Iterator[Unit]:
        """As ``write``, whatever is found: for the one transaction that records what was (see absence)."""
        with self._store.write() as unit:
            yield unit
            if unit.ledger.is_unsealed():
                self._seal(unit)

    def close(self) -> None:
        self._store.close()

    def _check(self, unit: Unit) -> None:
        note, found = unit.ledger.checkpoint(), unit.ledger.began()
        if not note and not found.size:
            return
        known, signed = self._newest
        if note != known:
            try:
                signed = self._read(unit, note)
            except Untrusted as error:
                raise StoreFailed(f"{_OTHERWISE} ({error})") from error
        if (signed.size, signed.root) != (found.size, found.root):
            raise StoreFailed(_OTHERWISE)

    def _seal(self, unit: Unit) -> None:
        edge = unit.ledger.edge()
        checkpoint = Checkpoint(edge.size, edge.root)
        note = self._sign(checkpoint)
        unit.ledger.seal(note)
        self._newest = note, checkpoint
