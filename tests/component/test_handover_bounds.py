"""What a hostile member can make of a handover: no growth without bound, no word that stands for another move."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from buckler.agent.handover.bundle import seal, sign_bundle
from buckler.agent.handover.carried import MAX_BYTES, MAX_CARRIED
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline
from buckler.agent.handover.section import Content
from buckler.agent.handover.talk import Hello
from buckler.model.bundle import MOST_EPOCH, Residence
from buckler.model.canonical import canonical_bytes
from buckler.trust.statement import Kind, sign
from tests.component.handing import BODY, answer_with, begin, send, sound
from tests.handoverkit import Peer, peers
from tests.privatehost import wait_until

Speak = Callable[[Channel, Hello], None]


def bundles(source: Peer, destination: Peer, count: int, contents: Callable[[int], dict[str, Content]]) -> Speak:
    """A source that gives ``count`` bundles, and says so while it is heard."""

    def speak(channel: Channel, hello: Hello) -> None:
        with suppress(ChannelFailed):
            for number in range(1, count + 1):
                given = contents(number)
                changes = {"serial": number, "is_final": number == count, "sections": seal(given)}
                bundle = sound(source, hello, destination, BODY, **changes)
                send(channel, sign_bundle(bundle, source.key), *(given[name].body for name in sorted(given)))
                channel.receive(Deadline(3))

    return speak


def test_a_source_that_names_ever_new_sections_is_left():
    with peers() as (source, destination):
        speak = bundles(source, destination, 20, lambda at: {f"s{at}-{n}": Content(1, b"") for n in range(30)})
        account = answer_with(source, destination, speak)
        assert "too many sections" in account.handover
        assert len(account.sections) <= 32


def test_of_sections_that_nobody_knows_no_more_is_held_than_is_carried():
    size = MAX_BYTES // 2
    with peers() as (source, destination):
        held_back: list[int] = []
        takers = []

        def watch(at: int) -> dict[str, Content]:
            takers.append(destination.desk._taker(destination.uuid))
            held_back.append(sum(len(content.body) for content in takers[0]._taken.values()))
            return {f"s{at}": Content(1, bytes(size))}

        account = answer_with(source, destination, bundles(source, destination, 6, watch))
        assert max(held_back) <= MAX_BYTES
        assert "no room" in account.handover
        kept = destination.site.carried.sections(destination.vm)
        assert len(kept) == 2 <= MAX_CARRIED


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\x7f", "a b"])
def test_no_section_is_named_by_what_steers_a_terminal(name: str):
    with peers() as (source, destination):
        speak = bundles(source, destination, 1, lambda _: {name: Content(1, b"")})
        account = answer_with(source, destination, speak)
        assert "odd section names" in account.handover
        assert account.sections == ()


@pytest.mark.parametrize("epoch", [MOST_EPOCH + 1, 10**4299], ids=["more", "endless"])
def test_no_source_lifts_an_epoch_beyond_what_can_be_counted(epoch: int):
    with peers() as (source, destination):

        def speak(channel: Channel, hello: Hello) -> None:
            send(channel, sign_bundle(sound(source, hello, destination, BODY, epoch=epoch), source.key), BODY)

        account = answer_with(source, destination, speak)
        assert "epoch" in account.handover
        assert destination.residing.stay(destination.vm).epoch == 2


def test_a_residence_beyond_what_can_be_counted_is_none():
    with peers() as (source, destination):
        xml = source.run()
        stay = Residence(source.vm, source.id, MOST_EPOCH + 1, 1.0)
        worse = sign(Kind.RESIDENCE, canonical_bytes(stay), source.key)
        destination.expect(xml.replace(source.residing.statement(source.vm), worse))
        account = destination.arrive()
        assert account.handover == "it carries no residence that a member signed"


def test_rows_beyond_the_taps_room_are_refused_and_not_counted_as_moved():
    with peers() as (source, destination):
        destination.room = 2
        begin(source, destination, 80, 443, 22, 25)
        source.event("suspended", "migrated")
        account = destination.arrive()
        assert (account.connections_moved, account.connections_refused) == (2, {"room": 2})


def test_a_second_move_that_nobody_asked_for_is_not_told_as_the_first():
    with peers() as (source, destination):
        begin(source, destination, 80)
        source.event("suspended", "migrated")
        destination.arrive()
        assert source.leave().handover == "whole"
        source.run()
        left = source.leave()
        assert (left.handover, left.destination, left.connections_moved) == ("no destination asked for it", "", 0)


def test_a_move_given_up_after_the_last_word_is_no_word_of_the_next():
    with peers() as (source, destination):
        begin(source, destination, 80)
        source.event("suspended", "migrated")
        wait_until(lambda: source.uuid in source.desk._going and not source.desk._going[source.uuid].is_under_way, 5)
        source.event("resumed", "migrated")
        assert source.leave().handover == "no destination asked for it"


def test_a_guest_that_is_paused_and_resumed_on_its_way_is_still_told_whole():
    with peers() as (source, destination):
        begin(source, destination, 80)
        source.event("suspended", "paused")
        source.event("resumed", "unpaused")
        source.event("suspended", "migrated")
        assert destination.arrive().handover == "whole"
        assert source.leave().handover == "whole"
