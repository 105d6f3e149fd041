"""Resolved tables per security identity, and their folding into longest-prefix entries of a program.

Compiles per label set, not per VM. Owns neither the rules' meaning (resolve) nor who runs what (bundle).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.model.ids import IDENTITY_ANY, IDENTITY_GROUP, IdentityNumber, RuleNumber
from buckler.model.program import Direction, Entry, Program, Verdict
from buckler.policy.identity import (
    PeerClass,
    identities_by_zone,
    named_prefixes,
    outside_classes,
    rule_means_everyone,
    rule_means_group,
)
from buckler.policy.language import PROTOCOL_ANY, Document
from buckler.policy.pool import Numbers, Pool, names_are_selected, stations
from buckler.policy.resolve import LAST_PORT, Interval, Table, resolve_rules
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
    """The whole pool, resolved. ``rules`` by number, so that any table can be told in words."""

    programs: dict[IdentityNumber, ResolvedProgram]
    rules: dict[RuleNumber, Rule]
    prefixes: tuple[str, ...]


def resolve_pool(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> Resolved:
    """Resolve every identity of the pool. Every number must be there (``missing_numbers`` gave nothing)."""
    documents = tuple(documents)
    rules = list_rules(documents)
    prefixes = named_prefixes(documents)
    outside = outside_classes(prefixes, numbers.cidrs)
    found = stations(pool, with_names=names_are_selected(documents))
    tables = _Tables(rules, numbers.rules)
    programs: dict[IdentityNumber, ResolvedProgram] = {}
    for labels_by_number in identities_by_zone(found, numbers.identities).values():
        classes = (*outside, *(PeerClass(number, labels) for number, labels in labels_by_number.items()))
        matched = _matched_peers(rules, classes)
        for number, labels in labels_by_number.items():
            programs[number] = _resolve_identity(rules, labels, matched, tables)
    return Resolved(programs, {numbers.rules[rule.key]: rule for rule in rules}, prefixes)


def compile_program(resolved: ResolvedProgram) -> Program:
    """Fold the tables of one identity into a program; equal tables give equal programs."""
    entries: list[Entry] = []
    for direction in Direction:
        default = resolved.any[direction]
        entries += _fold(IDENTITY_ANY, direction, default)
        for (peer, side), table in resolved.peers.items():
            if side is direction and table != default:
                entries += _fold(peer, direction, table)
    return Program(tuple(sorted(entries)))


class _Tables:
    """Tables by the rules that make them: many identities share few tables."""

    def __init__(self, rules: Sequence[Rule], numbers: Mapping[str, RuleNumber]) -> None:
        self._rules, self._numbers = rules, numbers
        self._known: dict[tuple[int, ...], Table] = {}

    def table(self, chosen: Iterable[int]) -> Table:
        """Resolve the rules at these places of the list."""
        key = tuple(sorted(chosen))
        if key not in self._known:
            self._known[key] = resolve_rules([self._rules[index] for index in key], self._numbers)
        return self._known[key]


def _matched_peers(rules: Sequence[Rule], classes: Sequence[PeerClass]) -> list[tuple[IdentityNumber, ...]]:
    """For each rule the peers that it names; none for a rule that means everyone."""
    return [
        ()
        if rule_means_everyone(rule)
        else tuple(each.number for each in classes if any(each.is_matched(peer) for peer in rule.peers))
        for rule in rules
    ]


def _resolve_identity(
    rules: Sequence[Rule],
    labels: Mapping[str, str],
    matched: Sequence[tuple[IdentityNumber, ...]],
    tables: _Tables,
) -> ResolvedProgram:
    any_tables: dict[Direction, Table] = {}
    peers: dict[Side, Table] = {}
    for direction in Direction:
        mine = [i for i, rule in enumerate(rules) if rule.direction is direction and rule.subject.matches(labels)]
        everyone = [index for index in mine if rule_means_everyone(rules[index])]
        any_tables[direction] = tables.table(everyone)
        named: dict[IdentityNumber, list[int]] = {}
        for index in mine:
            for number in matched[index]:
                named.setdefault(number, []).append(index)
        to_peers = {number: tables.table((*everyone, *chosen)) for number, chosen in named.items()}
        to_peers[IDENTITY_GROUP] = tables.table(index for index in mine if rule_means_group(rules[index]))
        for number, table in to_peers.items():
            if table != any_tables[direction]:
                peers[number, direction] = table
    return ResolvedProgram(any_tables, peers)


def _fold(peer: IdentityNumber, direction: Direction, table: Table) -> list[Entry]:
    """Fold one table: an entry for the direction, one per protocol that differs, and prefixes within it."""
    base = next(each for each in table if each.protocol == PROTOCOL_ANY)
    entries = [_entry(peer, direction, base, 0, 0, 8)]
    by_protocol: dict[int, list[Interval]] = {}
    for each in table:
        by_protocol.setdefault(each.protocol, []).append(each)
    for protocol, intervals in by_protocol.items():
        if protocol == PROTOCOL_ANY:
            continue
        widest = max(intervals, key=lambda each: each.high - each.low)
        if _says(widest) != _says(base):
            entries.append(_entry(peer, direction, widest, protocol, 0, 16))
        for each in intervals:
            if _says(each) != _says(widest):
                entries += [
                    _entry(peer, direction, each, protocol, port, 16 + length)
                    for port, length in port_prefixes(each.low, each.high)
                ]
    return entries


def port_prefixes(low: int, high: int) -> list[tuple[int, int]]:
    """Cover a port range by the fewest aligned prefixes: (first port, bits that count)."""
    prefixes = []
    while low <= high:
        size = low & -low or LAST_PORT + 1
        while size > high - low + 1:
            size //= 2
        prefixes.append((low, 17 - size.bit_length()))
        low += size
    return prefixes


def _says(interval: Interval) -> tuple[Verdict, RuleNumber, RuleNumber]:
    return interval.verdict, interval.rule, interval.observed


def _entry(
    peer: IdentityNumber, direction: Direction, interval: Interval, protocol: int, port: int, prefix: int
) -> Entry:
    return Entry(peer, direction, protocol, port, prefix, interval.verdict, interval.rule, interval.observed)
