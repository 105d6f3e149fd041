"""Two agents' desks and what they say to each other: the whole of a move, and where it breaks off."""

from __future__ import annotations

import time

import pytest

from buckler.agent.handover.section import BadSection, Content
from buckler.gate.domain import parse_domain
from buckler.model.ids import VmId
from buckler.ports.state import StateFailed
from tests.component.handing import LOCAL, begin, held
from tests.contract.test_connections import row, rows, told
from tests.handoverkit import Notes, Peer, peers
from tests.privatehost import wait_until


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
