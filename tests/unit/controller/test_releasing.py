"""Which granted addresses a stopped VM keeps, on a store of its own and with a clock that the test sets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from buckler.controller.assemble import open_parts
from buckler.controller.changes import Wanted, store_change
from buckler.controller.claims import take_claims
from buckler.controller.observed import note_observation
from buckler.controller.pool_state import load_state
from buckler.controller.registry import Author
from buckler.controller.releasing import release_stale
from buckler.controller.settings import Settings
from buckler.model.agentapi import (
    AddressClaim,
    AddressSource,
    ClaimOutcome,
    Observation,
    ObservedDomain,
    ObservedInterface,
)
from buckler.model.ids import HostId, Revision
from buckler.model.operatorapi.documents import Reference, SourceFile
from buckler.model.pool import Host
from buckler.ports.roster import HostRecord

UUID, MAC = "11111111-1111-4111-8111-111111111111", "52:54:00:00:00:01"
DOCUMENTS = f"""
apiVersion: buckler.io/v1
kind: Network
metadata: {{name: front}}
spec: {{bridge: br0, cidrs: [10.0.0.0/24], dhcpServers: [10.0.0.99], addressClaims: {{limit: 1}}}}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {{name: web}}
spec: {{uuid: {UUID}, interfaces: [{{mac: "{MAC}", network: front}}]}}
"""
HOST = Host(HostId("h1"), "hv1", "", "192.0.2.1")


class World:
    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        settings = Settings(pool="test", state_dir=str(folder))
        self.parts = dataclasses.replace(open_parts(settings), clock=lambda: self.now)
        store_change(self.parts, Wanted(files=(SourceFile("f.yaml", DOCUMENTS),)), Author("test"))
        with self.parts.store.write() as unit:
            unit.hosts.put(HostRecord(host=HOST, joined_at=1.0, seen_at=1.0))

    def observe(self, *states: str) -> None:
        cards = (ObservedInterface(MAC, "bridge", "br0", "tap0", admitted=True),)
        domains = tuple(ObservedDomain(UUID, "web", state, interfaces=cards) for state in states)
        with self.parts.store.write() as unit:
            note_observation(self.parts, unit, HOST, Observation(self.now, Revision(0), domains))

    def claim(self, address: str, source: AddressSource) -> ClaimOutcome:
        with self.parts.store.write() as unit:
            vm = load_state(unit).registered[0].record.id
            server = "10.0.0.99" if source is AddressSource.DHCP else ""
            claim = AddressClaim(vm, MAC, address, source, self.now, 3600, server)
            return take_claims(self.parts, unit, HOST, [claim])[0]

    def held(self) -> set[str]:
        with self.parts.store.read() as unit:
            return {grant.address for grant in load_state(unit).registered[0].grants}


def test_a_stopped_vm_keeps_its_lease_and_loses_what_it_detected(tmp_path: Path) -> None:
    for gone in (("shutoff",), ()):
        world = World(tmp_path / str(len(gone)))
        world.observe("running")
        assert world.claim("10.0.0.50", AddressSource.DETECTED) is ClaimOutcome.GRANTED
        assert world.claim("10.0.0.51", AddressSource.DHCP) is ClaimOutcome.GRANTED
        world.now += 3000
        assert not release_stale(world.parts)
        world.observe(*gone)
        world.now += 20
        assert not release_stale(world.parts), "it may be on its way to another host"
        world.now += 20
        assert release_stale(world.parts)
        assert world.held() == {"10.0.0.51"}
        world.now += 3600
        assert release_stale(world.parts)
        assert world.held() == set()
        assert not release_stale(world.parts)
        world.parts.store.close()


def test_a_deleted_vm_leaves_its_addresses_to_the_next(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.observe("running")
    assert world.claim("10.0.0.50", AddressSource.DETECTED) is ClaimOutcome.GRANTED
    deleted = Wanted(files=(), delete=(Reference("VM", "web"),))
    store_change(world.parts, deleted, Author("test"))
    other = (
        DOCUMENTS.split("---")[1].replace("name: web", "name: db").replace("front}", "front, addresses: [10.0.0.50]}")
    )
    assert store_change(world.parts, Wanted(files=(SourceFile("g.yaml", other),)), Author("test")).changes
    world.parts.store.close()


def test_a_guest_that_renews_all_the_time_is_written_down_seldom(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.observe("running")
    for _ in range(100):
        assert world.claim("10.0.0.51", AddressSource.DHCP) is ClaimOutcome.GRANTED
        world.now += 1
    with world.parts.store.read() as unit:
        vm = load_state(unit).registered[0].record.id
        rows = [item for item in unit.vms.attributes(vm) if "10.0.0.51" in item.name]
        assert len(rows) == 1
    world.now += 1800
    world.claim("10.0.0.51", AddressSource.DHCP)
    world.now += 1900
    assert not release_stale(world.parts)
    world.parts.store.close()
