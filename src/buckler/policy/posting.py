"""Peer classes as bits of one whole number: which of them a selector or a peer means is a few ANDs and ORs.

Owns which class has which bit. A bit that was given back is given out again; no rule and no verdict lives here.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from buckler.model.ids import IDENTITY_HOST, IDENTITY_WORLD, IdentityNumber
from buckler.model.label import Expression, Operator, Selector
from buckler.policy.language import Peer
from buckler.policy.prefix import network_of

Mask = int
"""A set of classes: bit i stands for the class in place i."""

_MOST_LISTED = 4096

K = TypeVar("K")
_Place = tuple[int, int, int]
"""Version, first address, prefix length: in this order whatever lies in a prefix follows it."""


def bits_of(mask: Mask) -> Iterator[int]:
    """List the places of the bits that are set. Word by word: what is done for each bit does not grow with the mask."""
    count = (mask.bit_length() + 63) // 64
    for place, word in enumerate(struct.unpack(f"<{count}Q", mask.to_bytes(8 * count, "little"))):
        while word:
            low = word & -word
            yield 64 * place + low.bit_length() - 1
            word ^= low


def hooks_of(selector: Selector) -> tuple[tuple[str, str | None], ...]:
    """Name labels of which whatever a selector matches has one; none: it may match anything."""
    for item in selector.match_labels.items():
        return (item,)
    for expression in selector.match_expressions:
        if expression.operator is Operator.IN:
            return tuple((expression.key, value) for value in dict.fromkeys(expression.values))
        if expression.operator is Operator.EXISTS:
            return ((expression.key, None),)
    return ()


class Postings:
    """Label sets (by zone) and everything outside (HOST, WORLD, named prefixes), each with one bit."""

    def __init__(self) -> None:
        self.places: dict[IdentityNumber, int] = {}
        self.numbers: list[IdentityNumber] = []
        self._listed: dict[Mask, tuple[IdentityNumber, ...]] = {}
        self.labels: dict[IdentityNumber, Mapping[str, str]] = {}
        self.vms: Mask = 0
        self.outside: Mask = 0
        self.zones: dict[int, Mask] = {}
        self._zone_of: dict[IdentityNumber, int] = {}
        self._free: list[int] = []
        self._having: dict[str, Mask] = {}
        self._equal: dict[tuple[str, str], Mask] = {}
        self._prefixes: list[tuple[_Place, int]] = []
        self._prefix_of: dict[str, IdentityNumber] = {}
        for number in (IDENTITY_HOST, IDENTITY_WORLD):
            self.outside |= 1 << self._take(number)

    def add_labels(self, number: IdentityNumber, labels: Mapping[str, str], zone: int) -> None:
        """Give a label set its bit."""
        bit = 1 << self._take(number)
        self.labels[number] = labels
        self._zone_of[number] = zone
        self.vms |= bit
        self.zones[zone] = self.zones.get(zone, 0) | bit
        for key, value in labels.items():
            self._having[key] = self._having.get(key, 0) | bit
            self._equal[key, value] = self._equal.get((key, value), 0) | bit

    def add_prefixes(self, prefixes: Iterable[tuple[str, IdentityNumber]]) -> None:
        """Give prefixes that policies name their bits."""
        for prefix, number in prefixes:
            place = self._take(number)
            self.outside |= 1 << place
            self._prefix_of[prefix] = number
            self._prefixes.append((_place(prefix), place))
        self._prefixes.sort()

    def drop(self, number: IdentityNumber) -> None:
        """Take the bit of a label set back."""
        bit = 1 << self.places[number]
        self.vms &= ~bit
        zone = self._zone_of.pop(number)
        self.zones[zone] &= ~bit
        if not self.zones[zone]:
            del self.zones[zone]
        for key, value in self.labels.pop(number).items():
            _clear(self._having, key, bit)
            _clear(self._equal, (key, value), bit)
        self._give_back(number)

    def drop_prefixes(self, prefixes: Iterable[str]) -> None:
        """Take the bits of prefixes back."""
        gone = {self._prefix_of.pop(prefix) for prefix in prefixes}
        places = {self.places[number] for number in gone}
        self._prefixes = [each for each in self._prefixes if each[1] not in places]
        for number in gone:
            self.outside &= ~(1 << self.places[number])
            self._give_back(number)

    def prefixes(self) -> Mapping[str, IdentityNumber]:
        """Give every prefix that has a bit, and its number."""
        return self._prefix_of

    def zone_of(self, number: IdentityNumber) -> int:
        """Say in which zone a label set stands."""
        return self._zone_of[number]

    def select(self, selector: Selector) -> Mask:
        """Give the label sets that a selector matches."""
        found = self.vms
        for key, value in selector.match_labels.items():
            found &= self._equal.get((key, value), 0)
        for expression in selector.match_expressions:
            found &= self._expressed(expression)
        return found

    def mean(self, peers: Iterable[Peer]) -> Mask:
        """Give the classes that peers mean, ``any`` and groups apart."""
        found = 0
        for peer in peers:
            found |= self._meant(peer)
        return found

    def members(self, mask: Mask) -> tuple[IdentityNumber, ...]:
        """Give the numbers of the classes in a set. Rows that change together mean the same sets: each is listed once."""
        listed = self._listed.get(mask)
        if listed is None:
            listed = tuple([self.numbers[place] for place in bits_of(mask)])
            if len(self._listed) >= _MOST_LISTED:
                self._listed.clear()
            self._listed[mask] = listed
        return listed

    def _meant(self, peer: Peer) -> Mask:
        if peer.vm is not None:
            return self.select(peer.vm)
        if peer.cidr:
            found = self._within(peer.cidr)
            for part in peer.excluded:
                found &= ~self._within(part)
            return found
        if peer.world:
            return self.outside & ~(1 << self.places[IDENTITY_HOST])
        return 1 << self.places[IDENTITY_HOST] if peer.host else 0

    def _within(self, prefix: str) -> Mask:
        """Give the named prefixes that lie in one: they stand in a row, nothing longer before it."""
        network = network_of(prefix)
        last = int(network.broadcast_address)
        found = 0
        for (version, first, _), place in self._prefixes[bisect_left(self._prefixes, (_place(prefix), -1)) :]:
            if version != network.version or first > last:
                break
            found |= 1 << place
        return found

    def _expressed(self, expression: Expression) -> Mask:
        match expression.operator:
            case Operator.EXISTS:
                return self._having.get(expression.key, 0)
            case Operator.DOES_NOT_EXIST:
                return self.vms & ~self._having.get(expression.key, 0)
        found = 0
        for value in expression.values:
            found |= self._equal.get((expression.key, value), 0)
        return found if expression.operator is Operator.IN else self.vms & ~found

    def _take(self, number: IdentityNumber) -> int:
        self._listed.clear()  # a place may be another's now
        if self._free:
            place = self._free.pop()
            self.numbers[place] = number
        else:
            place = len(self.numbers)
            self.numbers.append(number)
        self.places[number] = place
        return place

    def _give_back(self, number: IdentityNumber) -> None:
        self._free.append(self.places.pop(number))


def _place(prefix: str) -> _Place:
    network = network_of(prefix)
    return network.version, int(network.network_address), network.prefixlen


def _clear(masks: dict[K, Mask], key: K, bit: Mask) -> None:
    masks[key] &= ~bit
    if not masks[key]:
        del masks[key]
