"""What ``policy reach`` lists is what the reference evaluator says, for VMs and for addresses of the world."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.policy.draft import draft_pool
from buckler.policy.matrix import Connection, Place, Talk, list_talks, write_connections
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from buckler.policy.space import outside_ranges, write_ranges
from tests.randompolicy import ENDPOINTS, OUTSIDE, Drawn, number_for, pick, world

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = {6: "TCP", 17: "UDP", 132: "SCTP", 1: "ICMP", 58: "ICMPv6", 47: "other"}


def is_place(place: Place, title: str, address: str) -> bool:
    if place.title:
        return place.title == title
    return not title and any(ipaddress.ip_address(address) in ipaddress.ip_network(each) for each in place.blocks)


def includes(connections: str | tuple[Connection, ...], protocol: int, number: int) -> bool:
    if isinstance(connections, str):
        assert connections == "all"
        return True
    return any(holds(each, protocol, number) for each in connections if each.protocol == NAMES[protocol])


def holds(each: Connection, protocol: int, number: int) -> bool:
    if protocol not in {1, 58}:
        return any(low <= number <= high for low, high in each.ports)
    typed = any(low <= number >> 8 <= high for low, high in each.types)
    return typed and (not each.codes or any(low <= number & 255 <= high for low, high in each.codes))


@pytest.mark.proof
@QUICK
@given(st.data())
def test_the_list_is_what_the_reference_says(data):
    choose = Drawn(data.draw)
    documents = world(choose)
    draft = draft_pool(documents)
    talks = list_talks(draft)
    assert len({(each.origin, each.to) for each in talks}) == len(talks)
    shielded = {address: f"{vm.tenant}/{vm.name}" for vm in draft.pool.vms for address in vm.interfaces[0].addresses}
    things = {address: f"{each.tenant}/{each.name}" for each in draft.pool.outsiders for address in each.addresses}
    titles = shielded | things
    for _ in range(12):
        version = choose.number(0, 1)
        family = [each for each in (*titles, *OUTSIDE, *ENDPOINTS) if (":" in each) == bool(version)]
        source, destination = pick(choose, family), pick(choose, family)
        if source == destination or not (source in shielded or destination in shielded):
            continue
        protocol = pick(choose, tuple(NAMES))
        number = number_for(choose, protocol)
        found = [each for each in talks if meets(each, titles, source, destination)]
        assert len(found) <= 1
        listed = bool(found) and includes(found[0].connections, protocol, number)
        assert (
            listed == judge(draft.pool, draft.documents, Packet("net", source, destination, protocol, number)).allowed
        )


def meets(talk: Talk, titles: dict[str, str], source: str, destination: str) -> bool:
    return is_place(talk.origin, titles.get(source, ""), source) and is_place(
        talk.to, titles.get(destination, ""), destination
    )


@QUICK
@given(
    st.lists(
        st.sampled_from(("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/0", "192.0.2.0/25", "::/0", "fd00::/8"))
    )
)
def test_every_address_of_the_world_is_of_exactly_one_class(prefixes):
    named = {prefix: 100 + place for place, prefix in enumerate(sorted(set(prefixes)))}
    blocks = {number: write_ranges(ranges) for number, ranges in outside_ranges(named).items()}
    for text in (
        "10.1.2.3",
        "10.1.9.1",
        "10.9.9.9",
        "192.0.2.1",
        "192.0.2.200",
        "255.255.255.255",
        "fd01::1",
        "2001::1",
    ):
        address = ipaddress.ip_address(text)
        within = [
            number for number, each in blocks.items() if any(address in ipaddress.ip_network(one) for one in each)
        ]
        covering = [prefix for prefix in named if address in ipaddress.ip_network(prefix)]
        longest = max(covering, key=lambda each: ipaddress.ip_network(each).prefixlen, default=None)
        assert within == [named[longest] if longest else 2]


def test_icmp_is_told_by_type_and_by_code_where_not_all_codes_may_be_sent():
    from buckler.model.operatorapi.answers import PortRange

    allowed = (PortRange("ICMP", 8 << 8, 9 << 8 | 255), PortRange("ICMP", 3 << 8 | 4, 3 << 8 | 4))
    assert write_connections(allowed) == (
        Connection("ICMP", types=((8, 9),)),
        Connection("ICMP", types=((3, 3),), codes=((4, 4),)),
    )
