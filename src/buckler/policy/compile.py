"""Resolved tables per security identity, and their folding into longest-prefix entries of a program.

Compiles per label set, not per VM. Owns neither the rules' meaning (resolve) nor who runs what (bundle).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.ids import IDENTITY_ANY, IDENTITY_GROUP, IdentityNumber, RuleNumber
from buckler.model.program import Direction, Entry, Program
from buckler.policy.compose import compose_documents
from buckler.policy.fold import fold_table
from buckler.policy.identity import identities_by_zone
from buckler.policy.language import Document
from buckler.policy.pool import Numbers, Pool, Station, Visitor, singled_out, stations, visitors
from buckler.policy.quarantine import QUARANTINE_POLICIES
from buckler.policy.resolve import Table
from buckler.policy.row import Row
from buckler.policy.rows import Rows
from buckler.policy.rules import Rule, list_rules

Side = tuple[IdentityNumber, Direction]


class ResolvedProgram(msgspec.Struct, frozen=True):
    """One identity's tables: towards everyone without a table of their own, and towards each peer that has one."""

    any: dict[Direction, Table]
    peers: dict[Side, Table]

    def table(self, peer: IdentityNumber, direction: Direction) -> Table:
        """Give the table that holds towards ``peer``."""
        return self.peers.get((peer, direction), self.any[direction])


class Resolved(msgspec.Struct, frozen=True):
    """The whole pool, resolved, outsiders too (nothing enforces theirs). ``rules`` by number, to be told in words."""

    programs: dict[IdentityNumber, ResolvedProgram]
    rules: dict[RuleNumber, Rule]
    prefixes: tuple[str, ...]


def resolve_pool(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> Resolved:
    """Resolve every identity of the pool. Every number must be there (``missing_numbers`` gave nothing)."""
    documents = tuple(documents)
    rules = list_rules(documents)
    rows = fill_rows(pool, documents, numbers)
    programs: dict[IdentityNumber, ResolvedProgram] = {}
    for members, row in rows.rows():
        programs |= dict.fromkeys(members, expand_row(rows, row))
    named = {numbers.rules[rule.key]: rule for rule in rules}
    return Resolved(programs, named, tuple(sorted(rows.postings.prefixes())))


def fill_rows(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> Rows:
    """Work out the rows of a whole pool."""
    documents = compose_documents(documents)
    singled = singled_out(documents)
    found: tuple[Station | Visitor, ...] = (*stations(pool, singled), *visitors(pool, singled))
    rows = Rows(numbers.rules.__getitem__)
    for zone, labels_by_number in identities_by_zone(found, numbers.identities).items():
        for number, labels in labels_by_number.items():
            rows.put_labels(number, labels, zone)
    for document in (*documents, *QUARANTINE_POLICIES):
        rows.put_document(document, numbers.cidrs.__getitem__)
    rows.settle()
    return rows


def expand_row(rows: Rows, row: Row) -> ResolvedProgram:
    """Write a row's tables out for each peer."""
    peers: dict[Side, Table] = {}
    for direction, side in zip(Direction, row.sides, strict=True):
        for mask, sheet in side.classes:
            peers |= {(number, direction): sheet.table for number in rows.postings.members(mask)}
        if side.group is not side.everyone:
            peers[IDENTITY_GROUP, direction] = side.group.table
    tables = {direction: side.everyone.table for direction, side in zip(Direction, row.sides, strict=True)}
    return ResolvedProgram(tables, peers)


def compile_program(resolved: ResolvedProgram) -> Program:
    """Fold the tables of one identity into a program; equal tables give equal programs."""
    entries: list[Entry] = []
    for direction in Direction:
        default = resolved.any[direction]
        entries += fold_table(IDENTITY_ANY, direction, default)
        for (peer, side), table in resolved.peers.items():
            if side is direction and table != default:
                entries += fold_table(peer, direction, table)
    return Program(tuple(sorted(entries)))
