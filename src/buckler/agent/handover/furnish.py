"""Puts the handover's parts together from the agent's. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.believing import Believer
from buckler.agent.handover.carried import Carried
from buckler.agent.handover.channel import Identity
from buckler.agent.handover.connections import ConnectionsSection
from buckler.agent.handover.desk import Desk
from buckler.agent.handover.screen import Range, ranges_of
from buckler.agent.handover.section import Section
from buckler.agent.handover.site import Site
from buckler.agent.residing import Residing
from buckler.agent.settings import AgentSettings
from buckler.agent.steward import Steward
from buckler.agent.tasks import Tasks
from buckler.model.ids import IDENTITY_INFRA, VmId
from buckler.model.shield import Tap
from buckler.ports.connections import Connections
from buckler.ports.hypervisor import Hypervisor
from buckler.ports.state import State


def make_desk(
    settings: AgentSettings,
    state: State,
    hypervisor: Hypervisor,
    connections: Connections,
    believer: Believer,
    residing: Residing,
    tasks: Tasks,
    steward: Callable[[], Steward],
    sections: tuple[Section, ...],
) -> Desk:
    """``sections`` are those of the other rooms; ``steward`` is asked when it is needed, as it comes later."""
    sight = _Sight(steward)
    own = ConnectionsSection(connections, sight.taps, sight.forbidden)
    host = believer.belief.host
    key = Ed25519PrivateKey.from_private_bytes(state.host_key())

    def address() -> str:
        members = believer.belief.members
        return settings.fabric_address or next((member.fabric for member in members if member.id == host), "")

    site = Site(
        host=host,
        key=key,
        identity=Identity(host, key),
        believer=believer,
        hypervisor=hypervisor,
        connections=own,
        sections=(own, *sections),
        carried=Carried(state),
        stay=residing.stay,
        statement=residing.statement,
        facts=lambda uuid: steward().residents.facts_of(uuid),
        order=tasks.order,
        port=settings.handover_port,
    )
    return Desk(site, address)


class _Sight:
    """What the last pass left, for other threads than the worker's to look at."""

    def __init__(self, steward: Callable[[], Steward]) -> None:
        self._steward = steward

    def taps(self, vm: VmId) -> tuple[Tap, ...]:
        """Shields of one VM that stand here, proven."""
        outcome, numbers = self._steward().outcome, self._steward().names.by_number
        taps = (tap for index, tap in outcome.desired.taps.items() if index in outcome.admitted)
        return tuple(tap for tap in taps if tap.vm in numbers and numbers[tap.vm].vm == vm)

    def forbidden(self) -> tuple[Range, ...]:
        """Addresses of hosts."""
        addresses = self._steward().outcome.desired.addresses
        return ranges_of(key.prefix for key, owner in addresses.items() if owner.identity == IDENTITY_INFRA)
