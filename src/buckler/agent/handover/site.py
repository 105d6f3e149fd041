"""What both sides of a handover know of the host that they run on. A value of doors and look-ups; decides nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.believing import Believer
from buckler.agent.handover.carried import Carried
from buckler.agent.handover.channel import Identity
from buckler.agent.handover.connections import ConnectionsSection
from buckler.agent.handover.section import Section
from buckler.model.binding import binding_of
from buckler.model.bundle import Member, Residence
from buckler.model.domain import DomainFacts
from buckler.model.ids import Digest, HostId, VmId
from buckler.ports.hypervisor import Hypervisor


class Site(msgspec.Struct, frozen=True):
    """``sections`` are of all rooms, ``connections`` among them. ``stay``, its ``statement`` and ``facts`` are of a VM that is here now.

    ``order`` gives (task, actor) of a move that the controller asked for, empty for others.
    """

    host: HostId
    key: Ed25519PrivateKey
    identity: Identity
    believer: Believer
    hypervisor: Hypervisor
    connections: ConnectionsSection
    sections: tuple[Section, ...]
    carried: Carried
    stay: Callable[[VmId], Residence | None]
    statement: Callable[[VmId], str]
    facts: Callable[[str], DomainFacts | None]
    order: Callable[[VmId], tuple[str, str]]
    port: int

    def member(self, host: HostId) -> Member | None:
        """Another member of the pool as this host believes it now: one that was revoked is none."""
        members = self.believer.belief.members
        return next((member for member in members if member.id == host != self.host), None)

    def binding(self, vm: VmId) -> Digest:
        """What policy binds a VM here."""
        segments = self.believer.belief.segments
        return binding_of(endpoint for one in segments for endpoint in one.endpoints if endpoint.vm == vm)

    def vm_of(self, uuid: str) -> VmId | None:
        """Whose domain that is, by what is believed here."""
        endpoints = (endpoint for segment in self.believer.belief.segments for endpoint in segment.endpoints)
        return next((endpoint.vm for endpoint in endpoints if endpoint.uuid.lower() == uuid), None)
