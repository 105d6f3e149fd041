"""libvirt's domains → VMs and their interfaces. Owns what a domain says of itself, no filter."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.policy.importers.addressed import CARD, Holder, shared_addresses
from buckler.policy.importers.naming import document_name, made_mac, vm_document
from buckler.policy.importers.nwfilter.tree import Node
from buckler.policy.language import Document, InterfaceSpec


class Card(msgspec.Struct, frozen=True):
    """One interface of one domain."""

    holder: Holder
    network: str
    mac: str
    reference: Node | None
    node: Node


def text_of(node: Node, *path: str) -> str:
    """Give the text of the first child along a path."""
    found = node.first(*path)
    return found.text.strip() if found is not None else ""


def cards_of(domain: Node) -> list[Card]:
    """List a domain's interfaces."""
    devices = domain.first("devices")
    nodes = devices.all("interface") if devices is not None else []
    name = document_name(text_of(domain, "name"))
    found = []
    for index, node in enumerate(nodes):
        mac = node.first("mac")
        source = node.first("source")
        own = source.attributes if source is not None else {}
        reference = node.first("filterref")
        network = _network(node, own, f"{name}-{index}")
        holder = Holder(
            f"{name} {index}" if len(nodes) > 1 else name,
            name,
            _addresses(reference),
            f"nic{index}" if len(nodes) > 1 else "",
            network,
        )
        address = mac.attributes.get("address", "").lower() if mac is not None else ""
        found.append(Card(holder, network, address or made_mac(f"{name} {index}"), reference, node))
    return found


def _network(node: Node, source: Mapping[str, str], alone: str) -> str:
    """Name an interface's network with its VLANs; one that stands on neither network nor bridge shares it with nobody."""
    base = (
        source.get("network")
        or source.get("bridge")
        or (f"{alone}-alone" if source or "type" in node.attributes else "default")
    )
    vlan = node.first("vlan")
    tags = [each.attributes.get("id", "") for each in vlan.all("tag")] if vlan is not None else []
    port = node.first("port")
    apart = [alone] if port is not None and port.attributes.get("isolated") == "yes" else []
    return document_name(base, *(["vlan", *tags] if vlan is not None else []), *apart)


def _addresses(reference: Node | None) -> tuple[str, ...]:
    """The parameter IP of a filter holds an interface's addresses."""
    found = []
    for each in reference.all("parameter") if reference is not None else []:
        if each.attributes.get("name") in {"IP", "IPV6"}:
            try:
                found.append(str(ipaddress.ip_address(each.attributes.get("value", ""))))
            except ValueError:
                return ()
    return tuple(dict.fromkeys(found))


def vm_documents(domains: Sequence[Node], cards: Mapping[int, list[Card]]) -> Iterable[Document]:
    """Write the VMs."""
    shared = shared_addresses((card.network, card.holder.addresses) for group in cards.values() for card in group)
    for domain in domains:
        specs = [
            InterfaceSpec(
                card.mac,
                card.network,
                tuple(each for each in card.holder.addresses if (card.network, each) not in shared),
                {CARD: card.holder.card} if card.holder.card else {},
            )
            for card in cards[id(domain)]
        ]
        name = document_name(text_of(domain, "name"))
        yield vm_document(name, {}, specs, file=domain.file, line=domain.line, uuid=text_of(domain, "uuid").lower())
