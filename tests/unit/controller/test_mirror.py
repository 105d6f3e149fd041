"""What the engine keeps in memory is what the store says, after every change of every kind; and after every failure."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from buckler.controller.assemble import open_parts
from buckler.controller.changes import Wanted, store_change
from buckler.controller.engine import Engine
from buckler.controller.mirror import Mirror
from buckler.controller.numbering import read_numbers
from buckler.controller.observed import note_observation
from buckler.controller.orders import take_order
from buckler.controller.pool_state import QUARANTINE, State, load_state, merge_attributes
from buckler.controller.problems import Refused
from buckler.controller.registry import Author
from buckler.controller.rollout_state import read_rollout
from buckler.controller.settings import Settings
from buckler.controller.sights import sights
from buckler.controller.ticking import at_time
from buckler.model.agentapi import Acknowledgement, Observation, ObservedDomain
from buckler.model.ids import HostId, Revision
from buckler.model.operatorapi.documents import Reference, SourceFile
from buckler.model.pool import Host, HostState
from buckler.policy.bundle import build_bundle
from buckler.policy.whole import join_bundle
from buckler.ports.roster import HostRecord
from buckler.ports.store import Unit

NETWORK = "apiVersion: buckler.io/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{bridge: br{name}, cidrs: [10.{place}.0.0/24]}}\n"
VM = """apiVersion: buckler.io/v1
kind: VM
metadata: {{name: vm{number}, labels: {{role: {role}}}}}
spec: {{uuid: {uuid}, interfaces: [{{mac: "52:54:00:00:00:{number:02x}", network: {network}, addresses: [{address}]}}]}}
"""
FLOW = """apiVersion: buckler.io/v1
kind: Flow
metadata: {{name: flow{number}}}
spec:
  description: d
  owner: o
  reason: r
  review: 2036-12-31
  {until}
  from: [{{vm: {{matchLabels: {{role: {role}}}}}}}]
  to: [{{{peer}}}]
  ports: [{{protocol: TCP, port: {port}}}]
"""
GROUP = "apiVersion: buckler.io/v1\nkind: AddressGroup\nmetadata: {{name: offices}}\nspec: {{cidrs: [198.51.{place}.0/24]}}\n"
AUTHOR = Author("test")


class World:
    """A controller's store that is changed at random, and the engine beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.parts = open_parts(Settings(pool="test", state_dir=str(folder)))
        self.engine, self.mirror = Engine(self.parts), Mirror()
        self.apply(*(NETWORK.format(name=name, place=place) for place, name in enumerate(("net", "lan"))))
        self.apply(GROUP.format(place=1))

    def apply(self, *texts: str) -> None:
        files = tuple(SourceFile(f"{number}.yaml", text) for number, text in enumerate(texts))
        store_change(self.parts, Wanted(files=files), AUTHOR)

    def change(self) -> None:
        steps: tuple[Callable[[], None], ...] = (
            self.vm, self.vm, self.flow, self.flow, self.group, self.delete, self.host, self.observe, self.quarantine, self.acknowledge,
        )  # fmt: skip
        with suppress(Refused):  # nothing was done then
            self.chance.choice(steps)()

    def vm(self) -> None:
        number, place = self.chance.randrange(6), self.chance.randrange(2)
        address = f"10.{place}.0.{10 * number + self.chance.randrange(1, 4)}"
        role, uuid = self.chance.choice("abc"), f"{number:08d}-1111-4111-8111-111111111111"
        self.apply(VM.format(number=number, role=role, uuid=uuid, network=("net", "lan")[place], address=address))

    def flow(self) -> None:
        peer = self.chance.choice(("world: true", "addressGroup: offices", "vm: {matchLabels: {role: b}}"))
        until = self.chance.choice(("", "", "until: 2090-01-01T00:00:00Z", "until: 2020-01-01T00:00:00Z"))
        number, role = self.chance.randrange(4), self.chance.choice("abc")
        self.apply(
            FLOW.format(
                number=number, role=role, peer=peer, port=self.chance.randrange(1, 9), until=until or "tier: tenant"
            )
        )

    def group(self) -> None:
        self.apply(GROUP.format(place=self.chance.randrange(1, 5)))

    def delete(self) -> None:
        kind, name = self.chance.choice((("VM", "vm"), ("Flow", "flow")))
        wanted = Wanted(delete=(Reference(kind, f"{name}{self.chance.randrange(6)}"),))
        store_change(self.parts, wanted, AUTHOR)

    def host(self) -> None:
        number, state = self.chance.randrange(3), self.chance.choice(list(HostState))
        host = Host(HostId(f"h{number}"), f"hv{number}", "", f"192.0.2.{number + 1}", (), state=state)
        with self.parts.store.write() as unit:
            unit.hosts.put(HostRecord(host, 1.0, 1.0))
            unit.revisions.allocate("host", "test", self.parts.clock())

    def observe(self) -> None:
        with self.parts.store.write() as unit:
            records = unit.hosts.all()
            if records:
                number = self.chance.randrange(6)
                domain = ObservedDomain(f"{number:08d}-1111-4111-8111-111111111111", f"vm{number}", "running")
                host = self.chance.choice(records).host
                note_observation(self.parts, unit, host, Observation(2.0, Revision(0), (domain,)))

    def acknowledge(self) -> None:
        with self.parts.store.write() as unit:
            hosts = [record.host.id for record in unit.hosts.all()]
            for host in hosts[: self.chance.randrange(3)]:
                taken = take_order(self.parts, unit, unit.hosts.get(host).host)  # type: ignore[union-attr]
                if taken is not None:
                    unit.acks.put(host, Acknowledgement(taken.revision, self.parts.clock()))

    def quarantine(self) -> None:
        with self.parts.store.write() as unit:
            records = unit.vms.all()
            if records:
                said = {QUARANTINE: self.chance.choice(("", "bad"))}
                merge_attributes(unit, self.chance.choice(records).id, said, self.parts.clock())
                unit.revisions.allocate("quarantine", "test", self.parts.clock())


def in_order(state: State) -> State:
    """A snapshot says a set of things."""
    pool = msgspec.structs.replace(
        state.pool,
        networks=tuple(sorted(state.pool.networks, key=lambda each: each.name)),
        vms=tuple(sorted(state.pool.vms, key=lambda each: each.id)),
        hosts=tuple(sorted(state.pool.hosts, key=lambda each: each.id)),
        outsiders=tuple(sorted(state.pool.outsiders, key=lambda each: each.name)),
    )
    return msgspec.structs.replace(
        state,
        rest=tuple(sorted(state.rest, key=lambda each: each.key)),
        registered=tuple(sorted(state.registered, key=lambda each: each.record.id)),
        hosts=pool.hosts,
        pool=pool,
    )


def assert_published(world: World, unit: Unit) -> None:
    """The last stage of what is planned is what the plain way builds from nothing."""
    state = at_time(load_state(unit), world.parts.clock()).state
    bundle = build_bundle(state.pool, state.documents, read_numbers(unit))
    wanted = read_rollout(unit).stages[-1].wanted
    said = join_bundle(wanted.root, {}, unit.objects.get)
    assert (said.segments, said.programs) == (bundle.segments, bundle.programs)
    assert {each.number for each in bundle.rules} <= {each.number for each in said.rules}


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(2, 8))])
def test_the_mirror_is_the_store_and_what_is_published_is_what_is_declared(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    for number in range(60):
        world.change()
        if number % 3 == 0:
            while world.engine.step():
                pass
            with world.parts.store.read() as unit:
                assert_published(world, unit)
        if number % 2:
            with world.parts.store.read() as unit:
                assert in_order(world.mirror.look(unit)) == in_order(load_state(unit))
                assert world.mirror.seen() == sights(unit)
        if number % 20 == 7:
            with world.parts.store.write() as unit:
                unit.changes.forget(unit.changes.newest())  # whoever lags behind has to read everything
    world.parts.store.close()


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that were given in a transaction that never was are given again, and to whom the store says."""
    world = World(tmp_path, 3)
    world.host()
    for number in range(40):
        world.change()
        if number % 3:
            continue
        with monkeypatch.context() as patch:
            patch.setattr("buckler.controller.engine.write_rollout", fail)
            with suppress(OSError):
                while world.engine.step():
                    pass
        if number % 2:
            world.change()
        while world.engine.step():
            pass
        with world.parts.store.read() as unit:
            assert_published(world, unit)
    world.parts.store.close()


def fail(*_: object) -> None:
    raise OSError("the disk")
