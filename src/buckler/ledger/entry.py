"""One entry of the ledger, and the salted leaf that it becomes. Where leaves are kept is the store's affair."""

from __future__ import annotations

from typing import Any

import msgspec

from buckler.ledger.canonical import NotCanonical, encode, plain
from buckler.ledger.tree import Hash, leaf_hash
from buckler.model.event import Event

SALT_SIZE = 32


class BadEntry(ValueError):
    """A text that is no entry in its one canonical form."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded. ``sequence`` counts from 1; entry n is leaf n - 1 of the tree.

    ``at`` is Unix seconds as whoever saw it told them, ``origin`` the telling host's own number for it (0: none).
    """

    sequence: int
    kind: str
    at: float
    tenant: str = ""
    actor: str = ""
    cause: str = ""
    host: str = ""
    vm: str = ""
    origin: int = 0
    detail: dict[str, Any] = {}


class Leaf(msgspec.Struct, frozen=True):
    """``text`` is the entry as canonical JSON (RFC 8785), ``salt`` what keeps its hash from being guessed."""

    text: str
    salt: bytes

    @property
    def hash(self) -> Hash:
        """What the tree holds of it: without the salt it tells nothing of the entry, not even to who guesses right."""
        return leaf_hash(self.salt + self.text.encode())


def entry_of(event: Event, sequence: int) -> Entry:
    """Make entry ``sequence`` of an event. Raises NotCanonical for a detail that is nested too deeply."""
    return Entry(
        sequence=sequence,
        kind=event.kind.value,
        at=plain(event.at),
        tenant=plain(event.tenant),
        actor=plain(event.actor),
        cause=plain(event.cause),
        host=plain(event.host),
        vm=plain(event.vm),
        origin=event.sequence,
        detail=plain(event.detail),
    )


def leaf_of(entry: Entry, salt: bytes) -> Leaf:
    """Write an entry as a leaf. ``salt``: SALT_SIZE random bytes, used for nothing else. Raises NotCanonical."""
    if len(salt) != SALT_SIZE:
        raise NotCanonical("a salt of another size")
    return Leaf(encode(msgspec.structs.asdict(entry)).decode(), salt)


def read_entry(text: str) -> Entry:
    """Read an entry; any text but the one that ``leaf_of`` writes for it is refused. Raises BadEntry."""
    try:
        entry = msgspec.json.decode(text, type=Entry)
        if encode(msgspec.structs.asdict(entry)).decode() != text:
            raise BadEntry("not in canonical form (RFC 8785)")
    except (msgspec.DecodeError, NotCanonical, UnicodeError, RecursionError) as error:
        raise BadEntry(str(error)) from error
    return entry
