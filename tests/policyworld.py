"""Pools and numbers for tests: what a controller's store would allocate, made by counting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from buckler.model.ids import (
    FIRST_CIDR_IDENTITY,
    FIRST_VM_IDENTITY,
    HostId,
    IdentityNumber,
    RuleNumber,
    VmId,
    VmNumber,
    Zone,
)
from buckler.model.label import CLOSED, REMEDIATION
from buckler.model.pool import Host
from buckler.policy.documents import read_documents
from buckler.policy.identity import missing_numbers
from buckler.policy.language import Document, Kind
from buckler.policy.pool import (
    Numbers,
    Pool,
    network_from_document,
    outsider_from_document,
    service_addresses,
    vm_from_document,
)
from buckler.policy.source import Source

SHOP = Path(__file__).parents[1] / "examples" / "shop"


def shop_documents() -> tuple[Document, ...]:
    """The example's documents; any problem in them is a failure."""
    reading = read_documents(Source(path.name, path.read_text()) for path in sorted(SHOP.glob("*.yaml")))
    assert not reading.problems, reading.problems
    return reading.documents


class Store:
    """Allocates numbers as a store does: once, rising, never again."""

    def __init__(self) -> None:
        self.numbers = Numbers({}, {}, {})
        self._vms: dict[str, int] = {}
        self._zones: dict[str, int] = {}

    def pool(
        self,
        documents: Iterable[Document],
        quarantined: Sequence[str] = (),
        hosts: tuple[Host, ...] = (),
        remediated: Sequence[str] = (),
    ) -> Pool:
        documents = tuple(documents)
        networks = tuple(
            network_from_document(each, Zone(self._zones.setdefault(each.key, len(self._zones) + 1)))
            for each in documents
            if each.kind is Kind.NETWORK
        )
        vms = tuple(
            vm_from_document(
                each,
                VmId(f"vm-{each.tenant}-{each.name}"),
                VmNumber(self._vms.setdefault(each.key, len(self._vms) + 1)),
                quarantine=REMEDIATION if each.name in remediated else CLOSED if each.name in quarantined else "",
            )
            for each in documents
            if each.kind is Kind.VM
        )
        outsiders = tuple(outsider_from_document(each) for each in documents if each.kind is Kind.ENDPOINT)
        return Pool(networks, vms, hosts, outsiders, service_addresses(documents))

    def allocate(self, pool: Pool, documents: Iterable[Document]) -> Numbers:
        missing = missing_numbers(pool, documents, self.numbers)
        identities, cidrs = dict(self.numbers.identities), dict(self.numbers.cidrs)
        rules = dict(self.numbers.rules)
        for key in missing.identities:
            identities[key] = IdentityNumber(FIRST_VM_IDENTITY + len(identities))
        for key in missing.cidrs:
            cidrs[key] = IdentityNumber(FIRST_CIDR_IDENTITY + len(cidrs))
        for key in missing.rules:
            rules[key] = RuleNumber(len(rules) + 1)
        services = dict(self.numbers.services)
        for key in missing.services:
            services[key] = len(services) + 1
        self.numbers = Numbers(identities, cidrs, rules, services)
        return self.numbers


def host(name: str, *addresses: str) -> Host:
    return Host(HostId(name), name, "key", addresses[0] if addresses else "", addresses)
