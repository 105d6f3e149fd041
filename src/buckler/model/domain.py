"""What a libvirt domain is and can do, as facts read from its XML. Owns the words, not the parsing."""

from __future__ import annotations

from enum import StrEnum

import msgspec

PASSPORT_NAMESPACE = "https://buckler.io/xmlns/domain/1"
RESIDENCE_NAMESPACE = "https://buckler.io/xmlns/residence/1"
"""Of the two elements in a domain's metadata that are Buckler's."""


class DomainState(StrEnum):
    """libvirt's virDomainState, in its own words; ``unknown`` is never taken for "off"."""

    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"
    UNKNOWN = "unknown"


class InterfaceFacts(msgspec.Struct, frozen=True):
    """One ``<interface>``. ``kind`` is libvirt's type; ``device`` the tap's name, empty while libvirt has given none."""

    kind: str
    mac: str
    bridge: str = ""
    network: str = ""
    device: str = ""
    virtualport: str = ""


class Hazard(msgspec.Struct, frozen=True):
    """A way past every shield that the domain asks for: ``what`` in words, ``hint`` what to do about it."""

    what: str
    hint: str


class DomainFacts(msgspec.Struct, frozen=True):
    """What the gate must know of a domain. ``passport`` is as found: unverified, None when there is none."""

    uuid: str
    name: str
    passport: str | None = None
    interfaces: tuple[InterfaceFacts, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    volumes: tuple[str, ...] = ()
    residence: str = ""
    """As found beside the passport: unverified."""
