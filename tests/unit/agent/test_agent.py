"""The whole agent on in-memory drivers: what the hook is answered, and what the kernel then holds."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.doorman import Answer
from buckler.model.event import EventKind
from buckler.ports.telemetry import PairCount, ShieldEvent
from tests.poolkit import Pool, card, domain, program
from tests.privatehost import wait_until
from tests.unit.agent.world import World


def test_a_registered_vm_is_shielded_and_admitted_before_the_hook_answers(world: World):
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1"))
    world.plug_tap(11, "vnet1", Pool.mac(1))
    assert not world.is_open(11)
    assert world.hook("start", xml) == Answer(allowed=True)
    assert world.is_open(11)
    tap = world.shield.taps()[11]
    assert (tap.vm, tap.addresses) == (1, ("10.50.0.11", "fe80::5054:ff:fe00:1"))


def test_the_guard_closes_the_bridge_before_any_vm_is_here(world: World):
    state = world.guard.observe()
    assert (state.bridges, state.ports, state.members) == ({"br0"}, {(3, "br0")}, {"10.99.0.2"})


def test_a_rogue_starts_stays_closed_and_is_reported(world: World):
    xml = domain(77, None, card("52:54:00:00:00:77", "vnet77"))
    world.plug_tap(87, "vnet77", "52:54:00:00:00:77")
    assert world.hook("start", xml).allowed
    world.hypervisor.start(xml)
    world.settle()
    assert not world.is_open(87)
    assert world.links.links()[87].learning is False
    assert EventKind.DOMAIN_ROGUE in world.kinds()


def test_a_twin_is_refused_with_the_reason(world: World):
    answer = world.start(2, passport=world.pool.passport(1))
    assert not answer.allowed
    assert "passport was issued to" in answer.reason
    assert world.shield.taps() == {}


def test_when_the_tap_is_not_there_the_start_is_refused(world: World):
    answer = world.hook("start", domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1")))
    assert not answer.allowed
    assert "shield" in answer.reason


def test_a_reused_name_with_another_vms_mac_stays_closed(world: World):
    world.start(1)
    world.memory.remove(11)
    world.plug_tap(30, "vnet1", Pool.mac(2))
    world.settle()
    assert not world.is_open(30)
    assert 11 not in world.shield.taps()


@pytest.mark.parametrize("operation", ["reconnect", "started", "stopped", "release", "attach", "nonsense"])
def test_what_must_not_refuse_does_not(world: World, operation: str):
    assert world.hook(operation, "this is no XML").allowed


@pytest.mark.parametrize("operation", ["prepare", "start", "restore", "migrate"])
def test_xml_that_cannot_be_read_is_refused_and_told(world: World, operation: str):
    assert world.hook(operation, "no XML") == Answer(False, world.events(EventKind.GATE_REFUSED)[-1]["reasons"][0])


def test_a_stopped_vm_leaves_nothing_behind(world: World):
    empty = world.memory.read()
    world.start(1)
    assert world.memory.read() != empty
    world.hypervisor.stop(Pool.uuid(1))
    world.hook("stopped", domain(1, None))
    world.memory.remove(11)
    world.settle()
    assert world.memory.read() == empty


def test_a_late_stop_of_the_source_takes_nothing_from_the_vm_that_came_back(world: World):
    world.start(1)
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet9"))
    world.plug_tap(19, "vnet9", Pool.mac(1))
    assert world.hook("start", xml).allowed
    world.memory.remove(11)
    world.hypervisor.start(xml)
    world.settle()
    assert world.is_open(19)
    assert world.memory.book.macs()


def test_a_foreign_card_is_unplugged_and_the_vms_own_stays_open(world: World):
    world.start(1)
    world.settle()
    world.plug_tap(40, "vnet40", "52:54:00:00:00:40")
    world.hypervisor.plug_interface(Pool.uuid(1), card("52:54:00:00:00:40", "vnet40"))
    wait_until(lambda: EventKind.INTERFACE_DETACHED in world.kinds(), 1)
    assert world.events(EventKind.INTERFACE_DETACHED)[0]["exposure_seconds"] < 1
    assert not world.is_open(40)
    assert world.is_open(11)


def test_a_registered_card_plugged_in_is_admitted(world: World):
    second = world.pool.endpoint(1, program(80), mac="52:54:00:00:00:99", address="10.50.0.99")
    world.pool.endpoints += (second,)
    world.agent.stop()
    world.pool.join(world.state)
    world.agent = world.boot()
    world.start(1)
    world.plug_tap(41, "vnet41", second.mac)
    world.hypervisor.plug_interface(Pool.uuid(1), card(second.mac, "vnet41"))
    wait_until(lambda: world.is_open(41), 1)


def test_adoption_writes_the_passport_and_opens_the_tap(world: World):
    assert world.start(1, passport=None).allowed
    assert not world.is_open(11)
    belief = world.agent.steward.belief
    adopting = msgspec.structs.replace(belief.manifest, adoptions={world.pool.endpoints[0].vm: world.pool.passport(1)})
    world.agent._believed(msgspec.structs.replace(belief, manifest=adopting))
    wait_until(lambda: world.is_open(11), 2)


def test_a_changed_program_is_swapped_rejudged_and_the_old_one_freed(world: World):
    world.start(1)
    old, generation = world.shield.taps()[11].program, world.shield.rejudged
    world.pool.set_programs(program(80, 443), program(80))
    world.agent.stop()
    world.pool.join(world.state)
    world.agent = world.boot()
    wait_until(lambda: world.shield.taps()[11].program != old, 2)
    assert world.shield.rejudged > generation
    assert old not in world.shield.programs() or old == world.shield.taps()[11].program
    assert world.is_open(11)


def test_a_manifest_on_disk_that_was_tampered_with_opens_nothing(world: World):
    world.agent.stop()
    statement = world.state.document("manifest")
    world.state.put_document("manifest", statement[:-8] + "AAAAAAAA")
    world.agent = world.boot()
    assert world.start(1).allowed
    assert not world.is_open(11)


def test_an_issuing_key_retired_since_does_not_close_what_it_signed(world: World):
    world.start(1)
    world.agent.stop()
    world.state.put_document("manifest-issuers", world.state.document("issuers"))
    world.pool.issuer = Ed25519PrivateKey.generate()
    world.state.put_document("issuers", world.pool.issuers())
    world.agent = world.boot()
    assert world.agent.steward.belief.revision == 1


def test_what_a_shield_counted_is_told_by_name_and_freed_when_its_vm_is_gone(world: World):
    world.telemetry.counted.append(PairCount(1, 2, 0x2000_0002, 1, 0, True, 3, 180))
    assert world.start(1).allowed
    world.agent._counting.read()
    (counter,) = world.agent._outbox.counters(10)
    assert (counter.local, counter.peer, counter.rule, counter.packets) == ("vm-1", "vm-2", "http", 3)
    assert world.telemetry.counted
    world.hypervisor.stop(Pool.uuid(1))
    world.hook("release", domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1")))
    world.agent._counting.read()
    wait_until(lambda: not world.telemetry.counted, 3)
    assert [tally.counter.packets for tally in world.state.tallies().values()] == [3]


def test_what_a_shield_saw_is_told_by_name(world: World):
    source, destination = (b"\x00" * 10 + b"\xff\xff" + bytes((10, 50, 0, last)) for last in (11, 12))
    world.telemetry.seen.append(
        ShieldEvent(0, 11, 1, 2, 0x2000_0002, 1, 0, 60, source, destination, 1024, 80, 0x0800, 6, 0, True, 2)
    )
    wait_until(lambda: world.agent._outbox.flows(1), 3)
    flow = world.agent._outbox.flows(1).flows[0]
    assert (flow.local, flow.peer, flow.direction, flow.verdict) == ("vm-1", "vm-2", "egress", "allow")
    assert (flow.source, flow.destination, flow.protocol, flow.rule) == ("10.50.0.11", "10.50.0.12", "tcp", "http")
