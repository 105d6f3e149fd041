"""What shields counted, as totals that neither a restart nor a VM's leaving makes smaller. Pure; reads and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.agent.flows import peer_name, verdict_word
from buckler.agent.names import Names
from buckler.model.agentapi import Counter
from buckler.model.ids import RuleNumber
from buckler.model.program import Direction
from buckler.ports.state import Tally
from buckler.ports.telemetry import PairCount, StagedCount

SHED = "shed"
NOBODY = 0xFFFF_FFFF


def add_up(
    tallies: Mapping[str, Tally],
    counts: Iterable[PairCount],
    shed: Mapping[str, int],
    names: Names,
    now: int,
    staged: Iterable[StagedCount] = (),
) -> dict[str, Tally]:
    """Carry every count on; return those that changed, the ones that the kernel has forgotten among them.

    ``shed`` are counts of events that were not told as flows, each by the key under which it goes on by itself.
    """
    counts, staged = tuple(counts), tuple(staged)
    changed = {**add_pairs(tallies, counts, names, now), **add_staged(tallies, staged, names, now)}
    for key, packets in shed.items():
        known = tallies.get(key)
        carried = _carry(known, Counter(key, now, 0, verdict=SHED), packets, 0)
        if carried != known and (packets or known is not None):
            changed[key] = carried
    seen = {_key(count) for count in counts} | {_staged_key(each) for each in staged}
    gone = {key: tally for key, tally in tallies.items() if key not in shed and key not in seen and tally.packets}
    return {**changed, **{key: _from_zero(tally) for key, tally in gone.items()}}


def add_pairs(tallies: Mapping[str, Tally], counts: Iterable[PairCount], names: Names, now: int) -> dict[str, Tally]:
    """Carry some counts on; return those that changed."""
    changed = {}
    for count in counts:
        key = _key(count)
        carried = _carry(tallies.get(key), _counter(key, count, names, now), count.packets, count.bytes)
        if carried != tallies.get(key):
            changed[key] = carried
    return changed


def add_staged(tallies: Mapping[str, Tally], counts: Iterable[StagedCount], names: Names, now: int) -> dict[str, Tally]:
    """The same of what a draft said: verdict ``staged-deny`` and so on, policy and rule the draft's."""
    changed = {}
    for each in counts:
        key, rule = _staged_key(each), names.rules.get(RuleNumber(each.staged_rule))
        counter = msgspec.structs.replace(
            _counter(key, each.count, names, now),
            verdict=f"staged-{verdict_word(each.staged)}",
            policy="" if rule is None else rule.policy,
            rule="" if rule is None else rule.rule,
        )
        carried = _carry(tallies.get(key), counter, each.count.packets, each.count.bytes)
        if carried != tallies.get(key):
            changed[key] = carried
    return changed


def forget_pairs(
    tallies: Mapping[str, Tally], counts: Iterable[PairCount], staged: Iterable[StagedCount]
) -> dict[str, Tally]:
    """The kernel has freed these counts: whatever it says next began at zero."""
    return forget_counts(tallies, (*map(_key, counts), *map(_staged_key, staged)))


def forget_counts(tallies: Mapping[str, Tally], keys: Iterable[str]) -> dict[str, Tally]:
    """Whatever is counted next under these keys began at zero."""
    return {key: _from_zero(tallies[key]) for key in keys}


def _from_zero(tally: Tally) -> Tally:
    return msgspec.structs.replace(tally, packets=0, bytes=0)


def _carry(known: Tally | None, fresh: Counter, packets: int, octets: int) -> Tally:
    """The kernel's count goes on from where it was; one that is smaller began anew."""
    if known is None:
        return Tally(msgspec.structs.replace(fresh, packets=packets, bytes=octets), packets, octets)
    is_same = packets >= known.packets and octets >= known.bytes
    counter = msgspec.structs.replace(
        fresh,
        epoch=known.counter.epoch,
        packets=known.counter.packets + packets - (known.packets if is_same else 0),
        bytes=known.counter.bytes + octets - (known.bytes if is_same else 0),
    )
    return Tally(counter, packets, octets)


def _staged_key(each: StagedCount) -> str:
    return f"{_key(each.count)}/staged/{each.staged}/{each.staged_rule}"


def _key(count: PairCount) -> str:
    return f"{count.vm}/{count.peer_vm}/{count.peer_identity}/{count.rule}/{count.direction}/{int(count.allowed)}"


def _counter(key: str, count: PairCount, names: Names, now: int) -> Counter:
    """By name at both ends. What found no room in the kernel's table is told as such."""
    if count.vm == NOBODY:
        return Counter(key, now, 0, local="(no room)", peer="(no room)", verdict="allow" if count.allowed else "deny")
    local, rule = names.by_number.get(count.vm), names.rules.get(count.rule)
    return Counter(
        key=key,
        epoch=now,
        packets=0,
        local=f"vm-{count.vm}" if local is None else local.name,
        peer=peer_name(count.peer_vm, count.peer_identity, names),
        direction="egress" if count.direction == Direction.EGRESS else "ingress",
        verdict="allow" if count.allowed else "deny",
        policy="" if rule is None else rule.policy,
        rule="" if rule is None else rule.rule,
    )
