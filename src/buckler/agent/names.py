"""Who a domain, a number or a rule is, in words, from what the host believes. Pure; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from buckler.agent.belief import Belief
from buckler.model.bundle import Endpoint, RuleName
from buckler.model.ids import Zone


class Meant(msgspec.Struct, frozen=True):
    """What policies name of the outside world in one network, and whose answers count there."""

    patterns: tuple[str, ...]
    resolvers: frozenset[str]


class Names(msgspec.Struct, frozen=True):
    """Built once for each belief."""

    by_uuid: Mapping[str, Endpoint]
    by_number: Mapping[int, Endpoint]
    rules: Mapping[int, RuleName]
    meant: Mapping[Zone, Meant] = {}
    services: Mapping[int, str] = {}
    """Of those with a virtual address, by number."""

    def vm_of(self, uuid: str) -> tuple[str, str]:
        """(VM id, tenant) of a domain; empty for one that nobody registered."""
        endpoint = self.by_uuid.get(uuid)
        return ("", "") if endpoint is None else (endpoint.vm, endpoint.tenant)


def names_of(belief: Belief) -> Names:
    """Index a belief."""
    endpoints = [endpoint for segment in belief.segments for endpoint in segment.endpoints]
    return Names(
        by_uuid={endpoint.uuid.lower(): endpoint for endpoint in endpoints},
        by_number={endpoint.number: endpoint for endpoint in endpoints},
        rules={rule.number: rule for rule in belief.rules},
        meant={each.zone: Meant(each.names, frozenset(each.resolvers)) for each in belief.segments if each.names},
        services={each.number: each.name for segment in belief.segments for each in segment.services},
    )
