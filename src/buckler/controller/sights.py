"""Domains as hosts see them, laid together by uuid. Owns no word of what a sight changes (observed)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from buckler.model.agentapi import Observation, ObservedDomain
from buckler.model.domain import DomainState
from buckler.model.ids import HostId
from buckler.model.pool import Host
from buckler.ports.store import Unit

_INACTIVE = frozenset({DomainState.SHUTOFF.value, DomainState.CRASHED.value})


class Sight(msgspec.Struct, frozen=True):
    """A domain as one host sees it."""

    host: Host
    domain: ObservedDomain
    at: float


Seen = dict[str, tuple[Sight, ...]]
"""All observed domains by uuid."""


def sights(unit: Unit) -> Seen:
    """All observed domains by uuid; those that run come first."""
    return seen_by({record.host.id: record.host for record in unit.hosts.all()}, unit.observations.all())


def seen_by(hosts: Mapping[HostId, Host], observations: Mapping[HostId, Observation]) -> Seen:
    """All domains that hosts observed by uuid; those that run come first."""
    found: dict[str, list[Sight]] = {}
    for host, observation in observations.items():
        for domain in observation.domains:
            if host in hosts:
                found.setdefault(domain.uuid, []).append(Sight(hosts[host], domain, observation.at))
    return {uuid: tuple(sorted(each, key=_order)) for uuid, each in found.items()}


def is_active(domain: ObservedDomain) -> bool:
    """Say whether the domain occupies its host now."""
    return domain.state not in _INACTIVE


def _order(sight: Sight) -> tuple[bool, float]:
    return not is_active(sight.domain), -sight.at
