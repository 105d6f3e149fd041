"""Check documents against addresses that VMs have by claims. Owns no decision about a claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from buckler.policy.language import Document, EndpointSpec, Kind, NetworkSpec, ServiceSpec, VmSpec
from buckler.policy.problem import Problem


class Holding(msgspec.Struct, frozen=True):
    """An address in force by a claim of a VM, as documents name the VM."""

    network: str
    address: str
    tenant: str
    vm: str
    source: str


def check_holdings(documents: Sequence[Document], holdings: Iterable[Holding]) -> tuple[Problem, ...]:
    """Note every declared address that another VM has by a claim. ``documents``: the pool's afterwards."""
    alive = {(each.tenant, each.name) for each in documents if each.kind is Kind.VM}
    held = {(each.network, each.address): each for each in holdings if (each.tenant, each.vm) in alive}
    return tuple(problem for document in documents for problem in _collisions(document, held)) if held else ()


def _collisions(document: Document, held: dict[tuple[str, str], Holding]) -> Iterator[Problem]:
    for path, network, address in _declared(document):
        holding = held.get((network, address))
        if holding is None or (document.kind, document.tenant, document.name) == (Kind.VM, holding.tenant, holding.vm):
            continue
        yield Problem(
            document.file,
            document.lines.get(path, document.line),
            path,
            f"{document.kind} {document.name}: {address} is VM {holding.vm}'s by {holding.source} in network {network}",
            (
                f"choose another, or stop {holding.vm}"
                if document.kind is Kind.SERVICE
                else f"declare it for {holding.vm}, choose another, or stop {holding.vm}"
            )
            + (" and wait for its lease to end" if holding.source == "dhcp" else ""),
        )


def _declared(document: Document) -> Iterator[tuple[str, str, str]]:
    spec = document.spec
    if isinstance(spec, VmSpec):
        for index, card in enumerate(spec.interfaces):
            for place, address in enumerate(card.addresses):
                yield f"spec.interfaces[{index}].addresses[{place}]", card.network, address
    elif isinstance(spec, EndpointSpec):
        for place, address in enumerate(spec.addresses):
            yield f"spec.addresses[{place}]", spec.network, address
    elif isinstance(spec, ServiceSpec):
        if spec.virtual_address:
            yield "spec.virtualAddress", spec.network, spec.virtual_address
    elif isinstance(spec, NetworkSpec):
        for field, addresses in (
            ("dhcpServers", spec.dhcp_servers),
            ("routers", spec.routers),
            ("gateway", spec.gateway),
        ):
            for place, address in enumerate(addresses):
                yield f"spec.{field}[{place}]", document.name, address
