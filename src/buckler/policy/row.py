"""A row: the tables of all label sets that the same rules bind, by the classes towards which they hold. Resolves nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_ANY, IDENTITY_GROUP, Digest, IdentityNumber
from buckler.model.program import Direction, Entry
from buckler.policy.fold import fold_table
from buckler.policy.posting import Mask, Postings
from buckler.policy.resolve import Table


class Sheet:
    """One table, and its entries as text with ``@`` in place of the peer: equal tables are one sheet."""

    __slots__ = ("entries", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.entries = tuple(
            ",".join(_text(each) for each in sorted(fold_table(IDENTITY_ANY, side, table))) for side in Direction
        )


def _text(entry: Entry) -> str:
    """Write an entry as canonical JSON does, but for its peer."""
    terms = canonical_bytes(entry.terms).decode()
    return (
        f"[@,{entry.direction:d},{entry.protocol},{entry.port},{entry.prefix},{entry.verdict:d},{entry.rule},"
        f"{entry.observed},{terms}]"
    )


class Side(msgspec.Struct, frozen=True):
    """One direction of a row: towards everyone, towards groups, and towards each set of classes that differs."""

    everyone: Sheet
    group: Sheet
    classes: tuple[tuple[Mask, Sheet], ...]


class Row(msgspec.Struct, frozen=True):
    """Both directions, and the program that they make as canonical JSON. The masks hold until the next change.

    ``far``: what the ends without a shield that are asked say by themselves; it is in ``sides`` already.
    """

    sides: tuple[Side, Side]
    content: bytes
    digest: Digest
    far: tuple[Side, ...] = ()


def encode_program(sides: tuple[Side, Side], postings: Postings) -> bytes:
    """Write the program: entries by peer, each peer's egress before its ingress."""
    texts: list[dict[IdentityNumber, str]] = [{}, {}]
    for place, (side, into) in enumerate(zip(sides, texts, strict=True)):
        into[IDENTITY_ANY] = side.everyone.entries[place].replace("@", "0")
        for mask, sheet in side.classes:
            entries = sheet.entries[place]
            for number in postings.members(mask):
                into[number] = entries.replace("@", str(number))
        if side.group is not side.everyone:
            into[IDENTITY_GROUP] = side.group.entries[place].replace("@", str(IDENTITY_GROUP))
    egress, ingress = texts
    parts = [
        part
        for number in sorted(egress.keys() | ingress.keys())
        for part in (egress.get(number), ingress.get(number))
        if part
    ]
    return f'{{"entries":[{",".join(parts)}]}}'.encode()


def partition(named: Iterable[tuple[int, Mask]]) -> list[tuple[Mask, tuple[int, ...]]]:
    """Cut the classes that any mask names into parts that the same masks name; say for each part which."""
    parts: list[tuple[Mask, tuple[int, ...]]] = []
    for place, mask in named:
        fresh: list[tuple[Mask, tuple[int, ...]]] = []
        for part, chosen in parts:
            hit = part & mask
            if not hit:
                fresh.append((part, chosen))
                continue
            mask ^= hit
            fresh.append((hit, (*chosen, place)))
            if hit != part:
                fresh.append((part ^ hit, chosen))
        if mask:
            fresh.append((mask, (place,)))
        parts = fresh
    return parts


def unite(parts: Iterable[Mask]) -> Mask:
    whole = 0
    for part in parts:
        whole |= part
    return whole
