"""Chains of rules on frames → one list (libvirt's ebiptables driver). Owns what comes before what; knows no VM.

In the root chain rules stand by priority; a chain is jumped to where its own priority says, before rules of the same one, by
frames of its protocol. ``accept`` and ``drop`` end all, ``return`` ends its chain only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from buckler.policy.importers.nwfilter.rules import FilterRule

ROOT = "root"
PRIORITY = re.compile(r"-?[0-9]{1,4}\Z", re.ASCII)
BOTH = frozenset({4, 6})
_PREFIXES = {
    "mac": (-800, BOTH),
    "stp": (-810, frozenset[int]()),
    "vlan": (-750, frozenset[int]()),
    "ipv4": (-700, frozenset({4})),
    "ipv6": (-600, frozenset({6})),
    "arp": (-500, frozenset[int]()),
    "rarp": (-400, frozenset[int]()),
}


class Chain(msgspec.Struct, frozen=True):
    """One chain: where the root chain jumps to it, and the families of IP that do."""

    name: str
    priority: int = 0
    families: frozenset[int] = BOTH


class Framed(msgspec.Struct, frozen=True):
    """One rule on frames at one side. ``whole``: it matches all of its families. ``group``: multicast and broadcast only."""

    chain: Chain
    priority: int
    action: str
    rule: FilterRule
    families: frozenset[int] = BOTH
    whole: bool = False
    group: bool = False

    @property
    def denies(self) -> bool:
        """Say whether it drops."""
        return self.action in {"drop", "reject"}


class Step(msgspec.Struct, frozen=True):
    """One rule of the list: what it matches of these families is denied, or passes."""

    framed: Framed
    families: frozenset[int]
    denies: bool


def read_chain(name: str, priority: str | None) -> Chain | None:
    """Take a filter's chain; None: it is none that libvirt knows."""
    if name == ROOT:
        return Chain(ROOT)
    prefix = next((each for each in _PREFIXES if name.startswith(each)), None)
    if prefix is None:
        return None
    usual, families = _PREFIXES[prefix]
    if priority is not None and not PRIORITY.match(priority):
        return None
    place = usual if priority is None else int(priority)
    return Chain(name, place, families) if -1000 <= place <= 1000 else None


def flatten(rules: Sequence[Framed]) -> tuple[list[Step], list[Framed]]:
    """Give the list of one side, and the rules beyond which it is stricter than the chains are."""
    walk = _Walk(rules)
    for index, (_priority, _root, part) in enumerate(walk.parts):
        walk.take(part, walk.parts[index + 1 :])
    return walk.steps, walk.stricter


_Part = tuple[int, int, list[Framed]]


class _Walk:
    """``left``: the families that nothing has decided as a whole."""

    def __init__(self, rules: Sequence[Framed]) -> None:
        self.left, self.steps, self.stricter = set(BOTH), list[Step](), list[Framed]()
        chains: dict[str, list[Framed]] = {}
        for each in sorted(rules, key=lambda one: one.priority):
            chains.setdefault(each.chain.name, []).append(each)
        root: list[_Part] = [(each.priority, 1, [each]) for each in chains.pop(ROOT, [])]
        jumps: list[_Part] = [(min(each.chain.priority for each in held), 0, held) for held in chains.values()]
        self.parts = sorted([*jumps, *root], key=lambda each: each[:2])
        # libvirt does not say which of two chains of one priority comes first, nor knows a chain of two priorities
        self.unordered = {
            one[2][0].chain.name
            for one in jumps
            for other in jumps
            if one is not other and one[0] == other[0] and one[2][0].chain.families & other[2][0].chain.families
        } | {name for name, held in chains.items() if len({each.chain for each in held}) > 1}

    def take(self, part: list[Framed], after: Sequence[_Part]) -> None:
        """Take the root chain's rule, or the chain, that stands here."""
        here = set(self.left)
        strict = part[0].chain.name in self.unordered
        for index, each in enumerate(part):
            families = each.families & each.chain.families & here
            if not families:
                continue
            if each.denies:
                self._decide(each, families, here, denies=True)
            elif strict:
                self.stricter.append(each)
            elif each.action == "accept" or each.chain.name == ROOT:
                self._decide(each, families, here, denies=False)
            elif each.whole:
                here -= families
            elif any(families & one.families for one in part[index + 1 :]):
                if any(one.denies and families & one.families for _p, _r, held in after for one in held):
                    self.stricter.append(each)
                    strict = True  # what it spares is not known below, so nothing below in this chain may allow
                else:
                    self.steps.append(Step(each, families, denies=False))

    def _decide(self, framed: Framed, families: frozenset[int], here: set[int], *, denies: bool) -> None:
        if denies or not framed.whole:
            self.steps.append(Step(framed, families, denies))
        if framed.whole:
            self.left -= families
            here -= families
