"""Read the documents of things that policies name: endpoints, address groups, services. Checks each by itself only."""

from __future__ import annotations

from buckler.model.bundle import MOST_PORTS
from buckler.model.label import Selector
from buckler.policy.field import Place, each
from buckler.policy.language import AddressGroupSpec, EndpointSpec, Port, ServiceSpec
from buckler.policy.prefix import address_of, is_within
from buckler.policy.words import LATER, read_port, read_selector

_LATER_ENDPOINT = {
    **dict.fromkeys(("certificate", "user", "port", "proof"), "an endpoint is known by its address alone for now"),
    "mac": "addresses are what shields look up; a MAC proves nothing behind a router",
}
_LATER_SERVICE = {
    "address": "say virtualAddress",
    **dict.fromkeys(
        ("translate", "targetPort"), "a shield translates the address alone: members serve at the same port"
    ),
    **dict.fromkeys(("application", "inspect", "profile"), LATER),
}
_TRANSLATED = frozenset({"TCP", "UDP", "SCTP"})


def read_endpoint(place: Place) -> EndpointSpec:
    """Read the spec of an Endpoint."""
    fields = place.fields(("network", "addresses", "owner", "purpose"), ("network", "addresses"), _LATER_ENDPOINT)
    addresses = each(fields.get("addresses"), Place.address)
    if "addresses" in fields and not addresses:
        fields["addresses"].note("names no address", "an endpoint is known by its address")
    return EndpointSpec(
        network=fields["network"].name() if "network" in fields else "",
        addresses=addresses,
        owner=fields["owner"].text() if "owner" in fields else "",
        purpose=fields["purpose"].text() if "purpose" in fields else "",
    )


def read_address_group(place: Place) -> AddressGroupSpec:
    """Read the spec of an AddressGroup."""
    fields = place.fields(("cidrs", "except", "description", "owner"), ("cidrs",))
    cidrs, excluded = each(fields.get("cidrs"), Place.cidr), each(fields.get("except"), Place.cidr)
    if "cidrs" in fields and not cidrs:
        fields["cidrs"].note("names no prefix", "delete the group with what names it instead")
    for index, part in enumerate(excluded):
        if part and not any(is_within(part, cidr) for cidr in cidrs if cidr):
            fields["except"].items()[index].note(f"{part} lies in none of the cidrs")
    return AddressGroupSpec(
        cidrs=cidrs,
        excluded=excluded,
        description=fields["description"].text() if "description" in fields else "",
        owner=fields["owner"].text() if "owner" in fields else "",
    )


def read_service(place: Place) -> ServiceSpec:
    """Read the spec of a Service."""
    known = ("selector", "ports", "network", "virtualAddress", "description", "owner", "listener")
    fields = place.fields(known, ("selector", "ports"), _LATER_SERVICE)
    ports = each(fields.get("ports"), read_port)
    if "ports" in fields and not ports:
        fields["ports"].note("names no port", "a service is VMs and ports")
    return ServiceSpec(
        selector=read_selector(fields["selector"]) if "selector" in fields else Selector(),
        ports=ports,
        network=fields["network"].name() if "network" in fields else "",
        virtual_address=_virtual_address(place, fields, ports),
        description=fields["description"].text() if "description" in fields else "",
        owner=fields["owner"].text() if "owner" in fields else "",
        listener=fields["listener"].text() if "listener" in fields else "",
    )


def _virtual_address(place: Place, fields: dict[str, Place], ports: tuple[Port, ...]) -> str:
    """Take the address that a shield translates, and note what it cannot be translated for."""
    if "virtualAddress" not in fields:
        if "network" in fields:
            fields["network"].note(
                "a service without virtualAddress has no network", "its VMs are meant wherever they are"
            )
        return ""
    if "network" not in fields:
        place.note("network is missing", "virtualAddress is reached in one network: say which")
    at = fields["virtualAddress"]
    address = at.address()
    if address and address_of(address).version == 6 and address_of(address).is_link_local:
        at.note(f"{address} cannot be a virtual address", "choose one that is not link-local")
    if len(ports) > MOST_PORTS:
        fields["ports"].note(f"a service with a virtual address has at most {MOST_PORTS} ports", "join them to ranges")
    for index, port in enumerate(ports):
        if port.protocol not in _TRANSLATED:
            item = fields["ports"].items()[index]
            item.note(f"a virtual address has no {port.protocol}", "say TCP, UDP or SCTP")
    return address
