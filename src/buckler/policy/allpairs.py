"""The whole matrix of a large pool as blocks: these label sets may send this to those. Owns no names of VMs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from buckler.model.ids import IdentityNumber
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.meet import meet
from buckler.policy.posting import Mask, bits_of
from buckler.policy.reach import ALLOW_ALL
from buckler.policy.resolve import Table
from buckler.policy.row import Side
from buckler.policy.rows import Rows

End = tuple[IdentityNumber, ShieldMode | None]
"""VMs of one label set and mode have equal answers; endpoints have no mode, as they have no shield."""
_MODES = (*ShieldMode, None)


class Block(msgspec.Struct, frozen=True):
    """Every one of ``senders`` may send to every one of ``receivers`` what ``table`` allows, which is not nothing."""

    senders: tuple[End, ...]
    receivers: tuple[End, ...]
    table: Table


class _Group(msgspec.Struct, frozen=True):
    """Ends that the same row binds. ``out`` and ``into`` hold only classes towards which something is allowed."""

    mode: ShieldMode | None
    members: Mask
    out: tuple[tuple[Mask, Table], ...]
    into: tuple[tuple[Mask, Table], ...]


def list_blocks(rows: Rows, modes: Mapping[IdentityNumber, frozenset[ShieldMode | None]]) -> Iterator[Block]:
    """Give every block; a pair of label sets occurs in one for each pair of modes. ``rows`` are settled."""
    groups: dict[int, list[_Group]] = {}
    for zone, group in _groups(rows, modes):
        groups.setdefault(zone, []).append(group)
    for mine in groups.values():
        yield from _zone_blocks(rows, mine)


def _zone_blocks(rows: Rows, groups: list[_Group]) -> Iterator[Block]:
    at: dict[int, list[_Group]] = {}
    for group in groups:
        if group.into:
            for place in bits_of(group.members):
                at.setdefault(place, []).append(group)
    listening = 0
    for place in at:
        listening |= 1 << place
    met: dict[tuple[int, int], Table | None] = {}
    for sender in groups:
        for mask, out in sender.out:
            for receiver, members in _receivers(mask & listening, at):
                if sender.mode is None and receiver.mode is None:
                    continue
                for sources, into in receiver.into:
                    origin = sender.members & sources
                    if not origin:
                        continue
                    key = id(out), id(into)
                    if key not in met:
                        met[key] = _allowing(meet(out, into))
                    table = met[key]
                    if table is not None:
                        yield Block(_ends(rows, origin, sender.mode), _ends(rows, members, receiver.mode), table)


def _receivers(mask: Mask, at: Mapping[int, list[_Group]]) -> Iterator[tuple[_Group, Mask]]:
    """Give the groups of which somebody is in ``mask``."""
    for mode in _MODES:
        left = mask
        while left:
            place = (left & -left).bit_length() - 1
            group = next((each for each in at[place] if each.mode is mode), None)
            hit = left & group.members if group else 1 << place
            left &= ~hit
            if group:
                yield group, hit


def _groups(rows: Rows, modes: Mapping[IdentityNumber, frozenset[ShieldMode | None]]) -> Iterator[tuple[int, _Group]]:
    watching: dict[tuple[int, ShieldMode | None], Mask] = {}
    for members, row in rows.rows():
        enforcing = _mask(rows, (number for number in members if ShieldMode.ENFORCE in modes.get(number, ())))
        zone = rows.postings.zone_of(next(iter(members)))
        for mode in (ShieldMode.OBSERVE, None):
            passing = _mask(rows, (number for number in members if mode in modes.get(number, ())))
            watching[zone, mode] = watching.get((zone, mode), 0) | passing
        if enforcing:
            everyone = rows.postings.zones[zone]
            out, into = (_open(row.sides[side], everyone) for side in Direction)
            yield zone, _Group(ShieldMode.ENFORCE, enforcing, out, into)
    for (zone, mode), members_ in watching.items():
        if members_:
            whole = ((rows.postings.zones[zone], ALLOW_ALL),)
            yield zone, _Group(mode, members_, whole, whole)


def _open(side: Side, everyone: Mask) -> tuple[tuple[Mask, Table], ...]:
    rest, found = everyone, []
    for mask, sheet in side.classes:
        rest &= ~mask
        if mask & everyone and _allowing(sheet.table):
            found.append((mask & everyone, sheet.table))
    if rest and _allowing(side.everyone.table):
        found.append((rest, side.everyone.table))
    return tuple(found)


def _allowing(table: Table) -> Table | None:
    return table if any(each.verdict is Verdict.ALLOW for each in table) else None


def _mask(rows: Rows, numbers: Iterable[IdentityNumber]) -> Mask:
    mask = 0
    for number in numbers:
        mask |= 1 << rows.postings.places[number]
    return mask


def _ends(rows: Rows, mask: Mask, mode: ShieldMode | None) -> tuple[End, ...]:
    return tuple((number, mode) for number in rows.postings.members(mask))
