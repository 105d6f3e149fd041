"""What is said of one packet: whose the ends are, every rule that was considered, which decided. Judges nothing."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.language import Action, Stand, Tier
from buckler.policy.pool import Station, Visitor


class PeerKind(StrEnum):
    """What the other end of a packet is. ``infra`` and ``martian`` (an address that no packet may carry): never, whatever policies say."""

    VM = "vm"
    ENDPOINT = "endpoint"
    HOST = "host"
    WORLD = "world"
    GROUP = "group"
    INFRA = "infra"
    MARTIAN = "martian"


UNREACHABLE = frozenset({PeerKind.INFRA, PeerKind.MARTIAN})


class End(msgspec.Struct, frozen=True):
    """Whose address it is. ``station`` is set for a VM, ``visitor`` for an endpoint, which has no shield."""

    kind: PeerKind
    address: str
    station: Station | None = None
    visitor: Visitor | None = None


class Outcome(StrEnum):
    """What became of one rule that was considered."""

    DECIDES = "decides"
    NO_MATCH = "does not match"
    OBSERVED = "observed only"
    STAGED = "staged only"
    INACTIVE = "not in force at this time"
    YIELDS = "yields to an exception"
    EXCEPTION = "lets a rule yield"
    WEAKER = "a stricter rule of the same order decides"
    PASSED = "leaves it to the next tier"
    REPLACED = "decides unless a lower tier matches; one did"
    NOT_REACHED = "not reached"


class Considered(msgspec.Struct, frozen=True):
    """One rule at one end, in the order of judging."""

    document: str
    policy: str
    rule: str
    tier: Tier
    action: Action
    matches: bool
    outcome: Outcome
    file: str
    line: int
    key: str = ""
    """The rule's key: what its number is allocated for."""
    log: bool = False
    connections: int = 0
    within: int = 0


class Drafted(msgspec.Struct, frozen=True):
    """What the staged draft would say."""

    verdict: Verdict
    rule: Considered | None


class EndJudgement(msgspec.Struct, frozen=True):
    """One end's verdict, or of all that a shield enforces. ``direction`` is the VM's.

    ``rule`` is None when nothing matched (default deny) or when no policy may decide. ``at``: whose opinion it is.
    """

    station: Station
    peer: End
    direction: Direction
    allowed: bool
    rule: Considered | None
    observed: Considered | None
    considered: tuple[Considered, ...]
    at: Stand = Stand.VM
    until: int = 0
    """When what is allowed will not be any more, or is not known to be, by what is written now; 0: never."""
    staged: Drafted | None = None
    """Only where some staged rule stands."""
    log: bool = False
    connections: int = 0
    within: int = 0
    because: str = ""
    """Why no policy is asked."""

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.allowed, self.rule)

    @property
    def drafted(self) -> Drafted:
        """What the draft of all that is staged would say, be it what is enforced."""
        return self.staged or Drafted(self.verdict, self.rule)

    @property
    def mode(self) -> ShieldMode:
        return self.station.vm.mode


def verdict_of(allowed: bool, rule: Considered | None) -> Verdict:
    """Tell a refusal that answers from one that does not."""
    if allowed:
        return Verdict.ALLOW
    return Verdict.REJECT if rule is not None and rule.action is Action.REJECT else Verdict.DENY


class Judgement(msgspec.Struct, frozen=True):
    """``allowed``: every shield on the way allows. Without any shield on the way it is not ours to allow."""

    allowed: bool
    egress: EndJudgement | None
    ingress: EndJudgement | None

    @property
    def passes(self) -> bool:
        """Say whether the packet gets through, shields in ``observe`` mode letting pass what they deny."""
        ends = [end for end in (self.egress, self.ingress) if end is not None]
        return bool(ends) and all(_lets_pass(end) for end in ends)


def _lets_pass(end: EndJudgement) -> bool:
    return end.allowed or (end.mode is ShieldMode.OBSERVE and end.peer.kind not in UNREACHABLE)
