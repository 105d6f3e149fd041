"""The door to the hypervisor's domains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class HypervisorFailed(Exception):
    """The hypervisor is away or refused; the message is its own."""


class Domain(msgspec.Struct, frozen=True):
    """One domain: ``state`` is a name of model.domain.DomainState; ``xml`` is the live one while it is active."""

    uuid: str
    name: str
    state: str
    xml: str


class DomainEvent(msgspec.Struct, frozen=True):
    """``what`` is libvirt's event (``started``, ``stopped``, ``device-added`` …), ``detail`` its reason, in lower case."""

    uuid: str
    name: str
    what: str
    detail: str
    at: float


class Hypervisor(Protocol):
    """Every method may raise HypervisorFailed."""

    def domains(self) -> list[Domain]:
        """All domains, active and inactive."""

    def watch(self, happened: Callable[[DomainEvent], None], lost: Callable[[], None]) -> Callable[[], None]:
        """Deliver events from another thread, in order; ``lost`` when the connection breaks. Returns a function that stops."""

    def is_leaving(self, uuid: str) -> bool:
        """Whether the domain is being moved away from here right now."""

    def write_passport(self, uuid: str, passport: str) -> None:
        """Put the passport into the domain's metadata, live and persistent."""

    def write_residence(self, uuid: str, residence: str) -> None:
        """Put the residence beside the passport, in the same way."""

    def detach_interface(self, uuid: str, mac: str) -> None:
        """Unplug an interface from a running domain."""

    def migrate(self, uuid: str, destination_uri: str) -> None:
        """Move a running domain live, peer to peer, keeping it defined only at the destination. Blocks until done."""
