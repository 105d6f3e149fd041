"""Whom a packet to a virtual address may mean, and what is said of it to each of them. Chooses none: that is the client's shield's.

A virtual address has no meaning of its own: a packet to it is judged as one to the member that was chosen.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.bundle import MOST_MEMBERS, ServiceMember
from buckler.model.pool import ServiceAddress
from buckler.policy.judgement import Judgement
from buckler.policy.language import Document
from buckler.policy.packet import Packet
from buckler.policy.pool import Pool, Station, singled_out, stations
from buckler.policy.prefix import address_of
from buckler.policy.reference import judge
from buckler.policy.serving import in_order, list_members


class Choice(msgspec.Struct, frozen=True):
    """Who a shield may choose: the member, and whose interface it is."""

    member: ServiceMember
    station: Station


class Choices(msgspec.Struct, frozen=True):
    """All choices at a virtual address; ``left_out``: how many more serve than a shield can choose among."""

    service: ServiceAddress
    found: tuple[Choice, ...]
    left_out: int = 0

    def has_port(self, protocol: int, port: int) -> bool:
        """Say whether the service has a port."""
        return any(number == protocol and first <= port <= last for number, first, last in self.service.ports)


def find_services(pool: Pool, address: str) -> tuple[ServiceAddress, ...]:
    """Find every service that has a virtual address, each in its own network."""
    try:
        parsed = address_of(address)
    except ValueError:
        return ()
    tenants = {each.name: each.tenant for each in pool.networks}
    here = (each for each in pool.services if tenants.get(each.network) == each.tenant)
    return tuple(each for each in here if address_of(each.address) == parsed)


def list_choices(pool: Pool, documents: Iterable[Document], service: ServiceAddress) -> Choices:
    """Find whom a shield may choose."""
    here = [each for each in stations(pool, singled_out(documents)) if each.network.name == service.network]
    owners = {each.interface.mac: each for each in here}
    members = in_order(list_members(service, here).values())
    kept = tuple(Choice(each, owners[each.mac]) for each in members[:MOST_MEMBERS])
    return Choices(service, kept, max(len(members) - MOST_MEMBERS, 0))


def judge_virtual(pool: Pool, documents: Iterable[Document], packet: Packet) -> dict[ServiceMember, Judgement]:
    """Judge the first packet to a virtual address for each member that the sender's shield may choose; none: it is refused."""
    documents = tuple(documents)
    judged: dict[ServiceMember, Judgement] = {}
    for service in find_services(pool, packet.destination):
        choices = list_choices(pool, documents, service)
        if service.network != packet.network or not choices.has_port(packet.protocol, packet.port):
            continue
        for each in choices.found:
            sent = msgspec.structs.replace(packet, destination=each.member.address)
            said = judge(pool, documents, sent)
            if said.egress is not None and said.egress.station.interface.mac != each.member.mac:
                judged[each.member] = said
    return judged
