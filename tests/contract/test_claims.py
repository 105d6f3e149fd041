"""What every door to claims does: in memory and in the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from buckler.drivers.inmemory.claims import InMemoryClaims
from buckler.ports.claims import Claims, ClaimSource, SeenClaim
from tests import packets as p
from tests.component.ground import WEB, Host, Vm, add_bridge, open_tap, own_bpffs, own_network

ONE = Vm(1, WEB)


@dataclass(frozen=True)
class Door:
    claims: Claims
    probe: Callable[[int], None]
    """Make the VM probe for 10.9.0.N."""


@pytest.fixture(params=["inmemory", "kernel"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    if request.param == "inmemory":
        memory = InMemoryClaims()
        yield Door(memory, lambda number: memory.seen.append(seen(number)))
        return
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        wire, host = open_tap("tap1"), Host(pins)
        host.admit(wire.ifindex, ONE, host.put_program())
        yield Door(host.claims, lambda number: wire.send(probe(number)))
        host.close()
        wire.close()


def probe(number: int) -> bytes:
    nobody = (ONE.mac, "0.0.0.0")
    return p.ether(ONE.mac, p.BROADCAST, 0x0806, p.arp(1, nobody, ("00:00:00:00:00:00", f"10.9.0.{number}")))


def seen(number: int) -> SeenClaim:
    return SeenClaim(5, 3, ONE.number, ClaimSource.DETECTED, wire_address(number), bytes(16), b"")


def wire_address(number: int) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + p.address(f"10.9.0.{number}")


def test_claims_are_given_once_oldest_first_up_to_the_limit(door: Door) -> None:
    for number in (50, 51, 52):
        door.probe(number)
    first = door.claims.claims(2)
    rest = door.claims.claims(100)
    assert [claim.address for claim in (*first, *rest)] == [wire_address(number) for number in (50, 51, 52)]
    assert len(first) == 2
    assert door.claims.claims(100) == []
    assert all((claim.vm, claim.source, claim.message) == (1, ClaimSource.DETECTED, b"") for claim in first)
    assert (door.claims.shed().lost, door.claims.shed().suppressed) == (0, 0)
