"""A shield program in words: every rule with the peers and services that it decides. Owns no verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.bundle import RuleName
from buckler.model.ids import (
    IDENTITY_ANY,
    IDENTITY_GROUP,
    IDENTITY_HOST,
    IDENTITY_INFRA,
    IDENTITY_WORLD,
    IdentityNumber,
    RuleNumber,
)
from buckler.model.program import Direction, Entry, Program, Terms, Verdict
from buckler.policy.language import PROTOCOL_NAMES
from buckler.policy.timing import write_moment
from buckler.ports.records import NumberSpace
from buckler.ports.store import Unit

Names = Mapping[IdentityNumber, str]
Key = tuple[Direction, RuleNumber, Verdict, str]
_RESERVED = {
    IDENTITY_ANY: "anyone else",
    IDENTITY_HOST: "the host as gateway",
    IDENTITY_WORLD: "the world",
    IDENTITY_GROUP: "groups",
    IDENTITY_INFRA: "hosts of the pool",
}
_ALL, _PROTOCOL, _ONE = 8, 16, 32


def names_of(unit: Unit) -> dict[IdentityNumber, str]:
    """Name every identity that was ever numbered: by its labels, or its prefix."""
    found = dict(_RESERVED)
    for text, number in unit.numbers.table(NumberSpace.IDENTITY).items():
        labels = msgspec.json.decode(text, type=dict[str, str])
        found[IdentityNumber(number)] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    for text, number in unit.numbers.table(NumberSpace.CIDR).items():
        found[IdentityNumber(number)] = text
    return found


def program_words(program: Program, rules: Mapping[RuleNumber, RuleName], names: Names) -> tuple[str, ...]:
    """Say each thing that a program decides in one line, in a fixed order."""
    groups: dict[Key, dict[IdentityNumber, list[Entry]]] = {}
    for entry in program.entries:
        peers = groups.setdefault((entry.direction, entry.rule, entry.verdict, _terms(entry.terms)), {})
        peers.setdefault(entry.peer, []).append(entry)
    lines = []
    for (direction, rule, verdict, terms), peers in sorted(groups.items()):
        services: dict[str, list[str]] = {}
        for peer, entries in peers.items():
            services.setdefault(_services(entries), []).append(names.get(peer, f"identity {peer:#x}"))
        for service, who in sorted(services.items()):
            way = "to" if direction is Direction.EGRESS else "from"
            lines.append(
                f"{verdict.name.lower()} {service} {way} {' | '.join(sorted(who))}{terms}: {_rule(rule, rules)}"
            )
    return tuple(lines)


def _terms(terms: Terms | None) -> str:
    """Say what holds beside a verdict: an allowance past its end was none, whatever the program said."""
    if terms is None:
        return ""
    words = [
        f"until {write_moment(terms.until)}" if terms.until else "",
        f"at most {terms.connections} new connections in {terms.within} s" if terms.connections else "",
        "recorded" if terms.log else "",
        f"staged: {_draft(terms.staged)}" if terms.staged else "",
    ]
    return ", " + ", ".join(filter(None, words))


def _draft(verdict: int) -> str:
    return Verdict(verdict).name.lower() if verdict in set(Verdict) else "deny"


def _rule(number: RuleNumber, rules: Mapping[RuleNumber, RuleName]) -> str:
    if not number:
        return "no rule matched"
    name = rules.get(number)
    return f"rule {number}" if name is None else f"{name.policy}/{name.rule} ({name.tier})"


def _services(entries: Iterable[Entry]) -> str:
    """Longest-prefix entries back to ranges, neighbours joined."""
    spans: dict[int, list[tuple[int, int]]] = {}
    words = []
    for entry in sorted(entries, key=lambda each: (each.protocol, each.port, each.prefix)):
        if entry.prefix <= _ALL:
            words.append("everything else")
        elif entry.prefix <= _PROTOCOL:
            words.append(_protocol(entry.protocol))
        else:
            mine, last = spans.setdefault(entry.protocol, []), entry.port + (1 << (_ONE - entry.prefix)) - 1
            if mine and mine[-1][1] + 1 >= entry.port:
                mine[-1] = (mine[-1][0], max(mine[-1][1], last))
            else:
                mine.append((entry.port, last))
    for protocol, ranges in sorted(spans.items()):
        ports = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
        words.append(f"{_protocol(protocol)} {ports}")
    return ", ".join(words)


def _protocol(number: int) -> str:
    return PROTOCOL_NAMES.get(number, f"protocol {number}")
