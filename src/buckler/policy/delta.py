"""What a change of the pool comes to: objects that are new, objects that are gone, one root. Works nothing out."""

from __future__ import annotations

from typing import Protocol

import msgspec

from buckler.model.ids import Digest, IdentityNumber, RuleNumber


class Numbering(Protocol):
    """Pool-wide numbers, given once and never for anything else. Asking again gives the same."""

    def identity(self, key: str) -> IdentityNumber:
        """Number a label set (``identity_key``)."""

    def cidr(self, prefix: str) -> IdentityNumber:
        """Number a prefix that a policy names."""

    def rule(self, key: str) -> RuleNumber:
        """Number a rule."""

    def service(self, key: str) -> int:
        """Number a virtual address in its zone (``service_key``)."""


class Delta(msgspec.Struct, frozen=True):
    """What a change means: objects that are new, objects that nothing refers to any more, and the root of it all."""

    root: Digest
    fresh: dict[Digest, bytes]
    gone: frozenset[Digest]
