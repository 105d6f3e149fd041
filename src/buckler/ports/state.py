"""The door to what an agent must not forget: identity, last signed state, events not yet handed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from buckler.model.agentapi import Counter
from buckler.model.bundle import Residence
from buckler.model.event import Event
from buckler.model.ids import Digest, HostId, VmId
from buckler.model.sample import Sample, Totals


class StateFailed(Exception):
    """The disk refused; nothing was half written."""


class Membership(msgspec.Struct, frozen=True):
    """Who this host is in which pool. ``root_key`` and ``ca_certificate`` were proven by the join token."""

    pool: str
    host: HostId
    host_name: str
    controllers: tuple[str, ...]
    root_key: str
    ca_certificate: str


class Remembered(msgspec.Struct, frozen=True):
    """What the agent last saw, to name the difference after a blind interval. ``domains`` maps uuid to state."""

    at: float = 0.0
    revision: int = 0
    domains: dict[str, str] = {}
    taps: tuple[str, ...] = ()


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """A count that outlives the kernel's: ``counter`` is the total, ``packets`` and ``bytes`` what the kernel last said."""

    counter: Counter
    packets: int
    bytes: int


class Share(msgspec.Struct, frozen=True):
    """What this host measured of a VM over all its stays, and what the world last said of it: only what is above is new.

    ``seen`` are the figures of the domain's ``run``, ``taps`` the packets of each tap by its index.
    """

    vm: VmId
    totals: Totals = Totals()
    memory: int = 0
    run: str = ""
    seen: Totals = Totals()
    taps: dict[int, Totals] = {}


class State(Protocol):
    """What a method stored survives a crash of the machine once it returned. All may raise StateFailed."""

    def host_key(self) -> bytes:
        """The host's Ed25519 key, 32 raw bytes, made on first use; it never leaves."""

    def membership(self) -> Membership | None:
        """None before the host has joined."""

    def put_membership(self, membership: Membership) -> None: ...

    def document(self, name: str) -> str:
        """A statement kept under ``name`` (``manifest``, ``issuers``); empty when there is none."""

    def put_document(self, name: str, statement: str) -> None: ...

    def objects(self, wanted: frozenset[Digest]) -> dict[Digest, bytes]:
        """The contents of those that are kept."""

    def put_policy(
        self, documents: Mapping[str, str], objects: Mapping[Digest, bytes], needed: frozenset[Digest] | None
    ) -> None:
        """Keep statements and objects in one step, and forget every object that is not ``needed`` (None: forget none)."""

    def record(self, event: Event) -> Event:
        """Give the event the next sequence number and keep it until it is handed over."""

    def pending(self, limit: int) -> list[Event]:
        """The oldest events not yet handed over, in order."""

    def forget_through(self, sequence: int) -> None:
        """Drop events that the controller has committed. Numbers are never used again."""

    def residences(self) -> dict[VmId, Residence]:
        """The newest stay here of every VM that ever was."""

    def put_residence(self, residence: Residence) -> None: ...

    def remembered(self) -> Remembered: ...

    def remember(self, seen: Remembered) -> None: ...

    def is_done(self, task: str) -> bool:
        """Whether a task was begun here before (each is done at most once)."""

    def mark_done(self, task: str) -> None: ...

    def tallies(self) -> dict[str, Tally]:
        """All by the counter's key."""

    def put_tallies(self, tallies: Iterable[Tally]) -> None:
        """Add or replace."""

    def forget_tallies(self, keys: Iterable[str]) -> None: ...

    def shares(self) -> dict[VmId, Share]:
        """Of every VM that was measured here."""

    def put_shares(self, shares: Iterable[Share], samples: Iterable[Sample] = (), most: int = 0) -> None:
        """Replace shares and add samples, numbered, in one step; of samples the oldest beyond ``most`` are forgotten.

        A number is never used again: whoever gets the others sees how many are missing.
        """

    def samples(self, limit: int) -> list[Sample]:
        """The oldest not yet handed over, in order."""

    def forget_samples(self, through: int) -> None:
        """Drop samples that the controller has committed."""

    def carried(self, name: str) -> dict[VmId, bytes]:
        """What VMs brought along from other hosts, of one kind."""

    def put_carried(self, name: str, vm: VmId, body: bytes) -> None:
        """Add or replace."""
