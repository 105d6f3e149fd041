"""Where a VM lives: migrations, residences, copies, and a host that drains."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.belief import read_manifest
from buckler.agent.residing import read_residence
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Member, Residence
from buckler.model.canonical import canonical_bytes
from buckler.model.event import EventKind
from buckler.model.ids import HostId
from buckler.trust.statement import Kind, key_id, key_text, sign, verify
from tests.poolkit import HOST, Pool, card, domain
from tests.privatehost import wait_until
from tests.unit.agent.world import World


def test_a_migration_is_told_in_the_vms_life_and_makes_a_residence(world: World):
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1"))
    assert world.hook("migrate", xml).allowed
    world.plug_tap(11, "vnet1", Pool.mac(1))
    assert world.hook("start", xml).allowed
    assert world.is_open(11)
    world.hypervisor.start(xml, "migrated")
    world.hypervisor.tell(Pool.uuid(1), "resumed", "migrated")
    world.settle()
    kinds = [kind for kind in world.kinds() if kind.value.startswith("migration.")]
    assert kinds == [EventKind.MIGRATION_PREPARED, EventKind.MIGRATION_ARRIVED]
    assert [one.epoch for one in world.state.residences().values()] == [2]


def test_a_migration_that_fails_after_arriving_is_told_as_aborted(world: World):
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1"))
    world.plug_tap(11, "vnet1", Pool.mac(1))
    assert world.hook("start", xml).allowed
    world.hypervisor.start(xml, "migrated")
    world.hypervisor.stop(Pool.uuid(1), "failed")
    world.hook("release", xml)
    world.memory.remove(11)
    world.settle()
    assert EventKind.MIGRATION_ABORTED in world.kinds()
    assert world.shield.taps() == {}


def test_a_vm_that_comes_back_is_not_told_as_running_beside_its_earlier_stay(world: World):
    world.start(1)
    world.settle()
    world.hypervisor.stop(Pool.uuid(1))
    world.hook("stopped", domain(1, None))
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1"))
    assert world.hook("migrate", xml).allowed
    assert world.hook("start", xml).allowed
    (before,) = world.state.residences().values()
    world.hypervisor.start(xml, "migrated")  # libvirt calls it running; that it was resumed is not told yet
    world.settle()
    told = {one.uuid: one.state for one in world.agent._outbox.observation().domains}
    assert told[Pool.uuid(1)] == "paused"
    assert list(world.state.residences().values()) == [before]
    world.hypervisor.tell(Pool.uuid(1), "resumed", "migrated")
    wait_until(lambda: world.state.residences()[before.vm].epoch > before.epoch, 5)
    world.settle()
    told = {one.uuid: one.state for one in world.agent._outbox.observation().domains}
    assert told[Pool.uuid(1)] == "running"


def test_a_migration_that_never_arrives_leaves_the_earlier_stay_as_it_was(world: World):
    world.start(1)
    world.settle()
    world.hypervisor.stop(Pool.uuid(1))
    world.hook("stopped", domain(1, None))
    (before,) = world.state.residences().values()
    xml = domain(1, world.pool.passport(1), card(Pool.mac(1), "vnet1"))
    assert world.hook("migrate", xml).allowed
    assert world.hook("start", xml).allowed
    world.hook("stopped", xml)
    assert list(world.state.residences().values()) == [before]
    assert world.start(1).allowed  # a plain start after it is one again
    world.settle()
    told = {one.uuid: one.state for one in world.agent._outbox.observation().domains}
    assert told[Pool.uuid(1)] == "running"


def test_a_draining_host_takes_nobody_and_keeps_who_is_here(world: World):
    world.start(1)
    belief = world.agent.steward.belief
    draining = msgspec.structs.replace(belief.manifest, draining=True)
    world.agent._believed(msgspec.structs.replace(belief, manifest=draining))
    world.settle()
    assert not world.start(2).allowed
    assert world.is_open(11)


def test_a_residence_is_signed_written_beside_the_passport_and_reported(world: World):
    assert world.start(1).allowed
    wait_until(lambda: "residence" in world.hypervisor.domains()[0].xml, 3)
    world.settle()
    (reported,) = world.agent._outbox.observation().domains
    facts = parse_domain(world.hypervisor.domains()[0].xml)
    assert facts.residence == reported.residence
    key = Ed25519PrivateKey.from_private_bytes(world.state.host_key()).public_key()
    stay = msgspec.json.decode(verify(Kind.RESIDENCE, facts.residence, {key_id(key): key}), type=Residence)
    assert (stay.vm, stay.host, stay.epoch) == (world.pool.endpoints[0].vm, HOST, 1)


def test_only_a_migration_raises_the_epoch_above_what_a_vm_carries(world: World):
    other, vm = Ed25519PrivateKey.generate(), world.pool.endpoints[0].vm
    members = (Member(HostId("other"), "hv2", key_text(other.public_key()), "10.99.0.2", ()),)
    belief = msgspec.structs.replace(world.agent.steward.belief, members=members)
    for host, signer, epoch in (("other", other, 7), ("third", other, None), ("other", world.pool.issuer, None)):
        statement = sign(Kind.RESIDENCE, canonical_bytes(Residence(vm, HostId(host), 7, 1.0)), signer)
        carried = read_residence(statement, vm, belief)
        assert (None if carried is None else carried.epoch) == epoch
    carried = Residence(vm, HostId("other"), 7, 1.0)
    for _ in range(2):
        world.agent._residing.begin(vm, carried, 2.0)
        assert world.state.residences()[vm].epoch == 7
    world.agent._residing.arrive(vm, carried, 3.0)
    assert world.state.residences()[vm].epoch == 8


def test_a_copy_that_the_controller_found_to_be_a_twin_is_closed_reported_and_not_started_again(world: World):
    assert world.start(1).allowed
    assert world.is_open(11)
    statement = world.pool.manifest(twins=(Pool.uuid(1),))
    belief = world.agent.steward.belief
    manifest = msgspec.structs.replace(read_manifest(statement, belief), revision=99)
    world.agent._believed(msgspec.structs.replace(belief, manifest=manifest))
    wait_until(lambda: not world.is_open(11), 3)
    world.settle()
    rogues = [event for event in world.state.pending(1000) if event.kind is EventKind.DOMAIN_ROGUE]
    assert [(event.cause, event.detail["uuid"]) for event in rogues] == [("twin", Pool.uuid(1))]
    refused = world.start(1)
    assert not refused.allowed
    assert "runs on another host" in refused.reason
