"""Who owns an address: segments and members in, the whole book out."""

from __future__ import annotations

import msgspec

from buckler.agent.book import reachable_addresses, resolve_addresses, resolve_macs
from buckler.model.bundle import CidrIdentity, Member
from buckler.model.ids import (
    IDENTITY_HOST,
    IDENTITY_INFRA,
    IDENTITY_WORLD,
    HostId,
    IdentityNumber,
    VmNumber,
    Zone,
)
from buckler.model.shield import Address, AddressFlag, AddressKey, MacKey
from buckler.policy.pool import link_local_address
from tests.poolkit import Pool

SEGMENT = msgspec.structs.replace(
    Pool(vms=1).segment(),
    gateway=("10.50.0.1",),
    routers=("10.50.0.1", "10.50.0.254"),
    dhcp_servers=("10.50.0.1",),
    cidr_identities=(
        CidrIdentity("10.0.0.0/8", IdentityNumber(0x1000_0001)),
        CidrIdentity("10.50.0.128/25", IdentityNumber(0x1000_0002)),
    ),
)
WEB = IdentityNumber(0x2000_0001)


def look(prefix: str, zone: int = 1, segment=SEGMENT, members=(), own=()) -> Address | None:
    return resolve_addresses((segment,), members, own).get(AddressKey(Zone(zone), prefix))


def test_a_vm_owns_its_addresses_and_the_implied_one():
    assert look("10.50.0.11/32") == Address(WEB, VmNumber(1))
    assert look(f"{link_local_address(Pool.mac(1))}/128") == Address(WEB, VmNumber(1))
    assert link_local_address("52:54:00:00:00:01") == "fe80::5054:ff:fe00:1"


def test_no_address_is_implied_that_the_segment_does_not_name():
    bare = [msgspec.structs.replace(each, addresses=each.addresses[:1]) for each in SEGMENT.endpoints]
    silent = msgspec.structs.replace(SEGMENT, endpoints=tuple(bare), identities={"10.50.0.11": WEB})
    assert look("10.50.0.11/32", segment=silent) == Address(WEB, VmNumber(1))
    assert look(f"{link_local_address(Pool.mac(1))}/128", segment=silent) is None


def test_an_address_whose_identity_lags_behind_is_looked_up_as_the_old_one_and_so_is_the_implied_one():
    old = IdentityNumber(0x2000_0009)
    lagging = msgspec.structs.replace(SEGMENT, identities={"10.50.0.11": old})
    assert look("10.50.0.11/32", segment=lagging) == Address(old, VmNumber(1))
    assert look(f"{link_local_address(Pool.mac(1))}/128", segment=lagging) == Address(old, VmNumber(1))


def test_a_served_gateway_is_the_host_and_an_outside_router_is_the_longest_cidr():
    both = AddressFlag.DHCP_SERVER | AddressFlag.ROUTER
    assert look("10.50.0.1/32") == Address(IDENTITY_HOST, VmNumber(0), both)
    assert look("10.50.0.254/32") == Address(IdentityNumber(0x1000_0002), VmNumber(0), AddressFlag.ROUTER)
    outside = msgspec.structs.replace(SEGMENT, cidr_identities=())
    assert look("10.50.0.254/32", segment=outside) == Address(IDENTITY_WORLD, VmNumber(0), AddressFlag.ROUTER)


def test_addresses_of_hosts_are_nobodys_peer_but_a_served_gateway():
    members = (Member(HostId("h"), "hv2", "", "10.99.0.2", ("192.0.2.2",)),)
    own = ("10.99.0.1", "10.50.0.1", "::1", "fe80::1")
    for prefix in ("10.99.0.1/32", "10.99.0.2/32", "192.0.2.2/32", "::1/128", "fe80::1/128"):
        assert look(prefix, 0, members=members, own=own) == Address(IDENTITY_INFRA)
    assert look("10.50.0.1/32", 0, members=members, own=own) is None


def test_every_registered_mac_is_known_in_its_zone():
    assert resolve_macs((SEGMENT,)) == {MacKey(Zone(1), Pool.mac(1)): VmNumber(1)}


def test_addresses_that_others_can_reach_leave_out_loopback_and_link_local():
    assert reachable_addresses(("fe80::1", "::1", "127.0.0.1", "192.0.2.9", "10.0.0.1", "2001:db8::1")) == (
        "10.0.0.1",
        "192.0.2.9",
        "2001:db8::1",
    )
