"""The door to the pool's memory: one transaction at a time, each a set of small books.

Owns what a transaction is, not what the books hold (see ports.records, ports.journal and ports.ledger).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from buckler.ports.journal import Counters, Flows, Intakes, Observations, Samples
from buckler.ports.ledger import LedgerBook
from buckler.ports.naming import LearnedNames
from buckler.ports.publication import Acks, Changes, Manifests, Objects, Revisions
from buckler.ports.records import Documents, Numbers, Vms
from buckler.ports.roster import Hosts, JoinTokens, Keys, Nonces, Tasks


class StoreFailed(Exception):
    """The store is away, full or refused. Nothing of the transaction happened."""


class Unit(Protocol):
    """The books within one transaction. Valid only inside its ``with`` block."""

    @property
    def documents(self) -> Documents: ...
    @property
    def vms(self) -> Vms: ...
    @property
    def numbers(self) -> Numbers: ...
    @property
    def hosts(self) -> Hosts: ...
    @property
    def join_tokens(self) -> JoinTokens: ...
    @property
    def nonces(self) -> Nonces: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def tasks(self) -> Tasks: ...
    @property
    def revisions(self) -> Revisions: ...
    @property
    def manifests(self) -> Manifests: ...
    @property
    def objects(self) -> Objects: ...
    @property
    def changes(self) -> Changes: ...
    @property
    def acks(self) -> Acks: ...
    @property
    def observations(self) -> Observations: ...
    @property
    def intakes(self) -> Intakes: ...
    @property
    def flows(self) -> Flows: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def samples(self) -> Samples: ...
    @property
    def names(self) -> LearnedNames: ...
    @property
    def ledger(self) -> LedgerBook: ...


class Store(Protocol):
    """Writers take one row lock first, so they are one after another; readers never wait for them.

    When the ``with`` block of ``write`` ends, everything is committed and on disk; when it raises, nothing happened.
    Both methods may raise StoreFailed on entry and on exit.
    """

    def read(self) -> AbstractContextManager[Unit]:
        """One consistent snapshot. Writing through it is an error."""

    def write(self) -> AbstractContextManager[Unit]:
        """One transaction under the pool's row lock."""

    def close(self) -> None:
        """Let go of all connections."""
