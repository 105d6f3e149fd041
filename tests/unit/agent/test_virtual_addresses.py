"""What a belief says of virtual addresses: what the kernel is to hold, the steps to it, and the words for what went through one."""

from __future__ import annotations

import msgspec
import pytest

from buckler.agent.belief import Belief
from buckler.agent.desired import Observed, Resident, Roles
from buckler.agent.flows import record_of
from buckler.agent.names import names_of
from buckler.agent.plan import DeleteServices, PutServices, plan
from buckler.agent.resolve import resolve
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Manifest, ServiceMember, ServicePort, Stage, VirtualService
from buckler.model.ids import Digest, Revision, Zone
from buckler.model.shield import Service, ServiceKey
from buckler.ports.links import Link
from buckler.ports.telemetry import ShieldEvent
from buckler.trust.statement import key_id
from tests.poolkit import HOST, POOL, Pool, card, domain

PORTS = (ServicePort(6, 80, 80),)
ONE, TWO = ServiceMember("10.50.0.11", Pool.mac(1)), ServiceMember("10.50.0.12", Pool.mac(2))
SIX = ServiceMember("fd00::11", Pool.mac(1))
SHOP = VirtualService(4, "shop", "default", "10.50.0.250", PORTS, (ONE, TWO))


def believed(*services: VirtualService) -> Belief:
    pool = Pool(vms=2)
    pool.services = services
    keys = {key_id(pool.issuer.public_key()): pool.issuer.public_key()}
    return Belief(pool=POOL, host=HOST, keys=keys, segments=(pool.segment(),), programs=pool.programs)


def test_the_kernel_is_to_hold_what_the_network_has() -> None:
    desired = resolve(believed(SHOP), Roles(), (), {}, ())
    assert desired.services == {ServiceKey(Zone(1), "10.50.0.250"): Service(4, PORTS, (ONE, TWO))}
    mixed = msgspec.structs.replace(SHOP, address="FD00::00FA", members=(ONE, SIX))
    assert resolve(believed(mixed), Roles(), (), {}, ()).services == {
        ServiceKey(Zone(1), "fd00::fa"): Service(4, PORTS, (SIX,))
    }


@pytest.mark.parametrize("services", [(), (SHOP,)])
def test_only_taps_of_a_network_with_virtual_addresses_look_for_them(services: tuple[VirtualService, ...]) -> None:
    pool = Pool(vms=1)
    pool.services = services
    keys = {key_id(pool.issuer.public_key()): pool.issuer.public_key()}
    nothing = Digest("")
    manifest = Manifest(POOL, HOST, "hv1", Revision(1), Stage.STEADY, 0.0, nothing, nothing)
    belief = Belief(POOL, HOST, keys, manifest, (pool.segment(),), pool.programs)
    facts = parse_domain(domain(1, pool.passport(1), card(Pool.mac(1), "vnet1")))
    link = Link(ifindex=7, name="vnet1", kind="tun", mac="fe" + Pool.mac(1)[2:], bridge="br0", up=True)
    desired = resolve(belief, Roles(), (Resident(facts),), {7: link}, ())
    assert [tap.services for tap in desired.taps.values()] == [bool(services)]


def test_a_change_of_members_is_one_step_and_judges_nothing_again() -> None:
    before, after = (
        resolve(believed(msgspec.structs.replace(SHOP, members=members)), Roles(), (), {}, ())
        for members in ((ONE, TWO), (TWO,))
    )
    observed = Observed(services=before.services, guard=before.guard, addresses=before.addresses, macs=before.macs)
    assert plan(observed, before) == ()
    assert plan(observed, after) == (PutServices(dict(after.services)),)
    gone = resolve(believed(), Roles(), (), {}, ())
    assert plan(observed, gone) == (DeleteServices(frozenset(before.services)),)


def test_what_went_through_a_service_is_told_by_its_name() -> None:
    source, destination = (b"\x00" * 10 + b"\xff\xff" + bytes((10, 50, 0, last)) for last in (11, 12))
    event = ShieldEvent(0, 11, 1, 2, 0x2000_0002, 1, 0, 60, source, destination, 1024, 80, 0x0800, 6, 0, True, 2)
    names = names_of(believed(SHOP))
    told = [
        record_of(msgspec.structs.replace(event, service=number), names, {}, "hv1", 0.0).service for number in (0, 4, 5)
    ]
    assert told == ["", "shop", "service-5"]
