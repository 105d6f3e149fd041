"""The pool as policy sees it: interfaces with their full label sets, and who owns an address in a network.

Owns the implicit labels and addresses, not the documents they are declared in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.ids import IdentityNumber, RuleNumber, VmId, VmNumber, Zone
from buckler.model.label import LABEL_NAME, LABEL_NETWORK, LABEL_QUARANTINE, LABEL_TENANT
from buckler.model.pool import Host, Interface, Network, Vm
from buckler.policy.language import Document, FlowSpec, NetworkSpec, PolicySpec, VmSpec


class Pool(msgspec.Struct, frozen=True):
    """Everything that is judged, and the hosts that no guest may reach: revoked ones too."""

    networks: tuple[Network, ...] = ()
    vms: tuple[Vm, ...] = ()
    hosts: tuple[Host, ...] = ()


class Numbers(msgspec.Struct, frozen=True):
    """Pool-wide numbers, allocated once by the store and never used for anything else.

    ``identities``: identity key (``identity_key``) → number; ``cidrs``: prefix → number; ``rules``: rule key → number.
    """

    identities: Mapping[str, IdentityNumber] = {}
    cidrs: Mapping[str, IdentityNumber] = {}
    rules: Mapping[str, RuleNumber] = {}


class Station(msgspec.Struct, frozen=True):
    """One interface of one VM in its network, with everything that selectors may look at."""

    vm: Vm
    interface: Interface
    network: Network
    labels: dict[str, str]
    addresses: tuple[str, ...]
    """Declared ones and the EUI-64 link-local one."""


def link_local_address(mac: str) -> str:
    """Derive the IPv6 link-local address that SLAAC makes of a MAC (RFC 4291, appendix A)."""
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 2
    raw = bytes.fromhex("fe80000000000000") + bytes(octets[:3]) + b"\xff\xfe" + bytes(octets[3:])
    return str(ipaddress.IPv6Address(raw))


def vm_from_document(document: Document, vm: VmId, number: VmNumber, *, quarantined: bool = False) -> Vm:
    """Make the pool's value of a VM document; id and number come from the store."""
    spec = document.spec
    if not isinstance(spec, VmSpec):
        raise TypeError(f"{document.key} is no VM")
    labels = dict(document.labels) | ({LABEL_QUARANTINE: "true"} if quarantined else {})
    return Vm(
        id=vm,
        number=number,
        name=document.name,
        tenant=document.tenant,
        uuid=spec.uuid,
        labels=labels,
        interfaces=tuple(
            Interface(mac=card.mac, network=card.network, addresses=card.addresses, labels=dict(card.labels))
            for card in spec.interfaces
        ),
        mode=spec.mode,
    )


def network_from_document(document: Document, zone: Zone) -> Network:
    """Make the pool's value of a Network document; the zone comes from the store."""
    spec = document.spec
    if not isinstance(spec, NetworkSpec):
        raise TypeError(f"{document.key} is no Network")
    return Network(
        name=document.name,
        zone=zone,
        tenant=document.tenant,
        bridge=spec.bridge,
        vlan=spec.vlan,
        cidrs=spec.cidrs,
        dhcp_servers=spec.dhcp_servers,
        routers=spec.routers,
        gateway=spec.gateway,
        labels=dict(document.labels),
        detected=spec.address_claims.limit,
    )


def names_are_selected(documents: Iterable[Document]) -> bool:
    """Say whether some selector looks at VM names, so that each VM needs an identity of its own."""
    return any(LABEL_NAME in keys for document in documents for keys in _selector_keys(document))


def stations(pool: Pool, *, with_names: bool) -> tuple[Station, ...]:
    """List every interface that stands in a known network of its own tenant; others stay closed."""
    networks = {network.name: network for network in pool.networks}
    found = []
    for vm in pool.vms:
        for card in vm.interfaces:
            network = networks.get(card.network)
            if network is not None and network.tenant == vm.tenant:
                found.append(_station(vm, card, network, with_names))
    return tuple(found)


def identity_key(labels: Mapping[str, str]) -> str:
    """Name a label set by its canonical JSON: what an identity number is allocated for."""
    return canonical_bytes(dict(labels)).decode()


def _station(vm: Vm, card: Interface, network: Network, with_names: bool) -> Station:
    labels = {**network.labels, **vm.labels, **card.labels}
    labels[LABEL_TENANT], labels[LABEL_NETWORK] = vm.tenant, network.name
    if with_names:
        labels[LABEL_NAME] = vm.name
    addresses = tuple(dict.fromkeys((*card.addresses, link_local_address(card.mac))))
    return Station(vm=vm, interface=card, network=network, labels=labels, addresses=addresses)


def _selector_keys(document: Document) -> Iterable[set[str]]:
    spec = document.spec
    selectors = []
    if isinstance(spec, PolicySpec):
        selectors = [spec.subject]
        selectors += [peer.vm for rule in (*spec.ingress, *spec.egress) for peer in rule.peers if peer.vm]
    elif isinstance(spec, FlowSpec):
        selectors = [peer.vm for peer in (*spec.sources, *spec.destinations) if peer.vm]
    for selector in selectors:
        yield {*selector.match_labels, *(expression.key for expression in selector.match_expressions)}
