"""The record of everything: leaves, the nodes of their tree, the newest checkpoint, and what hosts cosigned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from buckler.ledger.entry import Entry, Leaf
from buckler.ledger.tree import Edge, Hash, Node
from buckler.model.ids import HostId


class StoredLeaf(msgspec.Struct, frozen=True):
    """``hash`` is what the tree holds; it is the leaf's own unless somebody changed one of them."""

    sequence: int
    leaf: Leaf
    hash: Hash


class Witnessed(msgspec.Struct, frozen=True):
    """A checkpoint with a host's cosignature, as that host sent it."""

    host: HostId
    size: int
    note: str
    at: float


class LedgerBook(Protocol):
    """Appending is part of the transaction that it records, and so is the checkpoint over it (``seal``)."""

    def edge(self) -> Edge:
        """The tree as it is now; ``size`` entries."""

    def began(self) -> Edge:
        """The tree as this transaction found it."""

    def append(self, entry: Entry, leaf: Leaf) -> None:
        """Add the entry that follows. Raises StoreFailed when it does not."""

    def is_unsealed(self) -> bool:
        """Whether this transaction appended what no checkpoint covers yet."""

    def seal(self, checkpoint: str) -> None:
        """Replace the newest checkpoint by the one over ``edge``."""

    def checkpoint(self) -> str:
        """The newest signed checkpoint; empty before the first."""

    def leaves(self, after: int = 0, limit: int = 1000) -> tuple[StoredLeaf, ...]:
        """Entries ``after`` + 1 to ``after`` + ``limit`` in order; fewer when the ledger ends, or one is missing."""

    def of_vm(self, vm: str, limit: int = 1000) -> tuple[StoredLeaf, ...]:
        """The newest ``limit`` entries about a VM, oldest first."""

    def of_hosts(self, hosts: Iterable[str], kinds: Iterable[str]) -> tuple[StoredLeaf, ...]:
        """All entries of these kinds that these hosts told, in order."""

    def nodes(self, wanted: Iterable[Node]) -> dict[Node, Hash]:
        """Those of the ``wanted`` nodes that exist."""

    def witnessed(self) -> tuple[Witnessed, ...]:
        """The newest cosigned checkpoint of every host, by host."""

    def put_witnessed(self, witnessed: Witnessed) -> None:
        """Replace the host's."""
