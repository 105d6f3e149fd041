"""The whole agent on in-memory drivers: what the hook is answered, and what the kernel then holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.assemble import Agent, Drivers
from buckler.agent.belief import read_manifest
from buckler.agent.doorman import Answer, Request, ask
from buckler.agent.residing import read_residence
from buckler.agent.settings import AgentSettings
from buckler.drivers.inmemory.claims import InMemoryClaims
from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.inmemory.performance import InMemoryPerformance
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.inmemory.telemetry import InMemoryTelemetry
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Member, Residence
from buckler.model.canonical import canonical_bytes
from buckler.model.event import EventKind
from buckler.model.ids import HostId
from buckler.ports.links import Link
from buckler.ports.telemetry import PairCount, ShieldEvent
from buckler.trust.statement import Kind, key_id, key_text, sign, verify
from tests.memorykernel import MemoryKernel
from tests.poolkit import HOST, Pool, card, domain, program
from tests.privatehost import wait_until


class World:
    """One host whose kernel and hypervisor outlive its agents."""

    def __init__(self, folder: Path) -> None:
        self.pool = Pool(vms=2)
        self.state = InMemoryState()
        self.pool.join(self.state)
        self.memory, self.telemetry = MemoryKernel(), InMemoryTelemetry()
        self.shield, self.guard, self.links = self.memory.shield, self.memory.guard, self.memory.links
        self.hypervisor = InMemoryHypervisor()
        self.memory.add(Link(2, "br0", "bridge", "02:00:00:00:00:01", "", up=True))
        self.memory.add(Link(3, "vx100", "vxlan", "02:00:00:00:00:02", "br0", up=True))
        self.socket = folder / "agent.sock"
        self.settings = AgentSettings(
            tunnel=("vx100",), fabric="ul0", socket=str(self.socket), pass_seconds=0.3, sweep_seconds=1
        )
        self.agent = self.boot()

    def drivers(self) -> Drivers:
        return Drivers(
            self.state,
            self.hypervisor,
            InMemoryPerformance(self.hypervisor),
            self.memory.kernel(),
            self.telemetry,
            InMemoryClaims(),
            self.memory.connections,
        )

    def boot(self) -> Agent:
        agent = Agent(self.settings, self.drivers())
        agent.start()
        wait_until(lambda: agent.steward.residents.is_complete, 5)
        return agent

    def hook(self, operation: str, xml: str) -> Answer:
        return ask(self.socket, Request(operation, xml=xml))

    def plug_tap(self, index: int, name: str, mac: str, bridge: str = "br0") -> None:
        self.memory.add(Link(index, name, "tun", "fe" + mac[2:], bridge, up=True))

    def start(self, number: int, passport: str | None = "own") -> Answer:
        """As libvirt does it: prepare, the tap, the hook, QEMU."""
        mac = Pool.mac(number)
        shown = self.pool.passport(number) if passport == "own" else passport
        xml = domain(number, shown, card(mac, f"vnet{number}"))
        answer = self.hook("prepare", xml)
        if answer.allowed:
            self.plug_tap(10 + number, f"vnet{number}", mac)
            answer = self.hook("start", xml)
        if answer.allowed:
            self.hypervisor.start(xml)
        return answer

    def is_open(self, index: int) -> bool:
        state = self.guard.observe()
        return state is not None and (index, "br0") in state.ports and index in self.shield.taps()

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.state.pending(1000)]

    def events(self, kind: EventKind) -> list[dict[str, object]]:
        return [event.detail for event in self.state.pending(1000) if event.kind is kind]

    def settle(self) -> None:
        self.agent._worker.ask(lambda: None, 5)
        time.sleep(0.05)
        self.agent._worker.ask(self.agent.steward.tidy, 5)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.agent.stop()


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


def test_the_agent_killed_and_started_again_adopts_and_never_closes(world: World):
    world.start(1)
    world.hypervisor.go_away()
    world.agent.stop()
    closed = []
    apply = world.guard.apply
    world.guard.apply = lambda state: (closed.append(state) if (11, "br0") not in state.ports else None, apply(state))[
        1
    ]
    world.agent = Agent(world.settings, world.drivers())
    world.agent.start()
    assert world.is_open(11)
    assert world.agent.steward.outcome.enforced == 0  # nothing is acknowledged before libvirt was asked
    world.hypervisor.come_back()
    wait_until(lambda: world.agent.steward.outcome.enforced == 1, 5)
    assert closed == []
    assert len(world.events(EventKind.GAP)) == 1


def test_drift_is_put_back_and_told_once(world: World):
    world.start(1)
    world.settle()
    before = world.guard.observe()
    world.guard.remove()
    world.shield.delete_tap(11)
    wait_until(lambda: world.guard.observe() == before and 11 in world.shield.taps(), 2)
    wait_until(lambda: EventKind.DRIFT_REPAIRED in world.kinds(), 2)
    world.settle()
    told = world.events(EventKind.DRIFT_REPAIRED)
    assert len(told) == 1
    assert "put-tap vnet1" in told[0]["differed"]


def test_libvirt_away_changes_nothing_and_is_one_gap(world: World):
    world.start(1)
    world.settle()
    world.hypervisor.go_away()
    time.sleep(0.2)
    assert world.is_open(11)
    world.hypervisor.come_back()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    world.settle()
    assert len(world.events(EventKind.GAP)) == 1
    assert world.is_open(11)


def test_a_gap_names_its_interval_its_cause_and_every_domain_that_changed_in_it(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    before = time.time()
    world.hypervisor.go_away()
    wait_until(lambda: world.agent.steward._parts.memory._blind_since > 0, 5)
    with world.hypervisor._lock:  # while nobody can watch: no event tells of it
        gone = world.hypervisor._domains.pop(uuid)
        world.hypervisor._domains["new"] = msgspec.structs.replace(gone, uuid="new")
    world.hypervisor.come_back()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = [event for event in world.state.pending(1000) if event.kind is EventKind.GAP]
    assert gap.cause == "libvirt was away"
    assert gap.detail["domains"] == {uuid: ["running", "absent"], "new": ["absent", "running"]}
    assert before <= gap.detail["since"] <= gap.detail["until"] <= time.time()
    assert gap.detail["taps_before"] == ["vnet1"]


def test_an_agent_that_died_tells_what_changed_until_it_was_back(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    seen = world.state.remembered()
    assert seen.domains == {uuid: "running"}
    world.agent.stop()
    world.hypervisor.stop(uuid)
    world.agent = world.boot()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = [event for event in world.state.pending(1000) if event.kind is EventKind.GAP]
    assert gap.cause == "the agent was not running"
    assert gap.detail["domains"] == {uuid: ["running", "shutoff"]}
    assert gap.detail["since"] == seen.at


def test_a_gap_that_could_not_be_told_before_a_second_death_is_told_by_the_third_life(world: World):
    world.start(1)
    world.settle()
    (uuid,) = (each.uuid for each in world.hypervisor.domains())
    world.agent.stop()
    since = world.state.remembered().at
    world.hypervisor.stop(uuid)
    world.hypervisor.go_away()
    for _ in range(2):  # it lives, and dies, without having seen anything
        world.agent = Agent(world.settings, world.drivers())
        world.agent.start()
        world.agent.stop()
        assert EventKind.GAP not in world.kinds()
    world.hypervisor.come_back()
    world.agent = world.boot()
    wait_until(lambda: EventKind.GAP in world.kinds(), 5)
    (gap,) = world.events(EventKind.GAP)
    assert gap["since"] == since
    assert gap["domains"] == {uuid: ["running", "shutoff"]}


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


def test_what_a_shield_saw_is_told_by_name(world: World):
    source, destination = (b"\x00" * 10 + b"\xff\xff" + bytes((10, 50, 0, last)) for last in (11, 12))
    world.telemetry.seen.append(
        ShieldEvent(0, 11, 1, 2, 0x2000_0002, 1, 0, 60, source, destination, 1024, 80, 0x0800, 6, 0, True, 2)
    )
    wait_until(lambda: world.agent._outbox.flows(1), 3)
    flow = world.agent._outbox.flows(1).flows[0]
    assert (flow.local, flow.peer, flow.direction, flow.verdict) == ("vm-1", "vm-2", "egress", "allow")
    assert (flow.source, flow.destination, flow.protocol, flow.rule) == ("10.50.0.11", "10.50.0.12", "tcp", "http")
