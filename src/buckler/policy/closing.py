"""The programs between two states of one network, and the addresses that must be held. Owns no stages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import msgspec

from buckler.model.bundle import CidrIdentity, Segment
from buckler.model.ids import (
    IDENTITY_GROUP,
    IDENTITY_HOST,
    IDENTITY_INFRA,
    IDENTITY_WORLD,
    Digest,
    IdentityNumber,
)
from buckler.model.program import Direction, Program
from buckler.policy.bundle import Bundle, program_digest
from buckler.policy.compile import ResolvedProgram, Side, compile_program
from buckler.policy.lookup import Unfolding
from buckler.policy.meet import DENY_ALL, is_tighter, join, meet_all
from buckler.policy.prefix import Nest, host_prefix
from buckler.policy.resolve import Table

_ALWAYS = frozenset({IDENTITY_HOST, IDENTITY_WORLD, IDENTITY_GROUP})


class Wide(msgspec.Struct, frozen=True):
    """What prefixes mean, and which of them contains another."""

    meant: dict[str, IdentityNumber]
    nest: Nest


class AddressMap(msgspec.Struct, frozen=True):
    """What every address means in one state of a network: prefixes → identity, the longest wins, else WORLD.

    ``exact``: what ``hosts`` says of single addresses, else what ``wide`` does. Most networks share one ``wide``.
    """

    exact: dict[str, IdentityNumber]
    hosts: dict[str, IdentityNumber]
    wide: Wide

    def identity(self, prefix: str) -> IdentityNumber:
        """Say what the addresses of a prefix mean, those apart that a longer prefix names."""
        found = self.exact.get(prefix)
        if found is not None:
            return found
        named = self.wide.nest.longest(prefix)
        return IDENTITY_WORLD if named is None else self.exact[named]


def address_map(segment: Segment, wide: Wide | None = None) -> AddressMap:
    """Read a segment as the kernel's table will. ``wide``: its prefixes, read already."""
    wide = wide or _prefixes(segment)
    hosts = {host_prefix(each): IDENTITY_HOST for each in segment.gateway}
    hosts |= {host_prefix(address): number for address, number in segment.identities.items()}
    return AddressMap({**wide.meant, **hosts}, hosts, wide)


def _prefixes(segment: Segment) -> Wide:
    meant = {each.cidr: each.identity for each in segment.cidr_identities}
    return Wide(meant, Nest(meant))


_MOST_READ = 4096
_MOST_MAPS = 64

Move = tuple[tuple[IdentityNumber, ...], IdentityNumber]
"""What some address means in each old state, and in the new one."""


Read = ResolvedProgram | Unfolding
Before = Sequence[Read | None]
"""An endpoint's tables in each old state; None where it was absent."""


def _moves(maps: Sequence[AddressMap], new: AddressMap) -> dict[str, Move]:
    """Say what each prefix means in every state that is not named as the same in all of them."""
    changed: set[str] = set()
    for each in maps:
        one, other = (each.hosts, new.hosts) if each.wide is new.wide else (each.exact, new.exact)
        changed.update(prefix for prefix, _ in one.items() ^ other.items())
    return {prefix: (tuple([each.identity(prefix) for each in maps]), new.identity(prefix)) for prefix in changed}


class Readings:
    """Programs as they were read, by digest: most are the same from one change to the next."""

    def __init__(self) -> None:
        self._read: dict[Digest, Unfolding] = {}
        self._maps: dict[int, tuple[Segment, AddressMap]] = {}
        self._cidrs: dict[int, tuple[tuple[CidrIdentity, ...], Wide]] = {}

    def read(self, digest: Digest, program: Program) -> Unfolding:
        """Read a program once."""
        found = self._read.pop(digest, None) or Unfolding(program)
        self._read[digest] = found
        if len(self._read) > _MOST_READ:
            del self._read[next(iter(self._read))]
        return found

    def map(self, segment: Segment) -> AddressMap:
        """Read a segment once: known by the object that it is, which is kept for that long."""
        found = self._maps.pop(id(segment), None) or (segment, address_map(segment, self._prefixes(segment)))
        self._maps[id(segment)] = found
        if len(self._maps) > _MOST_MAPS:
            del self._maps[next(iter(self._maps))]
        return found[1]

    def _prefixes(self, segment: Segment) -> Wide:
        """Most segments share one list of what the outside means."""
        entries = segment.cidr_identities
        found = self._cidrs.pop(id(entries), None) or (entries, _prefixes(segment))
        self._cidrs[id(entries)] = found
        if len(self._cidrs) > _MOST_MAPS:
            del self._cidrs[next(iter(self._cidrs))]
        return found[1]


class Closing:
    """One network between the states that may be in force and the one that is wanted."""

    def __init__(
        self, olds: Sequence[tuple[Bundle, Segment]], target: Bundle, segment: Segment, readings: Readings
    ) -> None:
        self._bundles = [bundle for bundle, _ in olds]
        self._target = target
        maps = [readings.map(old) for _, old in olds]
        new = readings.map(segment)
        self._moves = _moves(maps, new)
        self._old_uses = [_ALWAYS | set(each.exact.values()) for each in maps]
        self._new_uses = _ALWAYS | set(new.exact.values())
        self._all_uses = set().union(*self._old_uses)
        # A number that every state uses and no table names means what "anyone" does, before, between and after.
        self._changed_uses = set().union(*(self._new_uses ^ uses for uses in self._old_uses))
        self._programs: dict[tuple[Digest | None, ...], tuple[Digest, Program]] = {}
        self._readings = readings
        self._closed: list[tuple[Before, Read]] = []
        self._into, self._out_of = self._index_moves(set(self._moves.values()))

    def program(self, olds: Sequence[Digest | None], new: Digest) -> tuple[Digest, Program]:
        """Build the program of an endpoint that has ``olds`` in the old states (None: absent), ``new`` in the new one."""
        key = (*olds, new)
        if key not in self._programs:
            before = [
                self._reading(bundle, digest) if digest else None
                for bundle, digest in zip(self._bundles, olds, strict=True)
            ]
            wanted = self._reading(self._target, new)
            if self._is_kept(key, wanted):
                self._closed.append((before, wanted))
                self._programs[key] = new, self._target.programs[new]
            else:
                closed = self._close(before, wanted)
                self._closed.append((before, closed))
                program = compile_program(closed)
                self._programs[key] = program_digest(program), program
        return self._programs[key]

    def _is_kept(self, key: Sequence[Digest | None], wanted: Unfolding) -> bool:
        """Nothing is to be closed where a program stays and every number that it names is in use before and after."""
        return not self._changed_uses and len(set(key)) == 1 and wanted.numbers <= self._new_uses

    def held_prefixes(self) -> frozenset[str]:
        """Name the prefixes whose flip would give them more than they had; ask after every ``program``."""
        verdicts: dict[Move, bool] = {}
        for move in set(self._moves.values()):
            verdicts[move] = self._must_hold(move)
        return frozenset(prefix for prefix, move in self._moves.items() if verdicts[move])

    def _index_moves(
        self, moves: set[Move]
    ) -> tuple[dict[IdentityNumber, list[Move]], dict[IdentityNumber, set[IdentityNumber]]]:
        into: dict[IdentityNumber, list[Move]] = {}
        out_of: dict[IdentityNumber, set[IdentityNumber]] = {}
        for olds, new in moves:
            into.setdefault(new, []).append((olds, new))
            for old in olds:
                out_of.setdefault(old, set()).add(new)
        return into, out_of

    def _reading(self, bundle: Bundle, digest: Digest) -> Unfolding:
        return self._readings.read(digest, bundle.programs[digest])

    def _close(self, before: Before, new: Read) -> ResolvedProgram:
        any_tables = {side: meet_all((old.any[side] for old in before if old), new.any[side]) for side in Direction}
        named = {number for each in (*before, new) if each for number, _ in each.peers}
        numbers = ((self._new_uses | self._all_uses) & named | self._changed_uses) - {IDENTITY_INFRA}
        peers: dict[Side, Table] = {}
        for side in Direction:
            for number in numbers:
                table = self._table(before, new, number, side)
                if table != any_tables[side]:
                    peers[number, side] = table
        return ResolvedProgram(any_tables, peers)

    def _table(self, before: Before, new: Read, number: IdentityNumber, side: Direction) -> Table:
        """Close one peer: nothing beyond any old state that knows it, nor beyond the new one."""
        known = [
            old.table(number, side) for old, uses in zip(before, self._old_uses, strict=True) if old and number in uses
        ]
        if number not in self._new_uses:
            futures = [_table(new, each, side) for each in self._out_of.get(number, ())]
            return meet_all(known, reduce(join, futures) if futures else DENY_ALL)
        table = meet_all(known, new.table(number, side))
        if known:
            return table
        pasts = [
            _table(old, past, side)
            for olds, _ in self._into.get(number, ())
            for old, past in zip(before, olds, strict=True)
            if old and past != IDENTITY_INFRA  # what is held stays held: it takes nothing from the others
        ]
        return meet_all(pasts, table)

    def _must_hold(self, move: Move) -> bool:
        olds, new = move
        if new in {IDENTITY_INFRA, olds[-1]}:
            return False
        for before, closed in self._closed:
            if isinstance(closed, Unfolding) and closed is before[-1] and _is_anyone(closed, (new, olds[-1])):
                continue  # it stays, and to it both are one
            for side in Direction:
                table = closed.table(new, side)
                latest = before[
                    -1
                ]  # no state in force allows more than its stable one does, and the latest is as tight
                if latest is None or not is_tighter(table, _table(latest, olds[-1], side)):
                    return True
        return False


def _is_anyone(program: Unfolding, peers: tuple[IdentityNumber, ...]) -> bool:
    return program.numbers.isdisjoint(peers) and IDENTITY_INFRA not in peers


def _table(program: Read, peer: IdentityNumber, side: Direction) -> Table:
    return DENY_ALL if peer == IDENTITY_INFRA else program.table(peer, side)
