"""A row: the tables of all label sets that the same rules bind, by the classes towards which they hold. Resolves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IDENTITY_ANY, IDENTITY_GROUP, Digest, IdentityNumber
from buckler.model.program import Direction, Entry
from buckler.policy.fold import fold_table
from buckler.policy.posting import Mask, Postings
from buckler.policy.resolve import Table


class Sheet:
    """One table, and its entries as text cut where the peer stands: equal tables are one sheet."""

    __slots__ = ("_cut", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self._cut = tuple(
            ",".join(map(_text, sorted(fold_table(IDENTITY_ANY, side, table)))).split("@") for side in Direction
        )

    def write(self, side: int, peers: Iterable[IdentityNumber]) -> Iterator[tuple[IdentityNumber, str]]:
        """Write the entries of one direction towards each of some peers."""
        cut = self._cut[side]
        for peer in peers:
            yield peer, str(peer).join(cut)


def _text(entry: Entry) -> str:
    """Write an entry as canonical JSON does, but ``@`` for its peer. No number, word or null of it has that letter."""
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
    texts: dict[IdentityNumber, str] = {}
    for place, side in enumerate(sides):
        mine = dict(side.everyone.write(place, (IDENTITY_ANY,)))
        for mask, sheet in side.classes:
            mine.update(sheet.write(place, postings.members(mask)))
        if side.group is not side.everyone:
            mine.update(side.group.write(place, (IDENTITY_GROUP,)))
        for number, text in mine.items():
            before = texts.get(number)
            texts[number] = f"{before},{text}" if before and text else before or text
    entries = ",".join([texts[number] for number in sorted(texts) if texts[number]])
    return f'{{"entries":[{entries}]}}'.encode()


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
