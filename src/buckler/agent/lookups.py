"""Which answer belongs to which question of a VM, and what it says of names that policies mean. Owns no reading of messages.

An answer counts once, to a question that the same shield saw pass some seconds before: same VM, interface, addresses, port,
identifier and name, written alike.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from buckler.agent.dns import Question, read_answer, read_query
from buckler.agent.names import Meant, Names
from buckler.model.agentapi import ClaimOutcome, NameClaim
from buckler.model.ids import Zone
from buckler.model.shield import Tap
from buckler.policy.learned import is_meant
from buckler.ports.claims import ClaimSource, SeenClaim

MAX_OPEN_PER_TAP = 128
_PATIENCE = 10 * 10**9
"""How long a question waits for its answer, in nanoseconds: longer than resolvers of guests do before they ask again."""
MAX_WAITING_PER_VM = 256
_MAX_WAITING = 8192
_REPEAT_SECONDS = 300.0
"""What was taken is told again no sooner: the controller holds it for longer by far."""

_Asked = tuple[int, int, bytes, int, bytes, int]
"""Interface, VM, its address, its port, resolver, identifier."""


class Lookups:
    """Questions of all taps that wait for an answer. One thread uses it."""

    def __init__(self) -> None:
        self._open: dict[int, dict[_Asked, tuple[int, Question]]] = {}

    def match(
        self,
        seen: Iterable[SeenClaim],
        taps: Mapping[int, Tap],
        names: Names,
        meant: Mapping[Zone, Meant],
        booted_at: float,
    ) -> list[NameClaim]:
        """Take what was seen, in any order; give what answers say."""
        claims: list[NameClaim] = []
        for one in sorted(seen, key=lambda each: each.at):
            tap, endpoint = taps.get(one.ifindex), names.by_number.get(one.vm)
            wanted = meant.get(tap.zone) if tap is not None else None
            if tap is None or endpoint is None or wanted is None or tap.vm != one.vm:
                continue
            resolver = _text(one.server)
            if not wanted.patterns or resolver not in wanted.resolvers:
                continue
            if one.source == ClaimSource.DNS_QUERY:
                self._ask(one, wanted)
                continue
            asked = self._answered(one)
            answer = read_answer(one.message, asked) if asked is not None else None
            if asked is None or answer is None:
                continue
            at = booted_at + one.at / 1e9
            claims += [
                NameClaim(endpoint.vm, tap.mac, asked.name, address, at, answer.seconds, resolver)
                for address in answer.addresses
            ]
        self._open = {ifindex: waiting for ifindex, waiting in self._open.items() if ifindex in taps}
        return claims

    def _ask(self, one: SeenClaim, wanted: Meant) -> None:
        question = read_query(one.message)
        if question is None or not any(is_meant(pattern, question.name) for pattern in wanted.patterns):
            return
        waiting = self._open.setdefault(one.ifindex, {})
        key = _key(one, question.id)
        waiting.pop(key, None)
        while len(waiting) >= MAX_OPEN_PER_TAP:
            del waiting[next(iter(waiting))]
        waiting[key] = (one.at, question)

    def _answered(self, one: SeenClaim) -> Question | None:
        """Whether it was read or not: a question has one answer, the first."""
        waiting = self._open.get(one.ifindex, {})
        at, question = waiting.pop(_key(one, int.from_bytes(one.message[:2], "big")), (0, None))
        return question if question is not None and 0 <= one.at - at <= _PATIENCE else None


class PendingNames:
    """The newest answer for each (VM, interface, name, address), until the controller took it; bounded, and counted beyond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str, str, str], NameClaim] = {}
        self._told: dict[tuple[str, str, str, str], float] = {}
        self._shed = 0

    def put(self, claims: Iterable[NameClaim]) -> bool:
        """Add claims; say whether any waits now that did not."""
        with self._lock:
            before = len(self._waiting)
            crowd = Counter(claim.vm for claim in self._waiting.values())
            for claim in claims:
                key = _place(claim)
                if 0 <= claim.at - self._told.get(key, float("-inf")) < _REPEAT_SECONDS:
                    continue  # told by a clock that was ahead, it is told again
                if key not in self._waiting:
                    if crowd[claim.vm] >= MAX_WAITING_PER_VM or len(self._waiting) >= _MAX_WAITING:
                        self._shed += 1
                        continue
                    crowd[claim.vm] += 1
                self._waiting[key] = claim
            return len(self._waiting) > before

    def keep(self, vms: frozenset[str]) -> None:
        """Forget VMs that are not here any more."""
        with self._lock:
            self._waiting = {key: claim for key, claim in self._waiting.items() if claim.vm in vms}
            self._told = {key: at for key, at in self._told.items() if key[0] in vms}

    def tell_again(self) -> None:
        """What was taken may be held no more: policies mean other names now, or other resolvers count."""
        with self._lock:
            self._told.clear()

    def oldest(self, limit: int) -> tuple[tuple[NameClaim, ...], int]:
        """(claims, shed): they stay until ``settle``."""
        with self._lock:
            return tuple(self._waiting.values())[:limit], self._shed

    def settle(self, claims: tuple[NameClaim, ...], outcomes: tuple[ClaimOutcome, ...], shed: int) -> None:
        """Forget what was answered, unless it was replaced meanwhile; what has to wait goes behind the others."""
        with self._lock:
            self._shed -= shed
            for claim, outcome in zip(claims, outcomes, strict=False):
                key = _place(claim)
                if self._waiting.get(key) is claim:
                    del self._waiting[key]
                    if outcome is ClaimOutcome.LATER:
                        self._waiting[key] = claim
                if outcome is ClaimOutcome.GRANTED:
                    self._told[key] = claim.at
            newest = max((claim.at for claim in claims), default=0.0)
            self._told = {key: at for key, at in self._told.items() if newest - at < _REPEAT_SECONDS}


def _key(one: SeenClaim, identifier: int) -> _Asked:
    return one.ifindex, one.vm, one.address, one.port, one.server, identifier


def _place(claim: NameClaim) -> tuple[str, str, str, str]:
    return claim.vm, claim.mac, claim.name, claim.address


def _text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)
