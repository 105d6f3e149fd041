"""Who is given something of a VM that moves, and who is believed: members that hold it, and nobody else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.handover.channel import ChannelFailed, Deadline, connect
from buckler.agent.handover.talk import VERSION, Give, Hello, Welcome
from buckler.model.bundle import Member
from buckler.model.ids import Revision
from tests.component.handing import begin, held
from tests.contract.test_connections import told
from tests.handoverkit import Peer, peers


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
