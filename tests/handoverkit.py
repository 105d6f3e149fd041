"""Hosts that hand VMs over to each other for real (TLS on the loopback), on in-memory kernels; and the makings of hostile ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.believing import Believer
from buckler.agent.handover.account import Account
from buckler.agent.handover.carried import Carried
from buckler.agent.handover.channel import Channel, ChannelFailed, Deadline, Identity, connect
from buckler.agent.handover.connections import ConnectionsSection
from buckler.agent.handover.desk import Desk
from buckler.agent.handover.screen import ranges_of
from buckler.agent.handover.section import Content, Section
from buckler.agent.handover.site import Site
from buckler.agent.residing import Residing
from buckler.drivers.inmemory.connections import InMemoryConnections
from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.inmemory.state import InMemoryState
from buckler.gate.domain import parse_domain
from buckler.model.bundle import Member
from buckler.model.domain import RESIDENCE_NAMESPACE, DomainFacts
from buckler.model.ids import HostId, VmId
from buckler.model.shield import Tap
from buckler.ports.hypervisor import DomainEvent
from buckler.trust.statement import key_text
from tests.poolkit import Pool, card, domain

SECONDS = 8.0
INFRA = ("10.99.0.0/24",)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Notes:
    """A section of a room that has something small to hand over: text by VM."""

    name = "notes"
    version = 3

    def __init__(self) -> None:
        self.held: dict[VmId, bytes] = {}
        self.taken: dict[VmId, bytes] = {}

    def give(self, vm: VmId) -> bytes:
        return self.held.get(vm, b"")

    def take(self, vm: VmId, content: Content) -> None:
        self.taken[vm] = content.body

    def keep(self, vm: VmId) -> None:
        self.held[vm] = self.taken.pop(vm)

    def drop(self, vm: VmId) -> None:
        self.taken.pop(vm, None)


class Peer:
    """One host: its desk listens at ``address``. ``run`` has a VM run here, ``expect`` is libvirt's hook at a destination."""

    def __init__(self, pool: Pool, number: int, port: int, *sections: Section) -> None:
        self.pool, self.number, self.port = pool, number, port
        self.id = HostId(f"host-{number}")
        self.address = f"127.0.0.{number}"
        self.state = InMemoryState()
        self.key = Ed25519PrivateKey.from_private_bytes(self.state.host_key())
        self.member = Member(
            self.id, f"hv{number}", key_text(self.key.public_key()), self.address, (f"10.99.0.{number}",)
        )
        self.hypervisor = InMemoryHypervisor()
        self.facts: dict[str, DomainFacts] = {}
        self.taps: dict[VmId, tuple[Tap, ...]] = {}
        self.room = 1000
        self.connections = InMemoryConnections(lambda ifindex: self.room if self._stands(ifindex) else None)
        self.section = ConnectionsSection(self.connections, lambda vm: self.taps.get(vm, ()), lambda: ranges_of(INFRA))
        self.sections = (self.section, *sections)
        self.told: list[Account] = []
        self._is_told = threading.Event()

    def join(self, members: tuple[Member, ...]) -> None:
        """Believe the pool's newest state."""
        self.pool.join(self.state, host=self.id, members=members)
        membership = self.state.membership()
        assert membership is not None
        self.believer = Believer(self.state, membership, lambda belief: None)
        self.residing = Residing(self.state, self.id)
        self.site = Site(
            host=self.id,
            key=self.key,
            identity=Identity(self.id, self.key),
            believer=self.believer,
            hypervisor=self.hypervisor,
            connections=self.section,
            sections=self.sections,
            carried=Carried(self.state),
            stay=self.residing.stay,
            statement=self.residing.statement,
            facts=self.facts.get,
            order=lambda vm: ("task-7", "alice"),
            port=self.port,
        )
        self.desk = Desk(self.site, lambda: self.address)

    def _stands(self, ifindex: int) -> bool:
        return any(tap.ifindex == ifindex for taps in self.taps.values() for tap in taps)

    @property
    def vm(self) -> VmId:
        return self.pool.endpoints[0].vm

    @property
    def uuid(self) -> str:
        return self.pool.uuid(1)

    def put_tap(self) -> int:
        """The VM's tap stands behind its shield."""
        one = self.pool.endpoints[0]
        ifindex = 10 + self.number
        addresses = (*one.addresses, "fe80::5054:ff:fe00:1")
        tap = Tap(ifindex, one.number, one.mac, self.pool.segment().zone, 0, one.identity, addresses, one.program)
        self.taps = {self.vm: (tap,)}
        return ifindex

    def xml(self) -> str:
        """The domain as libvirt shows it here, residence included."""
        residence = self.residing.statement(self.vm)
        shown = f"<r:residence xmlns:r='{RESIDENCE_NAMESPACE}'>{residence}</r:residence>" if residence else ""
        text = domain(1, self.pool.passport(1), card(Pool.mac(1), "vnet1"))
        return text.replace("</metadata>", shown + "</metadata>")

    def run(self, *, is_leaving: bool = True) -> str:
        """VM 1 runs here, and libvirt is moving it away. Returns its domain's XML."""
        self.residing.begin(self.vm, None, 1.0)
        self.put_tap()
        xml = self.xml()
        self.hypervisor.start(xml)
        self.facts[self.uuid] = parse_domain(xml)
        if is_leaving:
            self.hypervisor.leaving.add(self.uuid)
        return xml

    def event(self, what: str, detail: str) -> None:
        self.desk.note(DomainEvent(self.uuid, "vm-1", what, detail, 1.0))

    def expect(self, xml: str) -> None:
        """The hook ``migrate``."""
        self.desk._expect(parse_domain(xml), 2.0)

    def stand(self) -> int:
        """The hook ``start``, allowed."""
        ifindex = self.put_tap()
        self.desk._stand(self.uuid)
        return ifindex

    def arrive(self) -> Account:
        """Libvirt says that the VM runs here now; wait until the move is told."""
        account = self.desk.account(self.uuid)
        epoch = self.residing.arrive(self.vm, None, 2.0, 0 if account is None else account.epoch)
        self.desk.arrived(self.uuid, self.vm, epoch, self.tell)
        self.facts[self.uuid] = parse_domain(self.xml())
        return self.account()

    def leave(self) -> Account:
        """It runs elsewhere."""
        self.facts.pop(self.uuid, None)
        self.taps = {}
        self.desk.left(self.uuid, self.vm, self.tell)
        return self.account()

    def tell(self, account: Account) -> None:
        self.told.append(account)
        self._is_told.set()

    def account(self) -> Account:
        assert self._is_told.wait(SECONDS), "the move was not told"
        self._is_told.clear()
        return self.told[-1]

    def dial(self, other: Peer, key: Ed25519PrivateKey | None = None) -> Channel:
        """Speak to another host as this one, or with any key."""
        identity = Identity(self.id, key or self.key)
        expected = other.key.public_key().public_bytes_raw()
        for _ in range(100):
            try:
                return connect(identity, (other.address, other.port), expected, Deadline(SECONDS))
            except ChannelFailed as error:
                if "does not answer" not in str(error):
                    raise
                threading.Event().wait(0.05)
        raise AssertionError("nobody listens")


@contextmanager
def peers(count: int = 2, *sections: tuple[Section, ...]) -> Iterator[tuple[Peer, ...]]:
    """Hosts of one pool whose desks are open. ``sections`` are those of each beside its connections."""
    pool, port = Pool(vms=2), free_port()
    made = tuple(Peer(pool, number + 1, port, *(sections[number] if sections else ())) for number in range(count))
    members = tuple(one.member for one in made)
    for one in made:
        one.join(members)
        one.desk.start()
    for one in made:
        made[0].dial(one).close()
    try:
        yield made
    finally:
        for one in made:
            one.desk.stop()


def replaced(member: Member, **changes: object) -> Member:
    return msgspec.structs.replace(member, **changes)
