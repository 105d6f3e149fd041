"""A move between two desks until its bulk is there, and a source that says what a test wants. Owns no claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from buckler.agent.handover.account import Account
from buckler.agent.handover.bundle import Bundle, seal
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline
from buckler.agent.handover.connections import write_blocks
from buckler.agent.handover.listener import Listener
from buckler.agent.handover.section import Content
from buckler.agent.handover.talk import Give, Handed, Hello, Welcome
from buckler.drivers.ebpf import layout
from buckler.model.canonical import digest_of
from buckler.model.connection import Rows
from buckler.model.ids import Revision
from tests.contract.test_connections import row, rows
from tests.handoverkit import Peer
from tests.poolkit import Pool

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
