"""What a host believes, from its controller and from other members: never backwards, never by a retired key, never waiting for a lender."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.believing import LENT, OWN, Believer
from buckler.drivers.inmemory.state import InMemoryState
from buckler.model.agentapi import Issuers
from buckler.model.bundle import Member, Stage
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest, HostId, Revision
from buckler.trust.statement import Kind, Untrusted, key_text, sign
from tests.poolkit import HOST, POOL, Pool, program

OTHER = HostId("other")
MEMBERS = tuple(Member(host, host, "", "10.99.0.1", ()) for host in (HOST, OTHER))


class World:
    """One host that joined; its pool signs what a test asks for."""

    def __init__(self) -> None:
        self.pool, self.state = Pool(), InMemoryState()
        self.pool.join(self.state, members=MEMBERS)
        self.believer = self.boot()

    def boot(self) -> Believer:
        membership = self.state.membership()
        assert membership is not None
        return Believer(self.state, membership, lambda belief: None)

    def manifest(self, revision: int, stage: Stage = Stage.OPEN, host: HostId = HOST) -> str:
        return self.pool.manifest(host, revision=Revision(revision), stage=stage, members=MEMBERS)

    def lent(self, revision: int, stage: Stage = Stage.OPEN) -> str:
        return self.manifest(revision, stage, OTHER)

    def fetch(self, wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        return {digest: self.pool.objects()[digest] for digest in wanted}

    def rotate(self) -> str:
        self.pool.issuer = Ed25519PrivateKey.generate()
        keys = (key_text(self.pool.issuer.public_key()),)
        return sign(Kind.ISSUERS, canonical_bytes(Issuers(POOL, 2, keys)), self.pool.root)


@pytest.fixture
def world() -> World:
    return World()


def test_older_lent_policy_that_a_crash_left_on_disk_comes_back_never(world: World):
    assert world.believer.borrow_manifest(world.lent(8), world.fetch)
    lent = world.state.document(LENT)
    world.believer.take_manifest(world.manifest(10), world.fetch)
    world.state.put_document(LENT, lent)  # the agent died between the two writes
    believer = world.boot()
    assert (believer.belief.revision, believer.belief.own_revision) == (10, 10)
    assert believer.newest() == world.state.document(OWN)


def test_a_slower_host_lends_no_earlier_stage_of_the_change_at_a_later_revision(world: World):
    world.believer.take_manifest(world.manifest(20, Stage.FLIP), world.fetch)
    assert not world.believer.borrow_manifest(world.lent(21, Stage.CLOSE), world.fetch)
    assert world.believer.belief.revision == 20


def test_an_own_later_stage_replaces_a_lent_earlier_one_of_a_later_revision(world: World):
    assert world.believer.borrow_manifest(world.lent(21, Stage.CLOSE), world.fetch)
    world.believer.take_manifest(world.manifest(20, Stage.FLIP), world.fetch)
    for believer in (world.believer, world.boot()):
        assert believer.belief.manifest is not None
        assert (believer.belief.manifest.stage, believer.belief.revision) == (Stage.FLIP, 20)


def test_lent_policy_that_a_retired_key_signed_yields_to_the_hosts_own(world: World):
    assert world.believer.borrow_manifest(world.lent(1 << 60), world.fetch)
    world.believer.take_issuers(world.rotate())
    world.believer.take_manifest(world.manifest(10), world.fetch)
    assert (world.believer.belief.revision, world.believer.belief.own_revision) == (10, 10)
    assert world.boot().belief.revision == 10


def test_lent_policy_by_a_retired_key_is_not_taken(world: World):
    lent = world.lent(9)
    world.believer.take_issuers(world.rotate())
    with pytest.raises(Untrusted):
        world.believer.borrow_manifest(lent, world.fetch)


def test_a_lender_that_hangs_keeps_the_hosts_own_policy_from_nobody(world: World):
    asked, hang = threading.Event(), threading.Event()

    def slow(wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        objects = world.fetch(wanted)
        asked.set()
        assert hang.wait(5)
        return objects

    world.pool.set_programs(program(22), program(443))
    lender = threading.Thread(target=world.believer.borrow_manifest, args=(world.lent(9), slow))
    lender.start()
    assert asked.wait(5)
    own = threading.Thread(target=world.believer.take_manifest, args=(world.manifest(10), world.fetch))
    own.start()
    own.join(2)
    revision = world.believer.belief.revision
    hang.set()
    lender.join(5)
    own.join(5)
    assert revision == 10
    assert (world.believer.belief.revision, world.state.document(LENT)) == (10, "")


def test_a_controller_that_hangs_keeps_nobody_from_what_a_member_lends(world: World):
    asked, hang = threading.Event(), threading.Event()

    def slow(wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        objects = world.fetch(wanted)
        asked.set()
        assert hang.wait(20)
        return objects

    world.pool.set_programs(program(22), program(443))
    own = threading.Thread(target=world.believer.take_manifest, args=(world.manifest(10), slow))
    own.start()
    assert asked.wait(5)
    lender = threading.Thread(target=world.believer.borrow_manifest, args=(world.lent(9), world.fetch))
    lender.start()
    lender.join(10)
    revision = world.believer.belief.revision
    hang.set()
    own.join(20)
    lender.join(20)
    assert revision == 9
    assert (world.believer.belief.revision, world.state.document(LENT)) == (10, "")
    assert world.boot().belief.revision == 10


def test_what_an_older_manifest_named_leaves_the_disk_unless_somebody_holds_it(world: World):
    world.pool.set_programs(program(22), program(23))
    world.believer.take_manifest(world.manifest(10), world.fetch)
    first = frozenset(world.pool.state()[1])
    with world.believer.holding():
        world.pool.set_programs(program(443), program(444))
        world.believer.take_manifest(world.manifest(11), world.fetch)
        assert world.believer.objects(first).keys() == first
    world.pool.set_programs(program(80), program(81))
    world.believer.take_manifest(world.manifest(12), world.fetch)
    assert not world.believer.objects(first).keys() >= first


def test_a_key_that_retires_while_objects_come_signs_nothing_any_more(world: World):
    world.pool.set_programs(program(22), program(443))
    statement, rotated = world.manifest(10), world.rotate()

    def fetch(wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        world.believer.take_issuers(rotated)
        return world.fetch(wanted)

    before = world.believer.belief.revision
    with pytest.raises(Untrusted):
        world.believer.take_manifest(statement, fetch)
    assert world.believer.belief.revision == before


def test_objects_that_trickle_in_are_not_waited_for_without_end(world: World):
    membership = world.state.membership()
    assert membership is not None
    world.pool.set_programs(program(22), program(443))
    believer = Believer(world.state, membership, lambda belief: None, patience=0.0)
    before, asked = believer.belief.revision, list[Iterable[Digest]]()

    def fetch(wanted: Iterable[Digest]) -> Mapping[Digest, bytes]:
        asked.append(wanted)
        return world.fetch(wanted)

    with pytest.raises(Untrusted, match="too long"):
        believer.take_manifest(world.manifest(10), fetch)
    with pytest.raises(Untrusted, match="too long"):
        believer.borrow_manifest(world.lent(9), fetch)
    assert not asked
    assert believer.belief.revision == before
