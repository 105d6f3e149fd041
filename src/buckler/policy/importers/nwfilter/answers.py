"""One rule of a filter in our words, and what it says of connections the other way, whose answers it matches too.

libvirt's rules match packets. What drops them in one direction and asks for no state (ebtables always, iptables unless the rule
says ``state='NEW'``) drops the answers of the other direction's connections, so those do not come to stand. Owns no chain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from buckler.policy.importers.nwfilter.tree import Node
from buckler.policy.language import DENIALS, Action, Peer, Port

OTHER = {"in": "out", "out": "in"}
_CLIENTS = (1024, 65535)
"""The ports of which clients choose one: what drops answers to all of these drops them all."""
_ASKED_BY = {"ICMP": {0: 8, 14: 13, 16: 15, 18: 17}, "ICMPv6": {129: 128, 140: 139}}
"""Types of answers → of what they answer (RFC 792, RFC 950, RFC 4443, RFC 4620)."""


class Spelt(msgspec.Struct, frozen=True):
    """One rule in our words, in its place."""

    place: tuple[int, int]
    side: str
    action: Action
    peers: tuple[Peer, ...] = ()
    ports: tuple[Port, ...] = ()
    node: Node | None = None

    @property
    def denies(self) -> bool:
        """Say whether it refuses."""
        return self.action in DENIALS


def answered(spelt: Spelt) -> Spelt | None:
    """Give what a rule says of connections of the other side by their answers; None: nothing that is sure."""
    if spelt.peers == (Peer(group=True),):
        return None
    ports = tuple(dict.fromkeys(found for each in spelt.ports for found in _asked(each, surely=not spelt.denies)))
    if spelt.ports and not ports:
        return None
    return msgspec.structs.replace(spelt, side=OTHER[spelt.side], ports=ports)


def is_all_clients(spelt: Spelt) -> bool:
    """Say whether a rule names ports of clients one by one: it drops the answers of those who choose theirs there."""
    return any(each.port is not None and _covers_clients(each) for each in spelt.ports)


def mirror(there: Sequence[Spelt]) -> list[Spelt]:
    """Give a list's word on the other side's connections, in its order."""
    return [found for each in there if (found := answered(each)) is not None]


def surplus(mirrored: Sequence[Spelt], own: Sequence[Spelt]) -> Iterator[Spelt]:
    """List the denials of a mirrored list that a side's own list does not surely make.

    It surely makes one that it says too, or wider, and before which it spares nothing that is not spared there.
    """
    kept = [(each, _words(each)) for each in own]
    spared: set[bytes] = set()
    for each in mirrored:
        if not each.denies:
            spared.add(_words(each))
        elif not _is_made(each, kept, spared):
            yield each


def _is_made(denial: Spelt, own: Sequence[tuple[Spelt, bytes]], spared: set[bytes]) -> bool:
    for each, words in own:
        if each.denies and _covers(each.peers, denial.peers) and _covers(each.ports, denial.ports):
            return True
        if not each.denies and words not in spared:
            return False
    return False


def _words(spelt: Spelt) -> bytes:
    return msgspec.json.encode((spelt.peers, spelt.ports))


def _covers(wide: tuple[Peer, ...] | tuple[Port, ...], narrow: tuple[Peer, ...] | tuple[Port, ...]) -> bool:
    return not wide or (bool(narrow) and all(each in wide for each in narrow))


def _asked(port: Port, *, surely: bool) -> Iterator[Port]:
    """List what is answered by packets with this destination port or type."""
    if port.type is not None:
        if port.type in _ASKED_BY.get(port.protocol, {}) and port.code in {None, 0}:
            yield Port(port.protocol, type=_ASKED_BY[port.protocol][port.type])
    elif port.port is None or (not surely and _covers_clients(port)):
        yield Port(port.protocol)


def _covers_clients(port: Port) -> bool:
    low, high = port.span()
    return low <= _CLIENTS[0] and high >= _CLIENTS[1]
