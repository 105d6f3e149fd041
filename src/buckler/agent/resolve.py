"""Belief + what is here → what the kernel is to hold. Pure; reads and changes nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from buckler.agent.belief import Belief
from buckler.agent.book import Book, endpoint_addresses
from buckler.agent.desired import Desired, Resident, Roles
from buckler.gate.decide import decide
from buckler.gate.decision import Decision, InterfacePlan, Operation
from buckler.model.bundle import MOST_MEMBERS, MOST_PORTS, Segment, ServiceMember, VirtualService
from buckler.model.ids import Zone
from buckler.model.shield import MOST_CONNECTIONS, BridgePort, GuardState, PortRole, Service, ServiceKey, Tap
from buckler.ports.links import Link


def resolve(
    belief: Belief,
    roles: Roles,
    residents: Iterable[Resident],
    links: Mapping[int, Link],
    host_addresses: Iterable[str],
    book: Book | None = None,
) -> Desired:
    """Compute it from the whole input alone; ``book`` spares going through what it saw the last time."""
    residents = tuple(residents)
    view = belief.view()
    standing = {one.facts.uuid: decide(Operation.PLUG, one.facts, view) for one in residents}
    services = _services(belief.segments)
    taps, devices, problems = _taps(residents, standing, links, frozenset(key.zone for key in services))
    bridge_ports, port_problems = _bridge_ports(belief.segments, roles, links)
    bridges = roles.bridges | {segment.bridge for segment in belief.segments}
    bridges |= {card.bridge for one in residents for card in one.facts.interfaces if card.bridge}
    open_ports = {(index, links[index].bridge) for index in (*taps, *bridge_ports)}
    addresses, macs = (book or Book()).resolve(belief.segments, belief.members, host_addresses)
    return Desired(
        taps=taps,
        addresses=addresses,
        macs=macs,
        services=services,
        bridge_ports=bridge_ports,
        guard=GuardState(
            bridges=frozenset(bridges),
            ports=frozenset(open_ports),
            gateways=frozenset(segment.bridge for segment in belief.segments if segment.gateway),
            fabric=roles.fabric,
            members=frozenset(member.fabric for member in belief.members if member.fabric and member.id != belief.host),
        ),
        learning={
            link.ifindex: link.ifindex in taps
            for link in links.values()
            if link.kind == "tun" and link.bridge in bridges
        },
        standing=standing,
        devices=devices,
        problems=(*problems, *port_problems),
    )


def _services(segments: Iterable[Segment]) -> dict[ServiceKey, Service]:
    """What every virtual address stands for, as the kernel holds it and with no more than it holds."""
    return {
        ServiceKey(segment.zone, str(ipaddress.ip_address(each.address))): Service(
            each.number, each.ports[:MOST_PORTS], _members(each)
        )
        for segment in segments
        for each in segment.services
    }


def _members(service: VirtualService) -> tuple[ServiceMember, ...]:
    """Only those of the address's own family: no shield makes one of the other."""
    version = ipaddress.ip_address(service.address).version
    parsed = ((ipaddress.ip_address(member.address), member.mac.lower()) for member in service.members)
    alike = [ServiceMember(str(address), mac) for address, mac in parsed if address.version == version]
    return tuple(alike[:MOST_MEMBERS])


def _taps(
    residents: tuple[Resident, ...],
    standing: Mapping[str, Decision],
    links: Mapping[int, Link],
    served: frozenset[Zone],
) -> tuple[dict[int, Tap], dict[int, str], list[str]]:
    """Find the tap of every interface that may open. A name that two domains claim opens for neither."""
    by_name = {link.name: link for link in links.values()}
    taps: dict[int, Tap] = {}
    devices: dict[int, str] = {}
    problems: list[str] = []
    for device, plan in _claims(residents, standing, problems).items():
        link = by_name.get(device)
        if plan.endpoint is None or link is None:
            continue
        why = _why_no_tap(plan, link)
        if why:
            problems.append(f"{device} stays closed: {why}")
            continue
        taps[link.ifindex] = Tap(
            ifindex=link.ifindex,
            vm=plan.endpoint.number,
            mac=plan.endpoint.mac.lower(),
            zone=plan.zone,
            vlan=plan.vlan,
            identity=plan.endpoint.identity,
            addresses=endpoint_addresses(plan.endpoint),
            program=plan.endpoint.program,
            mode=plan.endpoint.mode,
            connections=plan.endpoint.connections or MOST_CONNECTIONS,
            services=plan.zone in served,
        )
        devices[link.ifindex] = device
    return taps, devices, problems


def _claims(
    residents: tuple[Resident, ...], standing: Mapping[str, Decision], problems: list[str]
) -> dict[str, InterfacePlan]:
    claims: dict[str, InterfacePlan] = {}
    disputed: set[str] = set()
    for one in sorted(residents, key=lambda resident: not resident.is_fresh):
        for plan in standing[one.facts.uuid].interfaces:
            if not plan.device:
                continue
            # What the hook told last is newer than any list of libvirt's: an old owner of the name is gone.
            if plan.device in claims and not any(_is_fresh_owner(other, plan.device) for other in residents):
                disputed.add(plan.device)
            claims.setdefault(plan.device, plan)
    for device in sorted(disputed):
        problems.append(f"{device} stays closed: two domains claim it")
        del claims[device]
    return claims


def _is_fresh_owner(resident: Resident, device: str) -> bool:
    return resident.is_fresh and any(card.device == device for card in resident.facts.interfaces)


def _why_no_tap(plan: InterfacePlan, link: Link) -> str:
    if link.kind != "tun":
        return f"it is a {link.kind or 'device'}, not a tap"
    if link.bridge != plan.bridge:
        return f"it is a port of {link.bridge or 'no bridge'}, not of {plan.bridge}"
    # libvirt gives a tap the MAC of its guest with another first byte: a name that was reused shows here.
    if link.mac.lower()[3:] != plan.mac[3:]:
        return f"its MAC {link.mac} is not made from {plan.mac}"
    return ""


def _bridge_ports(
    segments: tuple[Segment, ...], roles: Roles, links: Mapping[int, Link]
) -> tuple[dict[int, BridgePort], list[str]]:
    ports: dict[int, BridgePort] = {}
    problems: list[str] = []
    for link in links.values():
        role = _role(link.name, roles)
        if role is None or not link.bridge:
            continue
        on_it = sorted((one.vlan, one.zone, one.network) for one in segments if one.bridge == link.bridge)
        shared = sorted({vlan for vlan, _, _ in on_it if [other for other, _, _ in on_it].count(vlan) > 1})
        if not on_it:
            problems.append(f"{link.name} stays closed: no network of the pool is on {link.bridge}")
        elif shared:
            names = ", ".join(network for vlan, _, network in on_it if vlan in shared)
            problems.append(f"{link.name} stays closed: {names} share {link.bridge} and VLAN {shared[0]}")
        else:
            ports[link.ifindex] = _bridge_port(link.ifindex, role, {vlan: zone for vlan, zone, _ in on_it})
    return ports, problems


def _bridge_port(ifindex: int, role: PortRole, zones: Mapping[int, Zone]) -> BridgePort:
    """A bridge with tagged networks only: its untagged frames belong to no network, and no tap takes them."""
    tagged = tuple((vlan, zone) for vlan, zone in sorted(zones.items()) if vlan)
    return BridgePort(ifindex, role, zones.get(0, Zone(0)), tagged)


def _role(name: str, roles: Roles) -> PortRole | None:
    if name in roles.tunnel:
        return PortRole.TUNNEL
    return PortRole.OUTSIDE if name in roles.outside else None
