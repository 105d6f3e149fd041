"""Two agents' desks and what they say to each other: the whole of a move, and every way in which it goes wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.handover.account import Account
from buckler.agent.handover.bundle import Bundle, Seal, seal, sign_bundle
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline, connect
from buckler.agent.handover.connections import write_blocks
from buckler.agent.handover.listener import Listener
from buckler.agent.handover.section import BadSection, Content
from buckler.agent.handover.talk import VERSION, Give, Handed, Hello, Welcome
from buckler.drivers.ebpf import layout
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Member
from buckler.model.canonical import digest_of
from buckler.model.connection import Rows
from buckler.model.ids import HostId, Revision, VmId
from buckler.ports.state import StateFailed
from tests.contract.test_connections import row, rows, told
from tests.handoverkit import Notes, Peer, peers
from tests.poolkit import Pool
from tests.privatehost import wait_until

LOCAL = layout.pack_address("10.50.0.11")


def held(*ports: int) -> Rows:
    return rows(*(row(ports=(port, 40000), left=20_000_000, remote="203.0.113.9") for port in ports), locals_=(LOCAL,))


def begin(source: Peer, destination: Peer, *ports: int) -> tuple[int, int]:
    """Until the bulk is there."""
    xml = source.run()
    there = source.taps[source.vm][0].ifindex
    source.connections.write(there, held(*ports))
    destination.expect(xml)
    here = destination.stand()
    destination.desk._settle(destination.uuid, 4)
    return there, here


def test_bulk_changes_and_the_last_word_arrive_and_both_sides_tell_the_same():
    with peers() as (source, destination):
        there, here = begin(source, destination, 80, 443, 22)
        assert told(destination.connections.read(here)) == told(held(80, 443, 22))
        source.connections.write(there, held(8080))
        wait_until(lambda: len(destination.connections.read(here)) == 4, 5)
        source.event("suspended", "migrated")
        arrived, left = destination.arrive(), source.leave()
        assert arrived.handover == left.handover == "whole"
        assert (arrived.connections_moved, left.connections_moved) == (4, 4)
        assert (arrived.origin, arrived.destination) == (left.origin, left.destination) == ("host-1", "host-2")
        assert (arrived.task, arrived.actor) == (left.task, left.actor) == ("task-7", "alice")
        assert arrived.binding_before == arrived.binding_after == left.binding_before != ""
        assert (left.epoch, arrived.epoch) == (1, 2)


def test_what_ends_while_the_vm_moves_does_not_live_on():
    with peers() as (source, destination):
        there, here = begin(source, destination, 80, 443)
        ended = rows(row(held=2, ports=(80, 40000), remote="203.0.113.9"), locals_=(LOCAL,))
        source.connections.write(there, ended)
        source.event("suspended", "migrated")
        destination.arrive()
        assert told(destination.connections.read(here)) == told(held(443))


def test_other_rooms_sections_move_and_unknown_ones_are_carried_on():
    first, third = Notes(), Notes()
    with peers(3, (first,), (), (third,)) as (one, two, three):
        first.held[one.vm] = b"remember me"
        begin(one, two, 80)
        one.event("suspended", "migrated")
        assert two.arrive().handover == "whole"
        one.leave()
        assert two.site.carried.sections(two.vm)["notes"].body == b"remember me"
        two.hypervisor.start(two.xml())
        two.hypervisor.leaving.add(two.uuid)
        three.expect(two.xml())
        three.stand()
        three.desk._settle(three.uuid, 4)
        two.event("suspended", "migrated")
        assert three.arrive().handover == "whole"
        two.leave()
        assert third.held[three.vm] == b"remember me"
        assert two.site.carried.sections(two.vm) == {}


def settle_at(peer: Peer, xml: str) -> None:
    """The VM runs at a host that could not write its residence yet: it shows an earlier one."""
    peer.facts[peer.uuid] = parse_domain(xml)
    peer.hypervisor.start(xml)
    peer.hypervisor.leaving.add(peer.uuid)


def test_a_vm_that_goes_on_before_its_residence_is_written_is_found_where_it_is():
    with peers(3) as (one, two, three):
        xml = one.run()
        one.connections.write(one.taps[one.vm][0].ifindex, held(80))
        two.expect(xml)
        two.stand()
        two.desk._settle(two.uuid, 4)
        one.event("suspended", "migrated")
        two.arrive()
        one.leave()
        settle_at(two, xml)
        three.expect(xml)
        here = three.stand()
        three.desk._settle(three.uuid, 4)
        two.event("suspended", "migrated")
        account = three.arrive()
        assert (account.handover, account.origin, account.epoch) == ("whole", "host-2", 3)
        assert told(three.connections.read(here)) == told(held(80))
        two.leave()


def test_a_vm_that_comes_straight_back_is_found_though_it_shows_this_very_host():
    with peers() as (one, two):
        xml = one.run()
        one.connections.write(one.taps[one.vm][0].ifindex, held(80))
        two.expect(xml)
        two.stand()
        two.desk._settle(two.uuid, 4)
        one.event("suspended", "migrated")
        two.arrive()
        one.leave()
        settle_at(two, xml)
        one.expect(xml)
        here = one.stand()
        one.desk._settle(one.uuid, 4)
        two.event("suspended", "migrated")
        account = one.arrive()
        assert (account.handover, account.origin, account.epoch) == ("whole", "host-2", 3)
        assert told(one.connections.read(here)) == told(held(80))


def test_a_late_source_forgets_nothing_of_a_vm_that_is_back():
    """What went along with an earlier stay is forgotten; what came with a later one is not."""
    with peers() as (one, _):
        one.site.carried.keep(one.vm, 3, {"notes": Content(1, b"of the third stay")})
        for epoch in (1, 2):
            one.site.carried.forget(one.vm, epoch)
            assert one.site.carried.sections(one.vm)
        one.site.carried.forget(one.vm, 3)
        assert one.site.carried.sections(one.vm) == {}


def test_what_is_carried_is_bounded():
    with peers() as (one, _):
        many = {f"s{number:03}": Content(1, b"x" * 1000) for number in range(40)}
        assert len(one.site.carried.keep(one.vm, 1, many)) == 24
        assert one.site.carried.keep(one.vm, 2, {"big": Content(1, bytes(2 << 20)), "a": Content(1, b"")}) == ("big",)
        assert set(one.site.carried.sections(one.vm)) == {"a"}


class Broken(Notes):
    """A room that fails on one side."""

    def __init__(self, *, gives: bool) -> None:
        super().__init__()
        self._gives = gives

    def give(self, vm: VmId) -> bytes:
        if not self._gives:
            raise StateFailed("the disk is full")
        return b"something"

    def take(self, vm: VmId, content: Content) -> None:
        raise BadSection("a form that nobody reads")


@pytest.mark.parametrize("gives", [True, False])
def test_a_room_that_fails_keeps_no_other_back_and_the_record_says_so(gives: bool):
    with peers(2, (Broken(gives=gives),), (Broken(gives=True),)) as (source, destination):
        there, here = begin(source, destination, 80)
        source.connections.write(there, held(443))
        source.event("suspended", "migrated")
        arrived, left = destination.arrive(), source.leave()
        assert told(destination.connections.read(here)) == told(held(80, 443))
        words = arrived.handover if gives else left.handover
        assert words == "all but notes (" + ("refused: a form that nobody reads)" if gives else "the disk is full)")


def test_an_aborted_move_leaves_nothing_at_the_destination():
    notes = Notes(), Notes()
    with peers(2, (notes[0],), (notes[1],)) as (source, destination):
        notes[0].held[source.vm] = b"x"
        begin(source, destination, 80)
        assert notes[1].taken
        told_ = []
        destination.desk.aborted(destination.uuid, told_.append)
        wait_until(lambda: not notes[1].taken, 5)
        assert told_[0].handover == "the VM did not come"
        assert (notes[1].held, destination.site.carried.sections(destination.vm)) == ({}, {})
        assert destination.desk.account(destination.uuid) is None


def test_a_dead_source_is_told_and_costs_the_hook_little():
    with peers() as (source, destination):
        xml = source.run()
        source.desk.stop()
        time.sleep(0.1)
        began = time.monotonic()
        destination.expect(xml)
        destination.stand()
        assert time.monotonic() - began < 2.2
        account = destination.arrive()
        assert "does not answer" in account.handover
        assert (account.origin, account.connections_moved) == ("host-1", 0)


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda source: source.hypervisor.leaving.clear(), "moves no such VM"),
    (lambda source: source.facts.clear(), "is not here"),
    (lambda source: (source.facts.clear(), source.residing.begin(source.vm, None, 9.0)), "is not here"),
])  # fmt: skip
def test_a_vm_that_is_not_on_its_way_is_given_to_nobody(spoil, words: str):
    with peers() as (source, destination):
        xml = source.run()
        source.connections.write(source.taps[source.vm][0].ifindex, held(80))
        spoil(source)
        destination.expect(xml)
        here = destination.stand()
        account = destination.arrive()
        assert words in account.handover
        assert len(destination.connections.read(here)) == 0


def test_a_member_that_does_not_hold_the_domain_gets_nothing_of_the_vm():
    with peers() as (source, thief):
        source.run()
        channel = thief.dial(source)
        for residence in ("", "x", thief.residing._sign(source.residing.stay(source.vm))):
            channel = thief.dial(source)
            channel.send(Hello(VERSION, source.vm, source.uuid, residence, "n", Revision(0), 0), Deadline(3))
            welcome = channel.receive(Deadline(3), 1 << 26)
            assert isinstance(welcome, Welcome)
            assert welcome.refusal == "what it shows of the VM is not what the VM carries"
            assert (welcome.task, welcome.actor) == ("", "")
            channel.send(Give(), Deadline(3))
            with pytest.raises(ChannelFailed):
                channel.receive(Deadline(3))


def believe_members(peer: Peer, *members: Member) -> None:
    """A newer manifest from the controller."""
    statement = peer.pool.manifest(peer.id, members=members)
    peer.believer.take_manifest(statement, lambda wanted: peer.pool.objects())


def test_a_stranger_is_turned_away():
    with peers() as (source, other):
        source.run()
        channel = other.dial(source, Ed25519PrivateKey.generate())
        with pytest.raises(ChannelFailed):
            channel.receive(Deadline(3))


def test_a_revoked_member_is_turned_away_also_in_the_middle_of_a_handover():
    with peers() as (source, destination):
        there, here = begin(source, destination, 80)
        believe_members(source, source.member)
        source.connections.write(there, held(443))
        source.event("suspended", "migrated")
        account = destination.arrive()
        assert "no member any more" in account.handover
        assert told(destination.connections.read(here)) == told(held(80))
        with pytest.raises(ChannelFailed):
            destination.dial(source).receive(Deadline(3))


def test_what_a_revoked_source_gives_is_not_taken():
    with peers() as (source, destination):
        there, here = begin(source, destination, 80)
        believe_members(destination, destination.member)
        source.connections.write(there, held(443))
        source.event("suspended", "migrated")
        assert "no member any more" in destination.arrive().handover
        assert told(destination.connections.read(here)) == told(held(80))


def test_somebody_else_at_the_sources_address_is_not_spoken_to():
    with peers() as (source, destination):
        address = (source.address, source.port)
        with pytest.raises(ChannelFailed, match="somebody else"):
            connect(destination.site.identity, address, bytes(32), Deadline(3))


@contextmanager
def hostile(source: Peer, attend: Callable[[Channel], None]) -> Iterator[None]:
    """The source's agent is another program that holds its key."""
    source.desk.stop()
    listener = Listener(
        source.site.identity,
        lambda: (source.address, source.port),
        lambda: tuple(member for member in source.believer.belief.members if member.id != source.id),
        lambda _member, channel: attend(channel),
    )
    listener.start()
    try:
        source.dial(source).close()
        yield
    finally:
        listener.stop()


def sound(here: Peer, hello: Hello, there: Peer, body: bytes, **changes: object) -> Bundle:
    bundle = Bundle(
        vm=here.vm,
        source=here.id,
        destination=there.id,
        nonce=hello.nonce,
        epoch=1,
        serial=1,
        revision=Revision(1),
        binding=digest_of(b""),
        is_final=True,
        sections=seal({"connections": Content(1, body)}),
    )
    return msgspec.structs.replace(bundle, **changes)


BODY = write_blocks([(Pool.mac(1), held(80))])
OTHER_MAC = write_blocks([(Pool.mac(2), held(80))])


def send(channel: Channel, statement: str, *bodies: bytes) -> None:
    channel.send(Handed(statement), Deadline(3))
    for body in bodies:
        channel.send_bytes(body, Deadline(3))


def answer_with(source: Peer, destination: Peer, speak: Callable[[Channel, Hello], None]) -> Account:
    """One arrival at a destination whose source says what ``speak`` says once it is asked to give."""

    def attend(channel: Channel) -> None:
        hello = channel.receive(Deadline(3))
        assert isinstance(hello, Hello)
        channel.send(Welcome(Revision(0)), Deadline(3))
        assert isinstance(channel.receive(Deadline(5)), Give)
        speak(channel, hello)
        with suppress(ChannelFailed):
            channel.receive(Deadline(3))

    xml = source.run()
    with hostile(source, attend):
        destination.expect(xml)
        destination.stand()
        destination.desk._settle(destination.uuid, 4)
        return destination.arrive()


def test_a_hostile_source_that_behaves_is_believed_so_that_the_others_fail_for_their_reason():
    with peers() as (source, destination):
        account = answer_with(
            source,
            destination,
            lambda channel, hello: send(
                channel, sign_bundle(sound(source, hello, destination, BODY), source.key), BODY
            ),
        )
        assert (account.handover, account.connections_moved) == ("whole", 1)


@pytest.mark.parametrize(("words", "changes"), [
    ("of another VM", {"vm": VmId("v9")}),
    ("of another host's", {"source": HostId("host-3")}),
    ("meant for another host", {"destination": HostId("host-3")}),
    ("of another time", {"nonce": "older"}),
    ("of an earlier stay", {"epoch": 0}),
    ("a repetition", {"serial": 0}),
    ("a repetition", {"serial": 2}),
    ("tampered with", {"sections": seal({"connections": Content(1, BODY + b"x")})}),
    ("tampered with", {"sections": {"connections": Seal(1, len(BODY), digest_of(b"else"))}}),
    ("connections of version 2", {"sections": seal({"connections": Content(2, BODY)})}),
    ("too long", {"sections": {"connections": Seal(1, 1 << 40, digest_of(BODY))}}),
    ("too long", {"sections": {"connections": Seal(1, -1, digest_of(BODY))}}),
    ("too many sections", {"sections": {f"s{n}": Seal(1, 0, digest_of(b"")) for n in range(40)}}),
    ("odd section names", {"sections": {"": Seal(1, 0, digest_of(b""))}}),
])  # fmt: skip
def test_a_source_that_states_something_else_is_refused_with_the_reason(words: str, changes: dict):
    with peers() as (source, destination):
        account = answer_with(
            source,
            destination,
            lambda channel, hello: send(
                channel, sign_bundle(sound(source, hello, destination, BODY, **changes), source.key), BODY
            ),
        )
        assert words in account.handover
        assert account.connections_moved == 0
        assert len(destination.connections.read(12)) == 0


def test_what_another_member_signed_is_not_the_sources_word():
    with peers(3) as (source, destination, other):
        account = answer_with(
            source,
            destination,
            lambda channel, hello: send(channel, sign_bundle(sound(source, hello, destination, BODY), other.key), BODY),
        )
        assert "a key that the pool does not know" in account.handover


def test_a_replay_within_a_handover_is_refused_and_the_first_stays():
    with peers() as (source, destination):

        def twice(channel: Channel, hello: Hello) -> None:
            statement = sign_bundle(sound(source, hello, destination, BODY, is_final=False), source.key)
            send(channel, statement, BODY)
            channel.receive(Deadline(3))
            send(channel, statement, BODY)

        account = answer_with(source, destination, twice)
        assert "a repetition" in account.handover
        assert account.connections_moved == 1


def test_connections_of_an_interface_that_is_not_the_vms_are_counted_and_not_put():
    with peers() as (source, destination):
        account = answer_with(
            source,
            destination,
            lambda channel, hello: send(
                channel, sign_bundle(sound(source, hello, destination, OTHER_MAC), source.key), OTHER_MAC
            ),
        )
        assert (account.connections_moved, account.connections_refused) == (0, {"interface": 1})


@pytest.mark.parametrize("speak", [
    lambda channel, hello: channel.send(Give(), Deadline(3)),
    lambda channel, hello: channel.send_bytes(b"{", Deadline(3)),
    lambda channel, hello: channel.send_bytes(b"[" * 60_000, Deadline(3)),
    lambda channel, hello: channel.send_bytes(bytes(70_000), Deadline(3)),
    lambda channel, hello: channel._plain.close(),
    lambda channel, hello: send(channel, "a.b.c"),
    lambda channel, hello: send(channel, ""),
])  # fmt: skip
def test_a_source_that_talks_nonsense_costs_the_connections_and_nothing_else(speak):
    with peers() as (source, destination):
        account = answer_with(source, destination, speak)
        assert account.handover not in ("", "whole")
        assert len(destination.connections.read(12)) == 0


def test_a_source_that_hangs_keeps_no_hook_waiting_longer_than_it_may():
    with peers() as (source, destination):
        is_over = threading.Event()
        xml = source.run()
        with hostile(source, lambda channel: is_over.wait(20)):
            began = time.monotonic()
            destination.expect(xml)
            assert time.monotonic() - began < 2.3
            destination.stand()
            began = time.monotonic()
            destination.desk._settle(destination.uuid, 1.0)
            assert time.monotonic() - began < 1.3
            account = destination.arrive()
            assert account.handover
            is_over.set()


def test_members_that_hang_or_are_many_keep_nobody_else_out():
    with peers(3) as (source, destination, loud):
        idle = [socket.create_connection((source.address, source.port)) for _ in range(40)]
        held_open = []
        with suppress(ChannelFailed, AssertionError):
            held_open = [loud.dial(source) for _ in range(70)]
        wait_until(lambda: source.desk._listener._strangers < 16, 6, 0.1)
        begin(source, destination, 80)
        source.event("suspended", "migrated")
        assert destination.arrive().handover == "whole"
        for each in (*idle, *held_open):
            each.close()


def test_a_copy_is_told_apart_from_a_vm_that_leaves():
    """Somebody copied the domain, metadata and all, and moves the copy: its residence's host knows better."""
    with peers() as (source, destination):
        xml = source.run(is_leaving=False)
        for is_leaving in (False, True):
            if is_leaving:
                source.hypervisor.leaving.add(source.uuid)
            destination.expect(xml)
            account = destination.desk.account(destination.uuid)
            assert account is not None
            assert account.stays is not is_leaving
