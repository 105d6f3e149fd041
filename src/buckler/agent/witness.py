"""A host as a witness of the ledger: which checkpoint it holds, and whether another may follow it. Sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.ledger.checkpoint import Checkpoint, cosign, origin_of, read_checkpoint, read_cosigned
from buckler.ledger.tree import BadProof, Hash, verify_consistency
from buckler.model.ids import HostId
from buckler.ports.state import Membership, State, StateFailed
from buckler.trust.statement import KeySet, Untrusted, key_from_text

_HELD, _REFUSED = "witness", "witness-refused"


class Refusal(msgspec.Struct, frozen=True):
    """Both notes are signed by the pool: together they prove that it told two stories. ``at``: Unix seconds."""

    reason: str
    at: float
    held: str
    offered: str


class Step(StrEnum):
    """What is to be done about a checkpoint that was offered."""

    KEEP = "keep"
    PROVE = "prove"
    NOTHING = "nothing"


class Contradiction(Exception):
    """The checkpoint cannot follow the one that this host holds; the message says why."""


def judge(held: Checkpoint | None, offered: Checkpoint) -> Step:
    """Say what may become of an offered checkpoint. Raises Contradiction."""
    if held is None:
        return Step.KEEP
    if offered.size < held.size:
        raise Contradiction(f"the ledger shrank from {held.size} to {offered.size} entries")
    if offered.size > held.size:
        return Step.PROVE
    if offered.root != held.root:
        raise Contradiction(f"the first {held.size} entries are not those that this host saw")
    return Step.NOTHING


def prove(held: Checkpoint, offered: Checkpoint, path: Sequence[Hash]) -> None:
    """Check what the controller gives to show that the ledger only grew. Raises Contradiction."""
    try:
        verify_consistency(held.size, offered.size, path, held.root, offered.root)
    except BadProof as error:
        raise Contradiction(f"from {held.size} to {offered.size} entries: {error}") from error


class Witness:
    """Keeps one cosigned checkpoint, and the first one that contradicted it, on disk: nothing in memory."""

    def __init__(self, state: State, host: HostId, origin: str) -> None:
        self._state = state
        self._host = host
        self._origin = origin

    @property
    def note(self) -> str:
        """The checkpoint that this host holds, with its cosignature; empty before the first."""
        return self._state.document(_HELD)

    @property
    def refusal(self) -> Refusal | None:
        """The first checkpoint that contradicted the one held."""
        text = self._state.document(_REFUSED)
        try:
            return msgspec.json.decode(text, type=Refusal) if text else None
        except msgspec.DecodeError as error:
            raise StateFailed(f"what this host refused cannot be read: {error}") from error

    def held(self) -> Checkpoint | None:
        """Read ``note``; our own cosignature vouches for it, whoever signs for the pool today. Raises Contradiction."""
        if not self.note:
            return None
        try:
            return read_cosigned(self.note, self._origin, self._host, self._key().public_key())
        except Untrusted as error:
            raise Contradiction(f"what this host remembers is damaged: {error}") from error

    def read(self, note: str, keys: KeySet) -> Checkpoint:
        """Read an offered checkpoint. Raises Untrusted."""
        return read_checkpoint(note, self._origin, keys)

    def keep(self, note: str, at: float) -> None:
        """Cosign a checkpoint that may follow, and hold it from now on."""
        self._state.put_document(_HELD, cosign(note, self._host, int(at), self._key()))

    def refuse(self, note: str, reason: str, at: float) -> bool:
        """Keep the evidence; False when there is some against the same checkpoint already."""
        before = self.refusal
        if before is not None and before.held == self.note:
            return False
        refusal = Refusal(reason, at, self.note, note)
        self._state.put_document(_REFUSED, msgspec.json.encode(refusal).decode())
        return True

    def forget(self) -> None:
        """Begin anew, as after the pool's store was restored from a backup."""
        self._state.put_document(_HELD, "")
        self._state.put_document(_REFUSED, "")

    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._state.host_key())


def witness_of(state: State, membership: Membership) -> Witness:
    """Give a host's memory of its pool's ledger."""
    return Witness(state, membership.host, origin_of(membership.pool, key_from_text(membership.root_key)))
