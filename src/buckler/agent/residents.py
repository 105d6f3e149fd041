"""Which domains are here: libvirt's last list, overlaid by what the hook has told since. Talks to neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.agent.desired import Resident
from buckler.gate.domain import BadDomain, parse_domain
from buckler.model.domain import DomainFacts, DomainState
from buckler.ports.hypervisor import Domain

_ABSENT = frozenset({DomainState.SHUTOFF.value})


class Snapshot(msgspec.Struct, frozen=True):
    """libvirt's list of domains; ``began`` is the monotonic time before it was asked."""

    began: float
    domains: tuple[Domain, ...]


class Residents:
    """The hook's word stands until libvirt was asked after it: while a hook waits, libvirt cannot be asked at all.

    Changed by one thread, replaced and never altered, so that others may look.
    """

    def __init__(self) -> None:
        self._snapshot = Snapshot(0.0, ())
        self._listed: dict[str, DomainFacts] = {}
        self._fresh: dict[str, tuple[float, DomainFacts]] = {}
        self._unreadable: tuple[str, ...] = ()
        self._read: dict[str, DomainFacts | BadDomain] = {}
        """What each text of the newest snapshot says: none is parsed twice."""

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    @property
    def is_complete(self) -> bool:
        """Whether libvirt has answered at all since the agent began."""
        return self._snapshot.began > 0

    @property
    def problems(self) -> tuple[str, ...]:
        return self._unreadable

    def has_passport(self, uuid: str, passport: str) -> bool:
        """Whether the domain, running or not, already shows exactly this passport."""
        for domain in self._snapshot.domains:
            if domain.uuid.lower() == uuid:
                facts = self.facts_in(domain)
                return facts is not None and facts.passport == passport
        return False

    def facts_in(self, domain: Domain) -> DomainFacts | None:
        """What a domain of the snapshot says, running or not; None when it cannot be read."""
        read = self._read.get(domain.xml)
        read = _parse(domain.xml) if read is None else read
        return None if isinstance(read, BadDomain) else read

    def facts_of(self, uuid: str) -> DomainFacts | None:
        """A resident's, the hook's word before libvirt's."""
        return next((one.facts for one in self.all() if one.facts.uuid == uuid), None)

    def running(self) -> frozenset[str]:
        """Uuids of those that libvirt says run right now: not paused, not on their way."""
        return frozenset(one.uuid for one in self._snapshot.domains if one.state == DomainState.RUNNING.value)

    def arrive(self, facts: DomainFacts, at: float) -> None:
        """A domain is about to run: its taps exist."""
        self._fresh = {**self._fresh, facts.uuid: (at, facts)}

    def leave(self, uuid: str) -> None:
        """A domain has stopped here. Only its claim ends: nothing is known by its addresses."""
        self._fresh = {other: fresh for other, fresh in self._fresh.items() if other != uuid}
        self._listed = {other: facts for other, facts in self._listed.items() if other != uuid}

    def take(self, snapshot: Snapshot) -> None:
        """Replace what libvirt said; forget the hook's word where libvirt knows better."""
        self._read = {xml: self._read.get(xml) or _parse(xml) for xml in {domain.xml for domain in snapshot.domains}}
        self._snapshot = snapshot
        listed, unreadable = _running(snapshot.domains, self._read)
        self._listed, self._unreadable = listed, tuple(unreadable)
        self._fresh = {uuid: fresh for uuid, fresh in self._fresh.items() if fresh[0] >= snapshot.began}

    def all(self) -> tuple[Resident, ...]:
        """Every resident once."""
        listed = [Resident(facts) for uuid, facts in self._listed.items() if uuid not in self._fresh]
        return (*(Resident(facts, is_fresh=True) for _, facts in self._fresh.values()), *listed)


def _parse(xml: str) -> DomainFacts | BadDomain:
    try:
        return parse_domain(xml)
    except BadDomain as error:
        return BadDomain(str(error))  # without the stack that raised it, which would keep the whole document


def _running(
    domains: Iterable[Domain], read: Mapping[str, DomainFacts | BadDomain]
) -> tuple[dict[str, DomainFacts], list[str]]:
    facts: dict[str, DomainFacts] = {}
    unreadable: list[str] = []
    for domain in domains:
        if domain.state in _ABSENT:
            continue
        said = read[domain.xml]
        if isinstance(said, BadDomain):
            unreadable.append(f"{domain.name} stays closed: {said}")
        else:
            facts[domain.uuid] = said
    return facts, unreadable
