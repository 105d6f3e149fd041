"""From the ring of claims to what waits for the controller: DNS and DHCP side by side."""

from __future__ import annotations

from buckler.agent.claiming import Claiming
from buckler.agent.claims import PendingClaims
from buckler.agent.lookups import PendingNames
from buckler.agent.names import Names
from buckler.drivers.inmemory.claims import InMemoryClaims
from buckler.model.agentapi import AddressSource, ClaimOutcome
from buckler.ports.claims import ClaimSource, SeenClaim

from .test_dns import MEANT, MINE, NAMES, RESOLVER, TAPS, ask, tell


def test_answers_wait_as_names_and_probes_as_addresses() -> None:
    memory, claims, names, woken = InMemoryClaims(), PendingClaims(), PendingNames(), list[int]()
    known = Names(NAMES.by_uuid, NAMES.by_number, {}, MEANT)
    claiming = Claiming(memory, lambda: known, lambda: TAPS, claims, names, lambda: woken.append(1))
    memory.seen.extend([ask(), SeenClaim(1, 11, 1, ClaimSource.DETECTED, MINE, RESOLVER, b""), tell()])
    claiming.take()
    assert [each.name for each in names.oldest(10)[0]] == ["www.example.org"]
    assert [each.source for each in claims.oldest(10)[0]] == [AddressSource.DETECTED]
    assert woken
    memory.seen.append(ask(at=2 * 10**9))
    claiming.take()
    memory.seen.append(tell(3 * 10**9))
    claiming.take()
    assert len(names.oldest(10)[0]) == 1, "question and answer may come apart"


def test_what_belongs_to_nobody_here_is_forgotten() -> None:
    memory, names = InMemoryClaims(), PendingNames()
    known, taps = Names(NAMES.by_uuid, NAMES.by_number, {}, MEANT), dict(TAPS)
    claiming = Claiming(memory, lambda: known, lambda: taps, PendingClaims(), names, lambda: None)
    memory.seen.extend([ask(), tell()])
    claiming.take()
    assert names.oldest(10)[0]
    del taps[11]
    claiming.take()
    assert names.oldest(10)[0] == ()


def test_what_was_taken_is_told_again_once_policies_mean_other_names() -> None:
    """A name that nobody meant for a while was forgotten by the controller, and not by the host."""
    memory, names, meant = InMemoryClaims(), PendingNames(), dict(MEANT)
    claiming = Claiming(
        memory, lambda: Names(NAMES.by_uuid, NAMES.by_number, {}, dict(meant)), lambda: TAPS, PendingClaims(), names,
        lambda: None,
    )  # fmt: skip

    def is_told(seconds: int) -> bool:
        memory.seen.extend([ask(at=seconds * 10**9), tell((seconds + 1) * 10**9)])
        claiming.take()
        waiting, _ = names.oldest(10)
        names.settle(waiting, (ClaimOutcome.GRANTED,) * len(waiting), 0)
        return bool(waiting)

    assert is_told(1)
    assert not is_told(3), "the controller holds it"
    meant.clear()
    assert not is_told(5), "nobody means it"
    meant.update(MEANT)
    assert is_told(7)
    assert not is_told(9)
