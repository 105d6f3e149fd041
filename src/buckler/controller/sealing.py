"""A store whose every transaction that added to the ledger ends with a signed checkpoint over it. Adds no entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from buckler.ledger.checkpoint import Checkpoint
from buckler.ports.store import Store, Unit


class SealedStore:
    """ports.store.Store over another. Entries and the checkpoint that covers them are committed together."""

    def __init__(self, store: Store, sign: Callable[[Checkpoint], str]) -> None:
        self._store = store
        self._sign = sign

    def read(self) -> AbstractContextManager[Unit]:
        return self._store.read()

    @contextmanager
    def write(self) -> Iterator[Unit]:
        with self._store.write() as unit:
            yield unit
            if unit.ledger.is_unsealed():
                edge = unit.ledger.edge()
                unit.ledger.seal(self._sign(Checkpoint(edge.size, edge.root)))

    def close(self) -> None:
        self._store.close()
