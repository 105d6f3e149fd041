"""Which stay of which VM this is: epochs, and their statements by this host. Writes no metadata; judges no twin."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.belief import Belief
from buckler.model.bundle import MOST_EPOCH, Residence
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import HostId, VmId
from buckler.ports.state import State
from buckler.trust.statement import Kind, Untrusted, key_from_text, key_id, sign, verify


class Residing:
    """Only an arrival by migration raises the epoch above what the VM carries: a copy that is started never does."""

    def __init__(self, state: State, host: HostId) -> None:
        self._state = state
        self._host = host
        self._key = Ed25519PrivateKey.from_private_bytes(state.host_key())
        self._stays = state.residences()
        self._statements = {vm: self._sign(stay) for vm, stay in self._stays.items()}

    @property
    def statements(self) -> dict[VmId, str]:
        """The newest stay here of every VM that ever was."""
        return self._statements

    def statement(self, vm: VmId) -> str:
        """The newest of one VM; empty when it never was here."""
        return self._statements.get(vm, "")

    def begin(self, vm: VmId, carried: Residence | None, at: float) -> None:
        """The VM is started here."""
        self._put(vm, max(self._known_epoch(vm), carried.epoch if carried else 0, 1), at)

    def arrive(self, vm: VmId, carried: Residence | None, at: float, told: int = 0) -> int:
        """The VM has come here alive; ``told`` is the epoch that its source stated. Returns the new one.

        A VM that carries a residence of this very host has been elsewhere since, where none was written yet.
        """
        was_elsewhere = carried is not None and carried.host == self._host and told <= carried.epoch
        newest = max(self._known_epoch(vm), carried.epoch if carried else 0, told, 1)
        self._put(vm, newest + 1 + was_elsewhere, at)
        return self._stays[vm].epoch

    def stay(self, vm: VmId) -> Residence | None:
        """The newest stay here of a VM that may have gone since."""
        return self._stays.get(vm)

    def find(self, vm: VmId, carried: Residence | None, at: float) -> None:
        """The VM runs here already: what is known of its stay goes on."""
        if vm not in self._stays:
            self.begin(vm, carried, at)

    def _known_epoch(self, vm: VmId) -> int:
        known = self._stays.get(vm)
        return 0 if known is None else known.epoch

    def _put(self, vm: VmId, epoch: int, at: float) -> None:
        stay = Residence(vm, self._host, epoch, at)
        self._state.put_residence(stay)
        self._stays = {**self._stays, vm: stay}
        self._statements = {**self._statements, vm: self._sign(stay)}

    def _sign(self, stay: Residence) -> str:
        return sign(Kind.RESIDENCE, canonical_bytes(stay), self._key)


def read_residence(statement: str, vm: VmId, belief: Belief) -> Residence | None:
    """What a VM carries, if a member of the pool said it of this very VM. It opens nothing, so a bad one is none."""
    stay = find_residence(statement, belief)
    return stay if stay is not None and stay.vm == vm else None


def find_residence(statement: str, belief: Belief) -> Residence | None:
    """What a residence says, if it is that of a member, by the member's own key."""
    for member in belief.members:
        try:
            key = key_from_text(member.public_key)
            stay = msgspec.json.decode(verify(Kind.RESIDENCE, statement, {key_id(key): key}), type=Residence)
        except (Untrusted, ValueError):
            continue
        if stay.host == member.id:
            return stay if 0 <= stay.epoch <= MOST_EPOCH else None
    return None
