"""The door to answers that VMs got for names: one record for each address of a name in a network. Owns no lifetime."""

from __future__ import annotations

from typing import Protocol

import msgspec

from buckler.model.ids import VmId


class NameRecord(msgspec.Struct, frozen=True):
    """``vm`` was told it last, by ``resolver``, ``at``; ``until`` it holds. Times are Unix seconds."""

    network: str
    name: str
    address: str
    vm: VmId
    resolver: str
    at: float
    until: int


class LearnedNames(Protocol):
    """All answers of the pool."""

    def all(self) -> tuple[NameRecord, ...]:
        """By network, name and address."""

    def put(self, record: NameRecord) -> None:
        """Add one, in place of the one for its address."""

    def drop(self, network: str, name: str, address: str) -> None:
        """Forget one; none there is no error."""
