"""What the parts of a running controller share. Built by assemble; holds no logic."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from buckler.controller.bell import Bell
from buckler.controller.keys import Keyring
from buckler.controller.presence import Presence
from buckler.controller.settings import Settings
from buckler.controller.throttle import Throttle
from buckler.controller.uuid7 import make_uuid7
from buckler.ledger.entry import chain_event
from buckler.model.event import Event
from buckler.ports.store import Store, Unit


@dataclass(frozen=True, slots=True)
class Parts:
    """``news`` wakes agents' streams and waiting requests, ``work`` wakes the engine. ``clock`` gives Unix seconds."""

    settings: Settings
    keys: Keyring
    store: Store
    clock: Callable[[], float]
    news: Bell = field(default_factory=Bell)
    work: Bell = field(default_factory=Bell)
    presence: Presence = field(default_factory=Presence)
    throttle: Throttle = field(default_factory=Throttle)

    def record(self, unit: Unit, event: Event) -> None:
        """Append an event to the ledger, in the transaction of the change that it tells of."""
        unit.ledger.append(chain_event(event, unit.ledger.head(), self.keys.issuing))

    def new_id(self) -> str:
        """Make a UUIDv7."""
        return make_uuid7(self.clock(), secrets.token_bytes(10))
