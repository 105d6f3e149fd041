"""DHCP messages and claims: what a hostile server or guest writes gives no address, no exception and no flood."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.agent.claims import MAX_PER_VM, PendingClaims, read_claims
from buckler.agent.lease import Lease, read_dhcp, read_dhcpv6
from buckler.agent.names import Names
from buckler.model.agentapi import AddressClaim, AddressSource, ClaimOutcome
from buckler.model.ids import Digest, IdentityNumber, VmId, VmNumber, Zone
from buckler.model.shield import Tap
from buckler.ports.claims import ClaimSource, SeenClaim
from tests.component import dhcp
from tests.poolkit import Pool

MAC, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
SERVER = "10.9.0.99"


def test_an_ack_leases() -> None:
    assert read_dhcp(dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER), MAC) == Lease("10.9.0.50", 3600)
    assert read_dhcp(dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, 0xFFFFFFFF), MAC) == Lease("10.9.0.50", 0)
    padded = dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, more=b"\0" * 700)
    assert read_dhcp(padded[:1024], MAC) == Lease("10.9.0.50", 3600)


@pytest.mark.parametrize("message", [
    dhcp.answer(dhcp.OFFER, MAC, "10.9.0.50", SERVER),
    dhcp.answer(dhcp.NAK, MAC, "10.9.0.50", SERVER),
    dhcp.answer(dhcp.ACK, OTHER, "10.9.0.50", SERVER),
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, None),
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, 0),
    dhcp.answer(dhcp.ACK, MAC, "0.0.0.0", SERVER),
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, op=1),
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, more=dhcp.option(52, b"\1")),
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER)[:239],
    dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER)[:245],
    b"",
])  # fmt: skip
def test_all_else_leases_nothing(message: bytes) -> None:
    assert read_dhcp(message, MAC) is None


def test_the_first_of_two_equal_options_counts() -> None:
    message = dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER, 60, more=dhcp.option(51, struct.pack(">I", 0xFFFFFFFF)))
    assert read_dhcp(message, MAC) == Lease("10.9.0.50", 60)


def test_a_reply_leases_its_addresses() -> None:
    assert read_dhcpv6(dhcp.reply6(("fd00::5", 600), ("fd00::6", 0))) == (Lease("fd00::5", 600),)
    many = dhcp.reply6(*((f"fd00::{number:x}", 60) for number in range(1, 100)))
    assert len(read_dhcpv6(many)) == 8


def test_a_failed_reply_leases_nothing() -> None:
    failed = dhcp.option6(13, b"\0\2no")
    assert read_dhcpv6(dhcp.reply6(("fd00::5", 600), more=failed)) == ()
    assert read_dhcpv6(dhcp.reply6(("fd00::5", 600), kind=2)) == ()
    inner = dhcp.option6(5, bytes(15) + b"\5" + struct.pack(">II", 60, 60) + failed)
    assert read_dhcpv6(bytes((7, 1, 2, 3)) + dhcp.option6(3, bytes(12) + inner)) == ()


@given(st.binary(max_size=1024))
def test_any_bytes_are_read_without_harm(raw: bytes) -> None:
    read_dhcp(raw, MAC)
    read_dhcpv6(b"\7" + raw)
    message = dhcp.answer(dhcp.ACK, MAC, "10.9.0.50", SERVER)[:240] + raw
    lease = read_dhcp(message, MAC)
    assert lease is None or lease.address == "10.9.0.50"


@given(st.data())
def test_a_damaged_message_is_read_without_harm(data: st.DataObject) -> None:
    whole = bytearray(dhcp.reply6(("fd00::5", 600), ("fd00::6", 60)))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert len(read_dhcpv6(bytes(whole[: data.draw(st.integers(0, len(whole)))]))) <= 8


def tap(number: int) -> Tap:
    program = Digest("none")
    return Tap(10 + number, VmNumber(number), Pool.mac(number), Zone(1), 0, IdentityNumber(1), (), program)


def named() -> Names:
    pool = Pool(vms=2)
    return Names(by_uuid={}, by_number={one.number: one for one in pool.endpoints}, rules={})


def seen(number: int, ifindex: int, message: bytes = b"", address: bytes = bytes(16)) -> SeenClaim:
    source = ClaimSource.DHCP if message else ClaimSource.DETECTED
    return SeenClaim(2 * 10**9, ifindex, number, source, address, bytes(10) + b"\xff\xff\x0a\x09\x00\x63", message)


def test_claims_are_named_by_their_tap() -> None:
    ack = dhcp.answer(dhcp.ACK, Pool.mac(1), "10.9.0.50", SERVER)
    probe = bytes(10) + b"\xff\xff\x0a\x09\x00\x33"
    claims = read_claims([seen(1, 11, ack), seen(2, 12, address=probe)], {11: tap(1), 12: tap(2)}, named(), 100.0)
    one, two = named().by_number[1].vm, named().by_number[2].vm
    assert claims == [
        AddressClaim(one, Pool.mac(1), "10.9.0.50", AddressSource.DHCP, 102.0, 3600, SERVER),
        AddressClaim(two, Pool.mac(2), "10.9.0.51", AddressSource.DETECTED, 102.0),
    ]


def test_a_claim_of_another_tap_or_nobody_is_none() -> None:
    ack = dhcp.answer(dhcp.ACK, Pool.mac(1), "10.9.0.50", SERVER)
    taps = {11: tap(1), 12: tap(2)}
    assert read_claims([seen(1, 12, ack), seen(2, 12, ack), seen(1, 99, ack), seen(7, 11, ack)], taps, named(), 0) == []


def claim(number: int, address: str = "10.9.0.50", at: float = 1.0) -> AddressClaim:
    return AddressClaim(VmId(f"vm-{number}"), Pool.mac(number), address, AddressSource.DETECTED, at)


def test_a_claim_waits_until_it_is_settled() -> None:
    pending = PendingClaims()
    first, second = claim(1), claim(2)
    pending.put([first, second])
    waiting, shed = pending.oldest(10)
    pending.settle(waiting, (ClaimOutcome.LATER, ClaimOutcome.GRANTED), shed)
    assert pending.oldest(10) == ((first,), 0)
    pending.keep(frozenset({"vm-2"}))
    assert pending.oldest(10) == ((), 0)


def test_a_claim_that_was_renewed_meanwhile_is_asked_again() -> None:
    pending = PendingClaims()
    pending.put([claim(1)])
    asked, shed = pending.oldest(10)
    pending.put([claim(1, at=2.0)])
    pending.settle(asked, (ClaimOutcome.GRANTED,), shed)
    assert pending.oldest(10) == ((claim(1, at=2.0),), 0)


def test_one_vm_cannot_crowd_out_another() -> None:
    pending = PendingClaims()
    pending.put([claim(1, f"10.9.1.{number}") for number in range(200)], shed=3)
    pending.put([claim(2)])
    waiting, shed = pending.oldest(10_000)
    assert len(waiting) == MAX_PER_VM + 1
    assert waiting[-1] == claim(2)
    assert shed == 3 + 200 - MAX_PER_VM
