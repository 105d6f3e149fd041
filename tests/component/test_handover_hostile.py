"""A source that lies, repeats itself, talks nonsense or hangs costs the connections, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

import pytest

from buckler.agent.handover.bundle import Seal, seal, sign_bundle
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline
from buckler.agent.handover.section import Content
from buckler.agent.handover.talk import Give, Hello
from buckler.model.canonical import digest_of
from buckler.model.ids import HostId, VmId
from tests.component.handing import BODY, OTHER_MAC, answer_with, begin, hostile, send, sound
from tests.handoverkit import peers
from tests.privatehost import wait_until


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
