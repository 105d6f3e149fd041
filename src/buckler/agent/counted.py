"""A VM's counters over all hosts it was on, as its present host knows them. Pure; the controller's own sum needs none of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.agentapi import Counter
from buckler.model.sample import MOST
from buckler.ports.state import Tally

ROWS = 4096
"""More than these, those with the fewest packets, are handed over as one sum for each direction and verdict."""
OTHERS = "(others)"
_TEXT = 300
_DIRECTIONS = frozenset({"egress", "ingress"})
_VERDICTS = frozenset({"allow", "deny", "staged-allow", "staged-deny", "staged-reject"})
_SUMS = len(_DIRECTIONS) * len(_VERDICTS)


class Inherited(msgspec.Struct, frozen=True):
    """What all earlier hosts came to when the VM arrived (``base``), and what this one had counted until then."""

    base: tuple[Counter, ...] = ()
    start: tuple[Counter, ...] = ()


def own_counters(tallies: Mapping[str, Tally], number: int) -> tuple[Counter, ...]:
    """What this host counted for one VM."""
    return tuple(tally.counter for key, tally in sorted(tallies.items()) if key.startswith(f"{number}/"))


def total_counters(inherited: Inherited, own: Iterable[Counter]) -> tuple[Counter, ...]:
    """Go on from the base with what was counted here since; a count that was begun anew since is new as a whole."""
    start = {counter.key: counter for counter in inherited.start}
    totals = {counter.key: counter for counter in inherited.base}
    for counter in own:
        before = start.get(counter.key)
        is_same = before is not None and before.epoch == counter.epoch
        grown = _less(counter, before) if is_same and before is not None else counter
        totals[counter.key] = _plus(totals[counter.key], grown) if counter.key in totals else grown
    return tuple(totals[key] for key in sorted(totals) if totals[key].packets)


def fold_counters(counters: Iterable[Counter], number: int, most: int = ROWS) -> tuple[Counter, ...]:
    """Keep those with the most packets and sum up the others: no packet is left out."""
    ranked = sorted(counters, key=lambda counter: -counter.packets)
    others: dict[str, Counter] = {}
    for counter in ranked[most:]:
        key = f"{number}/{OTHERS}/{counter.direction}/{counter.verdict}"
        plain = msgspec.structs.replace(counter, key=key, peer=OTHERS, policy="", rule="")
        others[key] = _plus(others[key], plain) if key in others else plain
    kept = {counter.key: counter for counter in ranked[:most]}
    for key, counter in others.items():
        kept[key] = _plus(kept[key], counter) if key in kept else counter
    return tuple(kept.values())


def why_unsound(counters: tuple[Counter, ...], number: int) -> str:
    """Say what another host may not claim; empty when all can be so."""
    if len(counters) > ROWS + _SUMS:
        return "more counters than are handed over"
    if len({counter.key for counter in counters}) != len(counters):
        return "one counter is there twice"
    for counter in counters:
        if not counter.key.startswith(f"{number}/"):
            return "a counter of another VM"
        if counter.direction not in _DIRECTIONS or counter.verdict not in _VERDICTS:
            return "a counter of unknown direction or verdict"
        if not all(0 <= figure <= MOST for figure in (counter.epoch, counter.packets, counter.bytes)):
            return "a counter that cannot be so high or low"
        if any(len(text) > _TEXT for text in (counter.key, counter.local, counter.peer, counter.policy, counter.rule)):
            return "a name that is too long"
    return ""


def is_behind(counters: Iterable[Counter], earlier: Iterable[Counter]) -> bool:
    """Say whether the sum of packets is below an earlier one's: counts never go back, nor those of what a draft says."""
    return sum(counter.packets for counter in counters) < sum(counter.packets for counter in earlier)


def _plus(one: Counter, other: Counter) -> Counter:
    packets, octets = one.packets + other.packets, one.bytes + other.bytes
    return msgspec.structs.replace(other, packets=min(packets, MOST), bytes=min(octets, MOST))


def _less(now: Counter, before: Counter) -> Counter:
    packets, octets = max(now.packets - before.packets, 0), max(now.bytes - before.bytes, 0)
    return msgspec.structs.replace(now, packets=packets, bytes=octets)
