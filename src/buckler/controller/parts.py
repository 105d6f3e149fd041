"""What the parts of a running controller share. Built by assemble; holds no logic."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from buckler.controller.bell import Bell
from buckler.controller.keys import Keyring
from buckler.controller.known import Known
from buckler.controller.presence import Presence
from buckler.controller.sealing import SealedStore
from buckler.controller.settings import Settings
from buckler.controller.throttle import Throttle
from buckler.controller.uuid7 import make_uuid7
from buckler.ledger.checkpoint import Checkpoint, origin_of, read_checkpoint, sign_checkpoint
from buckler.ledger.entry import SALT_SIZE, entry_of, leaf_of
from buckler.ledger.trust import trust_root
from buckler.model.event import Event
from buckler.ports.store import Store, Unit
from buckler.trust.statement import key_text


def ledger_origin(settings: Settings, keys: Keyring) -> str:
    """Name a pool's ledger."""
    return origin_of(settings.pool, keys.root.public_key())


def sealed(store: Store, settings: Settings, keys: Keyring) -> SealedStore:
    """Have every transaction that adds to the ledger end with a checkpoint by the issuing key."""
    origin, root = ledger_origin(settings, keys), key_text(keys.root.public_key())

    def sign(checkpoint: Checkpoint) -> str:
        return sign_checkpoint(checkpoint, origin, keys.issuing)

    def read(unit: Unit, note: str) -> Checkpoint:
        statements = [record.statement for record in unit.keys.issuers()]
        return read_checkpoint(note, origin, trust_root(root, settings.pool, statements).ever)

    return SealedStore(store, sign, read)


@dataclass(frozen=True, slots=True)
class Parts:
    """``news`` wakes agents' streams and waiting requests, ``work`` wakes the engine. ``clock`` gives Unix seconds.

    ``machine`` gives the addresses of the machine that this controller runs on.
    """

    settings: Settings
    keys: Keyring
    store: Store
    clock: Callable[[], float]
    machine: Callable[[], Iterable[str]] = tuple
    news: Bell = field(default_factory=Bell)
    work: Bell = field(default_factory=Bell)
    presence: Presence = field(default_factory=Presence)
    throttle: Throttle = field(default_factory=Throttle)
    known: Known = field(default_factory=Known)

    def record(self, unit: Unit, event: Event) -> None:
        """Append an event to the ledger, in the transaction of the change that it tells of."""
        entry = entry_of(event, unit.ledger.edge().size + 1)
        unit.ledger.append(entry, leaf_of(entry, secrets.token_bytes(SALT_SIZE)))

    def addresses(self) -> frozenset[str]:
        """Where controllers are, as far as this one knows. Raises LinksFailed."""
        return frozenset((*self.settings.addresses(), *self.machine()))

    @property
    def origin(self) -> str:
        """The name of this pool's ledger."""
        return ledger_origin(self.settings, self.keys)

    def new_id(self) -> str:
        """Make a UUIDv7."""
        return make_uuid7(self.clock(), secrets.token_bytes(10))
