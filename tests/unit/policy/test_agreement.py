"""Over 200,000 verdicts a run: reference, resolved tables and compiled programs agree, on the rule too; explain and reach with them."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from buckler.model.ids import IDENTITY_GROUP, IDENTITY_HOST, RuleNumber
from buckler.model.program import Direction, Entry, Program, Terms
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.closing import address_map
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.explain import explain
from buckler.policy.judgement import End, EndJudgement, PeerKind
from buckler.policy.language import PROTOCOL_ANY
from buckler.policy.pairs import reach_pairs
from buckler.policy.pool import Station, identity_key, singled_out, stations
from buckler.policy.prefix import host_prefix
from buckler.policy.reference import find_end, judge_end
from buckler.policy.resolve import find_interval
from buckler.policy.timing import active
from buckler.policy.unpoliced import control_traffic
from tests.policyworld import Store
from tests.randompolicy import ENDPOINTS, OUTSIDE, PORT_NUMBERS, PROTOCOLS, Seeded, number_for, world
from tests.randomtimes import START, terms_judged, timed_world

pytestmark = pytest.mark.proof

VERDICTS = 210_000
SHARES = 3
"""Tests among which the verdicts are spread, so that a failure names fewer seeds."""


class Asked:
    """One random pool, resolved and compiled."""

    def __init__(self, seed: int) -> None:
        self.choose = Seeded(seed)
        self.documents = world(self.choose) if seed % 2 else active(timed_world(self.choose), START).documents
        store = Store()
        self.pool = store.pool(self.documents)
        self.numbers = store.allocate(self.pool, self.documents)
        self.resolved: Resolved = resolve_pool(self.pool, self.documents, self.numbers)
        self.bundle: Bundle = build_bundle(self.pool, self.documents, self.numbers)
        self.names = {number: key for key, number in self.numbers.rules.items()}
        self.stations: tuple[Station, ...] = stations(self.pool, singled_out(self.documents))
        endpoints = {each.vm: each for segment in self.bundle.segments for each in segment.endpoints}
        self.programs = {
            each.vm.id: index(self.bundle.programs[endpoints[each.vm.id].program]) for each in self.stations
        }

    def peers(self) -> list[tuple[End, int]]:
        """Every kind of peer with the number that the kernel has for it."""
        meaning = address_map(self.bundle.segments[0])
        inside = [each.addresses[0] for each in self.stations]
        found = [
            (find_end(self.pool, self.documents, "net", each), meaning.identity(host_prefix(each)))
            for each in (*inside, *OUTSIDE, *ENDPOINTS)
        ]
        return [*found, (End(PeerKind.GROUP, ""), IDENTITY_GROUP), (End(PeerKind.HOST, ""), IDENTITY_HOST)]

    def compare(self, station: Station, side: Direction, end: End, peer: int, protocol: int, port: int) -> bool:
        judged = judge_end(self.documents, station, side, end, protocol, port)
        table = self.resolved.programs[self.numbers.identities[identity_key(station.labels)]].table(peer, side)
        said = find_interval(table, protocol, port)
        entry = look_up(self.programs[station.vm.id], peer, side, protocol, port)
        what = f"{station.vm.name} {side.name} {end.kind} {end.address} {protocol} {port}"
        for told in (said, entry):
            assert told.verdict == judged.verdict, what
            terms = told.terms or Terms()
            assert msgspec.structs.replace(terms, staged=0, staged_rule=RuleNumber(0)) == terms_judged(judged), what
            drafted = (terms.staged, terms.staged_rule) if terms.staged else (told.verdict, told.rule)
            wanted = judged.drafted
            assert drafted[0] == wanted.verdict, what
            assert self.names.get(drafted[1], "") == (wanted.rule.key if wanted.rule else ""), what
            assert (self.names.get(told.rule, ""), self.names.get(told.observed, "")) == keys(judged), what
        return judged.allowed


def keys(judged: EndJudgement) -> tuple[str, str]:
    rule, seen = (each.key if each else "" for each in (judged.rule, judged.observed))
    return rule, seen


Index = dict[tuple[int, int, int, int, int], Entry]


def index(program: Program) -> tuple[Index, frozenset[tuple[int, int]]]:
    """A program as the kernel's table: by peer, direction, prefix, and what of the rest the prefix covers."""
    table = {(each.peer, int(each.direction), each.prefix, each.protocol, each.port): each for each in program.entries}
    return table, frozenset((peer, side) for peer, side, _, _, _ in table)


def look_up(program: tuple[Index, frozenset[tuple[int, int]]], peer: int, side: int, protocol: int, port: int) -> Entry:
    table, sides = program
    wanted = peer if (peer, int(side)) in sides else 0
    for prefix in range(32, 16, -1):
        found = table.get((wanted, int(side), prefix, protocol, port >> (32 - prefix) << (32 - prefix)))
        if found is not None:
            return found
    exact = None if protocol == PROTOCOL_ANY else table.get((wanted, int(side), 16, protocol, 0))
    return exact or table[wanted, int(side), 8, 0, 0]


@pytest.mark.parametrize("share", range(SHARES))
def test_all_agree(share: int) -> None:
    count: Counter[bool] = Counter()
    seed = share * 1_000_000
    while count.total() < VERDICTS // SHARES:
        asked = Asked(seed)
        peers = asked.peers()
        packets = [(6, port) for port in PORT_NUMBERS] + [(each, number_for(asked.choose, each)) for each in PROTOCOLS]
        for station in asked.stations:
            for side in Direction:
                for end, peer in peers:
                    count.update(asked.compare(station, side, end, peer, *packet) for packet in packets)
        seed += 1
    assert min(count.values()) > VERDICTS // SHARES // 20, "one verdict hardly ever occurs: the generator is blunt"


@pytest.mark.parametrize("seed", range(25))
def test_explain_and_reach_agree(seed: int) -> None:
    asked = Asked(seed)
    pairs = {(each.origin, each.to): each.allowed for each in reach_pairs(asked.pool, asked.documents, asked.numbers)}
    names = {6: "TCP", 17: "UDP", 132: "SCTP", 1: "ICMP", 58: "ICMPv6", 47: "other"}
    for one in asked.stations:
        for other in asked.stations:
            if one is other:
                continue
            for protocol, name in names.items():
                port = number_for(asked.choose, protocol)
                if control_traffic(protocol, port):
                    continue
                told = explain(asked.pool, asked.documents, one.vm.name, other.vm.name, str(protocol), port)
                listed = any(
                    each.protocol == "any" or (each.protocol == name and each.port <= port <= each.end_port)
                    for each in pairs[one.vm.name, other.vm.name]
                )
                assert (told.verdict == "allow") == listed, f"seed {seed}: {one.vm.name} {other.vm.name} {name} {port}"
