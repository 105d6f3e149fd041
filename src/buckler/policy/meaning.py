"""Whom and what a rule means, as it is written: peers, services, ports. Part of the meaning of the language (``reference``).

Owns no order of judging.
"""

from __future__ import annotations

import ipaddress

import msgspec

from buckler.model.label import LABEL_TENANT, Selector
from buckler.policy.judgement import End, PeerKind
from buckler.policy.language import (
    DEFAULT_TENANT,
    PROTOCOLS,
    Action,
    AddressGroupSpec,
    Document,
    Kind,
    Peer,
    Port,
    ServiceSpec,
    Stand,
    Tier,
)
from buckler.policy.learned import Learned, group_of
from buckler.policy.pool import Station


class Asked(msgspec.Struct, frozen=True):
    """A document, the groups and services that it may name, and whose end is asked."""

    document: Document
    named: dict[str, Document]
    stand: Stand
    exceptions: tuple[Document, ...] = ()
    network: str = ""

    def look_up(self, kind: Kind, name: str) -> AddressGroupSpec | ServiceSpec:
        """Find a name in the document's tenant, else in the default one."""
        for tenant in (self.document.tenant, DEFAULT_TENANT):
            found = self.named.get(f"{kind}/{tenant}/{name}")
            if found is not None and isinstance(found.spec, AddressGroupSpec | ServiceSpec):
                return found.spec
        raise LookupError(f"{kind} {name}")


def stands_at(asked: Asked, tier: Tier, near: tuple[Peer, ...], station: Station) -> bool:
    """Say whether a VM is among the near ends of a flow."""
    return any(
        each.any or (each.vm is not None and selects(asked.document, tier, each.vm, station.labels)) for each in near
    )


def selects(document: Document, tier: Tier, selector: Selector, labels: dict[str, str]) -> bool:
    """Say whether a selector means these labels; a tenant's means its own alone."""
    if tier is Tier.TENANT and labels[LABEL_TENANT] != document.tenant:
        return False
    return selector.matches(labels)


def means_service(asked: Asked, tier: Tier, name: str, end: End, protocol: int, port: int) -> bool:
    """A service is VMs and ports at once."""
    service = asked.look_up(Kind.SERVICE, name)
    if not isinstance(service, ServiceSpec) or not _is_peer(asked, tier, Peer(vm=service.selector), end):
        return False
    return means_port(service.ports, protocol, port)


def means_any(asked: Asked, tier: Tier, action: Action, peers: tuple[Peer, ...], end: End) -> bool:
    """No peers: everyone. Groups are opened only by name, so only a denial of everyone means them too."""
    everyone = not peers or any(peer.any for peer in peers)
    if everyone and (end.kind is not PeerKind.GROUP or action in {Action.DENY, Action.REJECT}):
        return True
    return any(_is_peer(asked, tier, peer, end) for peer in peers)


def _is_peer(asked: Asked, tier: Tier, peer: Peer, end: End) -> bool:
    if peer.vm is not None:
        whose = end.station or end.visitor
        return whose is not None and selects(asked.document, tier, peer.vm, whose.labels)
    if peer.addresses:
        group = asked.look_up(Kind.ADDRESS_GROUP, peer.addresses)
        assert isinstance(group, AddressGroupSpec)  # noqa: S101 - by its kind
        return any(_is_outside(end, cidr, group.excluded) for cidr in group.cidrs)
    if peer.cidr:
        return _is_outside(end, peer.cidr, peer.excluded)
    if peer.dns:
        return bool(answers_among(asked, (peer,), end))
    return end.kind is {peer.world: PeerKind.WORLD, peer.host: PeerKind.HOST, peer.group: PeerKind.GROUP}.get(True)


def answers_among(asked: Asked, peers: tuple[Peer, ...], end: End) -> list[Learned]:
    """List the answers of names among ``peers`` that give this address in the network that is asked."""
    named = [each for peer in peers if peer.dns for each in group_of(peer.dns, asked.named)]
    return [each for each in named if each.network == asked.network and _is_outside(end, each.cidr, ())]


def _is_outside(end: End, cidr: str, excluded: tuple[str, ...]) -> bool:
    if end.kind is not PeerKind.WORLD or not end.address or not _inside(end.address, cidr):
        return False
    return not any(_inside(end.address, part) for part in excluded)


def means_port(ports: tuple[Port, ...], protocol: int, number: int) -> bool:
    """Say whether ports mean this one; none: every port."""
    return not ports or any(_is_port(port, protocol, number) for port in ports)


def _is_port(port: Port, protocol: int, number: int) -> bool:
    if port.protocol == "any":
        return True
    if PROTOCOLS[port.protocol] != protocol:
        return False
    low, high = port.span()
    return low <= number <= high


def _inside(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
