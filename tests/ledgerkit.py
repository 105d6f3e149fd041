"""A pool's ledger for tests, written by the real store, and its export as lines. Holds no test."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.controller.sealing import SealedStore
from buckler.drivers.store.database import open_database
from buckler.ledger.checkpoint import origin_of, read_checkpoint, sign_checkpoint
from buckler.ledger.entry import SALT_SIZE, entry_of, leaf_of
from buckler.ledger.export import Header, Line, header_text, line_text
from buckler.ledger.trust import Trust, trust_root
from buckler.model.agentapi import Issuers
from buckler.model.event import Event, EventKind
from buckler.ports.store import Unit
from buckler.trust.statement import Kind, key_id, key_text, sign

ROOT = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
ISSUER = Ed25519PrivateKey.from_private_bytes(b"i" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
HOST = Ed25519PrivateKey.from_private_bytes(b"h" * 32)
ORIGIN = origin_of("p", ROOT.public_key())


def issuers_by(root: Ed25519PrivateKey, pool: str = "p", key: Ed25519PrivateKey = ISSUER) -> str:
    issuers = Issuers(pool=pool, version=1, keys=(key_text(key.public_key()),))
    return sign(Kind.ISSUERS, msgspec.json.encode(issuers), root)


TRUST: Trust = trust_root(key_text(ROOT.public_key()), "p", [issuers_by(ROOT)])


class Book:
    """One ledger in a store of its own; every ``add`` is one transaction with a checkpoint."""

    def __init__(self, key: Ed25519PrivateKey = ISSUER, url: str = "sqlite://") -> None:
        self.store = SealedStore(
            open_database(url),
            lambda each: sign_checkpoint(each, ORIGIN, key),
            lambda _unit, note: read_checkpoint(note, ORIGIN, {key_id(key.public_key()): key.public_key()}),
        )
        self.chance = random.Random(7)

    def add(self, *events: Event) -> str:
        """Append, and return the checkpoint after it."""
        with self.store.write() as unit:
            for event in events:
                self.append(unit, event)
        with self.store.read() as unit:
            return unit.ledger.checkpoint()

    def append(self, unit: Unit, event: Event) -> None:
        entry = entry_of(event, unit.ledger.edge().size + 1)
        unit.ledger.append(entry, leaf_of(entry, self.chance.randbytes(SALT_SIZE)))

    def lines(self) -> list[Line]:
        with self.store.read() as unit:
            return [Line(each.leaf, each.hash) for each in unit.ledger.leaves(limit=100_000)]

    def header(self, root: Ed25519PrivateKey = ROOT, pool: str = "p") -> Header:
        with self.store.read() as unit:
            note = unit.ledger.checkpoint()
        return Header("p", key_text(root.public_key()), (issuers_by(root, pool),), checkpoint=note)


def event(number: int, **rest: object) -> Event:
    detail = {"number": number, "share": number / 7, "text": f"été {number}", "deep": [{"x": None}, [True, -0.0, 1e21]]}
    kind = (EventKind.DOMAIN_STARTED, EventKind.GAP, EventKind.MIGRATION_ARRIVED)[number % 3]
    fields = {"vm": f"vm{number % 3}", "tenant": f"t{number % 2}", "host": "h1", "sequence": number, "detail": detail}
    return Event(kind, 1e9 + number / 8, **{**fields, **rest})  # type: ignore[arg-type]


def book(count: int, key: Ed25519PrivateKey = ISSUER) -> Book:
    """A ledger that begins with a host that joins."""
    made = Book(key)
    joined = {"name": "h1", "public_key": key_text(HOST.public_key())}
    made.add(Event(EventKind.HOST_JOINED, 1e9, host="h1", detail=joined))
    for number in range(2, count + 1):
        made.add(event(number))
    return made


def write_export(path: Path, header: Header, lines: Iterable[Line]) -> str:
    path.write_text(header_text(header) + "".join(line_text(line) for line in lines), encoding="utf-8")
    return str(path)
