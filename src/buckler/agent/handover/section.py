"""One named part of what is handed over about a VM. Owns the form of a part, neither its transport nor its signature."""

from __future__ import annotations

from typing import Protocol

import msgspec

from buckler.model.ids import VmId


class BadSection(ValueError):
    """The content is not of the section's form or claims what it must not; the message says what. Nothing was taken."""


class Content(msgspec.Struct, frozen=True):
    """``version`` of the section's own form; ``body`` in that form. The whole is signed by the host that hands it over."""

    version: int
    body: bytes


class Section(Protocol):
    """What one room of the agent hands over. The names are the keys of a bundle; an unknown one is carried on unread.

    The source calls ``give`` once in the bulk and again after each change until the VM has stopped; the destination
    calls ``take`` for each of them, ``keep`` once the VM has arrived and ``drop`` when it never did. A destination that
    dies in between keeps nothing.
    """

    name: str
    version: int

    def give(self, vm: VmId) -> bytes:
        """What is to be known of the VM elsewhere, now. Raises ShieldFailed, StateFailed or HypervisorFailed."""

    def take(self, vm: VmId, content: Content) -> None:
        """Hold what another host gave, replacing what it gave before. Raises BadSection."""

    def keep(self, vm: VmId) -> None:
        """The VM has arrived: go on from what was taken."""

    def drop(self, vm: VmId) -> None:
        """The VM did not arrive: forget what was taken."""
