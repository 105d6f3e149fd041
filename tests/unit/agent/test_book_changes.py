"""A book that is kept change by change says what one that is made anew says, whatever was changed on the way."""

from __future__ import annotations

import random

import msgspec
import pytest

from buckler.agent.book import Book
from buckler.model.bundle import CidrIdentity, Endpoint, Segment
from buckler.model.ids import Digest, IdentityNumber, VmId, VmNumber
from buckler.model.shield import AddressKey
from tests.poolkit import Pool

SEGMENT = msgspec.structs.replace(
    Pool(vms=1).segment(),
    endpoints=(),
    identities={},
    gateway=("10.50.0.1",),
    routers=("10.50.0.254",),
    dhcp_servers=("10.50.0.1", "10.50.0.3"),
    cidr_identities=(CidrIdentity("10.50.0.0/28", IdentityNumber(7)), CidrIdentity("10.50.0.4/32", IdentityNumber(8))),
)
ADDRESSES = [f"10.50.0.{number}" for number in range(1, 12)] + ["fd00::1", "fd00::2", "FD00::2", "fd00::3"]


def _endpoint(chance: random.Random, number: int) -> Endpoint:
    return Endpoint(
        vm=VmId(f"vm-{number}"),
        number=VmNumber(chance.choice((number, number + 100))),
        name=f"vm-{number}",
        tenant="shop",
        uuid=f"uuid-{number}",
        mac=f"52:54:00:00:00:{chance.choice((number, number, number % 3)):02x}",
        addresses=tuple(chance.sample(ADDRESSES, chance.randrange(3))),
        identity=IdentityNumber(chance.randrange(20, 24)),
        program=Digest("sha256:0"),
    )


def _changed(chance: random.Random, segment: Segment) -> Segment:
    """Endpoints may share a MAC or an address, and addresses may lag behind or belong to nobody: no input is too odd."""
    what = chance.randrange(8)
    endpoints = list(segment.endpoints)
    identities = dict(segment.identities)
    if what <= 2:
        endpoints.insert(chance.randrange(len(endpoints) + 1), _endpoint(chance, chance.randrange(1, 9)))
    elif what == 3 and endpoints:
        endpoints.pop(chance.randrange(len(endpoints)))
    elif what == 4 and endpoints:
        place = chance.randrange(len(endpoints))
        endpoints[place] = msgspec.structs.replace(endpoints[place], identity=IdentityNumber(chance.randrange(20, 24)))
    elif what == 5:
        identities[chance.choice(ADDRESSES)] = IdentityNumber(chance.randrange(20, 24))
    elif what == 6 and identities:
        del identities[chance.choice(sorted(identities))]
    elif what == 7 and chance.random() < 0.3:
        return msgspec.structs.replace(segment, routers=tuple(chance.sample(ADDRESSES, 2)))
    return msgspec.structs.replace(segment, endpoints=tuple(endpoints), identities=identities)


@pytest.mark.parametrize("seed", range(40))
def test_a_book_kept_over_many_changes_equals_one_made_anew(seed: int):
    chance = random.Random(seed)
    kept, segment = Book(), SEGMENT
    for _ in range(60):
        segment = _changed(chance, segment)
        assert kept.resolve((segment,), (), ("192.0.2.1",)) == Book().resolve((segment,), (), ("192.0.2.1",))


def test_what_a_book_gave_does_not_change_with_what_it_is_asked_next():
    chance, book = random.Random(1), Book()
    first = msgspec.structs.replace(SEGMENT, endpoints=tuple(_endpoint(chance, number) for number in range(3)))
    addresses, macs = book.resolve((first,), (), ())
    before = dict(addresses), dict(macs)
    book.resolve((SEGMENT,), (), ())
    assert (addresses, macs) == before


def test_a_network_that_is_gone_leaves_nothing():
    chance, book = random.Random(1), Book()
    first = msgspec.structs.replace(SEGMENT, endpoints=tuple(_endpoint(chance, number) for number in range(3)))
    other = msgspec.structs.replace(first, network="other", zone=SEGMENT.zone + 1)
    book.resolve((first, other), (), ())
    assert book.resolve((first,), (), ()) == Book().resolve((first,), (), ())
    assert not any(isinstance(key, AddressKey) for key in book.resolve((), (), ())[0])
