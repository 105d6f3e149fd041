"""ports/state.py in memory, for tests and for hosts that must leave no trace. Forgets everything with its process."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.bundle import Residence
from buckler.model.event import Event
from buckler.model.ids import Digest, VmId
from buckler.model.sample import Sample
from buckler.ports.state import Membership, Remembered, Share, Tally


class InMemoryState:
    """Plain dictionaries."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._membership: Membership | None = None
        self._documents: dict[str, str] = {}
        self._objects: dict[Digest, bytes] = {}
        self._spool: list[Event] = []
        self._sequence = 0
        self._residences: dict[VmId, Residence] = {}
        self._remembered = Remembered()
        self._tasks: set[str] = set()
        self._tallies: dict[str, Tally] = {}
        self._shares: dict[VmId, Share] = {}
        self._samples: list[Sample] = []
        self._sampled = 0
        self._carried: dict[tuple[str, VmId], bytes] = {}

    def host_key(self) -> bytes:
        return self._key

    def membership(self) -> Membership | None:
        return self._membership

    def put_membership(self, membership: Membership) -> None:
        self._membership = membership

    def document(self, name: str) -> str:
        return self._documents.get(name, "")

    def put_document(self, name: str, statement: str) -> None:
        self._documents[name] = statement

    def objects(self, wanted: frozenset[Digest]) -> dict[Digest, bytes]:
        return {digest: self._objects[digest] for digest in wanted & self._objects.keys()}

    def put_policy(
        self, documents: Mapping[str, str], objects: Mapping[Digest, bytes], needed: frozenset[Digest] | None
    ) -> None:
        self._documents.update(documents)
        every = {**self._objects, **objects}
        self._objects = {digest: each for digest, each in every.items() if needed is None or digest in needed}

    def record(self, event: Event) -> Event:
        self._sequence += 1
        numbered = msgspec.structs.replace(event, sequence=self._sequence)
        self._spool.append(numbered)
        return numbered

    def pending(self, limit: int) -> list[Event]:
        return self._spool[:limit]

    def forget_through(self, sequence: int) -> None:
        self._spool = [event for event in self._spool if event.sequence > sequence]

    def residences(self) -> dict[VmId, Residence]:
        return dict(self._residences)

    def put_residence(self, residence: Residence) -> None:
        self._residences[residence.vm] = residence

    def remembered(self) -> Remembered:
        return self._remembered

    def remember(self, seen: Remembered) -> None:
        self._remembered = seen

    def is_done(self, task: str) -> bool:
        return task in self._tasks

    def mark_done(self, task: str) -> None:
        self._tasks.add(task)

    def tallies(self) -> dict[str, Tally]:
        return dict(self._tallies)

    def put_tallies(self, tallies: Iterable[Tally]) -> None:
        self._tallies.update({tally.counter.key: tally for tally in tallies})

    def forget_tallies(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._tallies.pop(key, None)

    def shares(self) -> dict[VmId, Share]:
        return dict(self._shares)

    def put_shares(self, shares: Iterable[Share], samples: Iterable[Sample] = (), most: int = 0) -> None:
        self._shares.update({share.vm: share for share in shares})
        for sample in samples:
            self._sampled += 1
            self._samples.append(msgspec.structs.replace(sample, sequence=self._sampled))
            self._samples = [kept for kept in self._samples if kept.sequence > self._sampled - most]

    def samples(self, limit: int) -> list[Sample]:
        return self._samples[:limit]

    def forget_samples(self, through: int) -> None:
        self._samples = [sample for sample in self._samples if sample.sequence > through]

    def carried(self, name: str) -> dict[VmId, bytes]:
        return {vm: body for (kind, vm), body in self._carried.items() if kind == name}

    def put_carried(self, name: str, vm: VmId, body: bytes) -> None:
        self._carried[name, vm] = body
