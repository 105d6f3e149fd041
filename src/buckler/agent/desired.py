"""What a host's kernel holds and what it is to hold, side by side. Values only."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from buckler.gate.decision import Decision
from buckler.model.domain import DomainFacts
from buckler.model.ids import Digest, VmNumber
from buckler.model.shield import Address, AddressKey, BridgePort, GuardState, MacKey, Service, ServiceKey, Tap


class Roles(msgspec.Struct, frozen=True):
    """What the host's owner says of its interfaces. ``bridges`` are closed even before a manifest names them."""

    tunnel: frozenset[str] = frozenset()
    outside: frozenset[str] = frozenset()
    fabric: str = ""
    bridges: frozenset[str] = frozenset()


class Resident(msgspec.Struct, frozen=True):
    """A domain that runs here or is about to. ``is_fresh`` ones came by the hook after libvirt was last asked."""

    facts: DomainFacts
    is_fresh: bool = False


class Observed(msgspec.Struct, frozen=True):
    """Read back from the kernel. ``guard`` is None when it is missing or altered.

    ``leftovers`` are indexes of which the shield still holds something although it does not stand there any more.
    """

    taps: Mapping[int, Tap] = {}
    leftovers: frozenset[int] = frozenset()
    programs: frozenset[Digest] = frozenset()
    addresses: Mapping[AddressKey, Address] = {}
    macs: Mapping[MacKey, VmNumber] = {}
    services: Mapping[ServiceKey, Service] = {}
    bridge_ports: Mapping[int, BridgePort] = {}
    guard: GuardState | None = None
    learning: Mapping[int, bool] = {}


class Desired(msgspec.Struct, frozen=True):
    """What one belief means for what is here. ``standing`` maps a resident's uuid to the gate's decision."""

    taps: Mapping[int, Tap] = {}
    addresses: Mapping[AddressKey, Address] = {}
    macs: Mapping[MacKey, VmNumber] = {}
    services: Mapping[ServiceKey, Service] = {}
    bridge_ports: Mapping[int, BridgePort] = {}
    guard: GuardState = GuardState(bridges=frozenset(), ports=frozenset())
    learning: Mapping[int, bool] = {}
    standing: Mapping[str, Decision] = {}
    devices: Mapping[int, str] = {}
    problems: tuple[str, ...] = ()

    @property
    def programs(self) -> frozenset[Digest]:
        """Only those that a tap here uses; one that arrives brings its program in before it is answered."""
        return frozenset(tap.program for tap in self.taps.values())
