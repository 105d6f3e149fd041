"""Which rows of a foreign table of connections may be put at a tap of this host. Pure; every row is taken for hostile.

Column by column: what a row says apart from numbers is one word of eight bytes, and there are few different ones.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from itertools import compress

import msgspec

from buckler.model.connection import (
    LOCAL_PORT,
    MAX_REMAINING,
    REMAINING,
    REMOTE,
    REMOTE_PORT,
    ROW_SIZE,
    Held,
    Rows,
    State,
    marked,
)
from buckler.model.program import Direction

MAX_HALF_OPEN = 4096
_TCP, _UDP, _SCTP, _ICMP, _ICMPV6, _IGMP = 6, 17, 132, 1, 58, 2
_WITH_PORTS, _ECHO = frozenset({_TCP, _UDP, _SCTP}), frozenset({_ICMP, _ICMPV6})
_MAPPED = bytes(10) + b"\xff\xff"
_STATES = {
    Held.ESTABLISHED: frozenset({State.ESTABLISHED, State.CLOSING, State.CLOSED}),
    Held.HALF_OPEN: frozenset({State.NEW, State.REPLIED, State.CLOSED}),
    Held.ENDED: frozenset(State),
}
_SLACK = 2_000  # a connection's time is written at most once a second
_MARTIANS = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8")

Range = tuple[bytes, bytes]


class Screened(msgspec.Struct, frozen=True):
    """What may be put; ``refused`` counts the others by the reason in a word."""

    rows: Rows
    refused: dict[str, int]


def ranges_of(prefixes: Iterable[str]) -> tuple[Range, ...]:
    """First and last address of each prefix, in 16 bytes."""
    found = []
    for prefix in prefixes:
        network = ip_network(prefix, strict=False)
        lead = _MAPPED if network.version == 4 else b""
        found.append((lead + network.network_address.packed, lead + network.broadcast_address.packed))
    return tuple(found)


MARTIANS = ranges_of(_MARTIANS)


def screen(given: Rows, own: frozenset[bytes], forbidden: Sequence[Range], room: int) -> Screened:
    """``own`` addresses of the tap; ``forbidden`` besides martians; ``room`` for established connections.

    A row must not say more than a connection of the tap can: its ports stand in the key alone, so that the port by which
    it is judged again cannot be another.
    """
    rows = given.rows
    if len(rows) % ROW_SIZE:
        raise ValueError("half a row")
    words = _column(rows, "Q", 0)
    limits = {word: _limit(word.to_bytes(8, "little"), given.locals, own) for word in set(words)}
    remotes = [rows[start : start + 16] for start in range(REMOTE, len(rows), ROW_SIZE)]
    strange = _within(remotes, (*MARTIANS, *forbidden, *((address, address) for address in own)))
    checks = {
        "form": [limits[word] >= 0 for word in words],
        "time": list(map(operator.le, _column(rows, "I", REMAINING), map(limits.__getitem__, words))),
        "address": _addresses_fit(words, remotes, given.locals, strange),
        "port": _ports_fit(rows, words),
    }
    refused: dict[str, int] = {}
    fit = [True] * len(words)
    for reason, passed in checks.items():
        both = list(map(operator.and_, fit, passed))
        if lost := fit.count(True) - both.count(True):
            refused[reason] = lost
        fit = both
    over = _beyond(words, fit, {Held.ESTABLISHED: room, Held.HALF_OPEN: MAX_HALF_OPEN})
    if over:
        refused["room"] = len(over)
        fit = [passed and place not in over for place, passed in enumerate(fit)]
    if refused:
        rows = b"".join(compress((rows[start : start + ROW_SIZE] for start in range(0, len(rows), ROW_SIZE)), fit))
    return Screened(Rows(given.locals, rows), refused)


def timeout(protocol: int, state: int) -> int:
    """Milliseconds that an unused connection lives; equal to get_timeout of bpf/lib/conntrack.h."""
    if protocol == _TCP:
        seconds = {State.ESTABLISHED: 21_600, State.CLOSING: 120, State.CLOSED: 10}.get(State(state), 60)
    elif protocol in _ECHO:
        seconds = 30
    else:
        seconds = 180 if state == State.ESTABLISHED else 30
    return seconds * 1000


def _limit(word: bytes, locals_: tuple[bytes, ...], own: frozenset[bytes]) -> int:
    """How long a row with this head may still live; -1 when no connection looks like that."""
    protocol, direction, state, held, local, local_tcp, remote_tcp, rest = word
    is_tcp = protocol == _TCP
    is_sound = (
        (not rest or _is_served(protocol, direction, rest - 1, locals_))
        and direction in tuple(Direction)
        and held in tuple(Held)
        and state in _STATES[Held(held)]
        and protocol != _IGMP
        and (is_tcp or state <= State.ESTABLISHED)
        and all(tcp >> 4 <= 3 and tcp & 15 <= 14 if is_tcp else not tcp for tcp in (local_tcp, remote_tcp))
        and local < len(locals_)
        and locals_[local] in own
        and (protocol not in _ECHO or (protocol == _ICMP) == locals_[local].startswith(_MAPPED))
    )
    if not is_sound:
        return -1
    return MAX_REMAINING if held == Held.ENDED else timeout(protocol, state) + _SLACK


def _is_served(protocol: int, direction: int, place: int, locals_: tuple[bytes, ...]) -> bool:
    """Only the VM itself speaks first through a virtual address. Whether its remote end is a member is asked of each packet."""
    is_named = place < len(locals_) and marked(locals_[place]) != 0
    return is_named and protocol in _WITH_PORTS and direction == Direction.EGRESS


def _addresses_fit(
    words: list[int], remotes: list[bytes], locals_: tuple[bytes, ...], strange: set[bytes]
) -> list[bool]:
    """The remote address is one that frames can come from, of the local one's family."""
    is_v4 = {word: _is_v4(word, locals_) for word in set(words)}
    fit = [remote.startswith(_MAPPED) is is_v4[word] for word, remote in zip(words, remotes, strict=True)]
    if strange:
        fit = [passed and remote not in strange for passed, remote in zip(fit, remotes, strict=True)]
    return fit


def _is_v4(word: int, locals_: tuple[bytes, ...]) -> bool | None:
    place = word >> 32 & 0xFF
    return locals_[place].startswith(_MAPPED) if place < len(locals_) else None


def _ports_fit(rows: bytes, words: list[int]) -> list[bool]:
    protocols = {word: word & 0xFF for word in set(words)}
    if all(protocol in _WITH_PORTS for protocol in protocols.values()):
        return [True] * len(words)
    pairs = zip(words, _column(rows, "H", REMOTE_PORT), _column(rows, "H", LOCAL_PORT), strict=True)
    return [
        protocols[word] in _WITH_PORTS or (remote == local and (protocols[word] in _ECHO or not remote))
        for word, remote, local in pairs
    ]


def _within(addresses: list[bytes], ranges: Iterable[Range]) -> set[bytes]:
    """Those in one of the ranges. The ranges are few: each is looked for among the addresses, not the other way."""
    known = sorted(set(addresses))
    found: set[bytes] = set()
    for first, last in ranges:
        place = bisect_left(known, first)
        while place < len(known) and known[place] <= last:
            found.add(known[place])
            place += 1
    return found


def _beyond(words: list[int], fit: list[bool], room: dict[Held, int]) -> set[int]:
    over: set[int] = set()
    for held, most in room.items():
        if len(words) > most:
            places = [place for place, word in enumerate(words) if fit[place] and word >> 24 & 0xFF == held]
            over.update(places[most:])
    return over


def _column(rows: bytes, form: str, at: int) -> list[int]:
    width = {"Q": 8, "I": 4, "H": 2}[form]
    return memoryview(rows).cast(form)[at // width :: ROW_SIZE // width].tolist()  # type: ignore[call-overload,no-any-return]
