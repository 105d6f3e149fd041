"""What the gate answers, as values. Owns the words of a decision, not how it is reached."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from buckler.model.bundle import Endpoint
from buckler.model.ids import VmId, Zone


class Operation(StrEnum):
    """A way for a VM to come to this host, as libvirt's hook names it; ``plug`` is a NIC added to a running VM."""

    PREPARE = "prepare"
    START = "start"
    RESTORE = "restore"
    MIGRATE = "migrate"
    PLUG = "plug"


class Standing(StrEnum):
    """Who the domain is to the pool.

    ``registered``: its passport verifies and fits. ``rogue``: nobody registered it. ``twin``: it shows a passport
    that is not its own, or the VM runs elsewhere already. ``pending``: the pool knows it, but its passport or its policy has not come yet.
    """

    REGISTERED = "registered"
    ROGUE = "rogue"
    TWIN = "twin"
    PENDING = "pending"


class Reason(msgspec.Struct, frozen=True):
    """Why, in words, and what to do about it."""

    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class InterfacePlan(msgspec.Struct, frozen=True):
    """What becomes of one interface: ``endpoint`` is None where the tap stays closed, and ``reason`` says why.

    ``is_covered`` is False where no shield could even close it: such an interface is refused or unplugged.
    """

    mac: str
    device: str
    bridge: str
    endpoint: Endpoint | None = None
    zone: Zone = Zone(0)
    vlan: int = 0
    reason: str = ""
    is_covered: bool = True


class Decision(msgspec.Struct, frozen=True):
    """``allowed`` says whether the domain may run here; the plans say which of its taps open."""

    allowed: bool
    standing: Standing
    vm: VmId
    reasons: tuple[Reason, ...]
    interfaces: tuple[InterfacePlan, ...]
