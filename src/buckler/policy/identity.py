"""Who can be a peer in a network, as numbers: label sets, named prefixes, and the reserved ones.

Owns which numbers are needed and what each stands for; the store allocates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.ids import IdentityNumber, RuleNumber, Zone
from buckler.policy.compose import compose_documents
from buckler.policy.language import DENIALS, Document, ExceptionSpec, FlowSpec, Peer, PolicySpec
from buckler.policy.pool import Numbers, Pool, Station, Visitor, identity_key, singled_out, stations, visitors
from buckler.policy.rules import Rule, list_rules
from buckler.policy.serving import service_key


class Missing(msgspec.Struct, frozen=True):
    """What the store has yet to allocate numbers for. Nothing can be compiled before."""

    identities: tuple[str, ...] = ()
    cidrs: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.identities or self.cidrs or self.rules or self.services)


def missing_numbers(pool: Pool, documents: Iterable[Document], numbers: Numbers) -> Missing:
    """List the keys that have no number yet."""
    documents = compose_documents(documents)
    singled = singled_out(documents)
    found: tuple[Station | Visitor, ...] = (*stations(pool, singled), *visitors(pool, singled))
    identities = {identity_key(each.labels) for each in found}
    rules = {rule.key for rule in list_rules(documents)}
    zones = {each.name: each.zone for each in pool.networks}
    services = {service_key(zones[each.network], each.address) for each in pool.services if each.network in zones}
    return Missing(
        identities=tuple(sorted(identities - numbers.identities.keys())),
        cidrs=tuple(sorted(set(named_prefixes(documents)) - numbers.cidrs.keys())),
        rules=tuple(sorted(rules - numbers.rules.keys())),
        services=tuple(sorted(services - numbers.services.keys())),
    )


def named_prefixes(documents: Iterable[Document]) -> tuple[str, ...]:
    """List every prefix that some composed policy names, as a peer or as an exception."""
    named: set[str] = set()
    for document in documents:
        for peer in _peers(document):
            if peer.cidr:
                named |= {peer.cidr, *peer.excluded}
    return tuple(sorted(named))


def identities_by_zone(
    found: Iterable[Station | Visitor], numbers: Mapping[str, IdentityNumber]
) -> dict[Zone, dict[IdentityNumber, dict[str, str]]]:
    """Give each zone's label sets by number."""
    zones: dict[Zone, dict[IdentityNumber, dict[str, str]]] = {}
    for station in found:
        number = numbers[identity_key(station.labels)]
        zones.setdefault(station.network.zone, {})[number] = station.labels
    return zones


def rule_means_everyone(rule: Rule) -> bool:
    """Say whether a rule holds towards every peer, known or not; groups only where ``rule_means_group``."""
    return not rule.peers or any(peer.any for peer in rule.peers)


def rule_means_group(rule: Rule) -> bool:
    """Say whether a rule holds towards groups: named, or a denial of everyone."""
    return any(peer.group for peer in rule.peers) or (rule.action in DENIALS and rule_means_everyone(rule))


def rule_keys(rules: Iterable[Rule], numbers: Mapping[str, RuleNumber]) -> dict[RuleNumber, Rule]:
    """Find a rule by its number."""
    return {numbers[rule.key]: rule for rule in rules}


def _peers(document: Document) -> Iterable[Peer]:
    spec = document.spec
    if isinstance(spec, PolicySpec):
        for rule in (*spec.ingress, *spec.egress):
            yield from rule.peers
    elif isinstance(spec, FlowSpec | ExceptionSpec):
        yield from (*spec.sources, *spec.destinations)
