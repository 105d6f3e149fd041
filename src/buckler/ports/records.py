"""What people declared and what it is numbered as: documents, VMs, numbers. All keep validity times."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from buckler.model.ids import VmId, VmNumber


class DocumentKey(msgspec.Struct, frozen=True, order=True):
    kind: str
    tenant: str
    name: str


class StoredDocument(msgspec.Struct, frozen=True):
    """``content`` is the document as JSON text; ``generation`` rises with each change of the pool; it is the etag."""

    key: DocumentKey
    content: str
    generation: int
    file: str = ""
    line: int = 0
    valid_from: float = 0


class Documents(Protocol):
    """The documents in force, and those that were."""

    def all(self) -> tuple[StoredDocument, ...]:
        """All in force now, by key."""

    def get(self, key: DocumentKey) -> StoredDocument | None:
        """The one in force now."""

    def put(self, document: StoredDocument, at: float) -> None:
        """Replace the one in force, whose validity ends at ``at`` and with the new one's generation."""

    def delete(self, key: DocumentKey, at: float, revision: int) -> None:
        """End its validity with ``revision``. An absent one is no error."""

    def at(self, when: float) -> tuple[StoredDocument, ...]:
        """All that were in force at ``when``."""

    def of(self, revision: int) -> tuple[StoredDocument, ...]:
        """All that were in force once ``revision`` was made. Meant from ``Revisions.recorded_from`` on."""


class VmRecord(msgspec.Struct, frozen=True):
    """A VM's identity from registration to deletion (``deleted_at`` 0: alive)."""

    id: VmId
    number: VmNumber
    tenant: str
    name: str
    created_at: float
    deleted_at: float = 0


class Attribute(msgspec.Struct, frozen=True):
    """What was true of a VM for a while (``valid_to`` 0: still)."""

    name: str
    value: str
    valid_from: float
    valid_to: float = 0


class Vms(Protocol):
    """VM identities. Neither id nor number is ever used again."""

    def all(self) -> tuple[VmRecord, ...]:
        """Those alive."""

    def ever(self) -> tuple[VmRecord, ...]:
        """All, the deleted ones too."""

    def get(self, vm: VmId) -> VmRecord | None:
        """One, alive or deleted."""

    def named(self, tenant: str, name: str) -> VmRecord | None:
        """The one alive of this name."""

    def put(self, vm: VmRecord) -> None:
        """Add or replace by id."""

    def attributes(self, vm: VmId) -> tuple[Attribute, ...]:
        """All that were ever true, oldest first."""

    def attributes_now(self) -> dict[VmId, dict[str, str]]:
        """What is true of each VM now; one of which nothing is true is left out."""

    def set_attributes(self, vm: VmId, values: Mapping[str, str], at: float) -> None:
        """Make exactly ``values`` true of the VM; end what differs at ``at``."""


class NumberSpace(StrEnum):
    """What is numbered."""

    VM = "vm"
    ZONE = "zone"
    RULE = "rule"
    IDENTITY = "identity"
    CIDR = "cidr"
    SERVICE = "service"


class Numbers(Protocol):
    """Pool-wide numbers by name. A number is never given to another name."""

    def table(self, space: NumberSpace) -> dict[str, int]:
        """All numbers of a space by name."""

    def last(self, space: NumberSpace) -> int:
        """The greatest number of a space; 0 before the first."""

    def add(self, space: NumberSpace, numbers: Mapping[str, int]) -> None:
        """Record new ones. Raises StoreFailed when a name or number is taken."""
