"""What the story measures, as values, and the summary that is made of them. Measures nothing itself."""

from __future__ import annotations

import msgspec


class ShopWorks(msgspec.Struct, frozen=True):
    """The chain of answers that a customer gets, and what attacker and rogue could reach of the shop."""

    chains: dict[str, str]
    reached_by_attacker: tuple[str, ...]
    reached_by_rogue: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Every page came through three tiers and nobody else got anything."""
        whole = all(chain.count("hello from") == 3 for chain in self.chains.values())
        return bool(self.chains) and whole and not self.reached_by_attacker and not self.reached_by_rogue


class MatrixMatches(msgspec.Struct, frozen=True):
    """How many meetings were tried and succeeded, and where prediction and probing differ."""

    tried: int
    succeeded: int
    unexpectedly_open: tuple[str, ...]
    unexpectedly_closed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Probing found exactly what reach predicts, and that is neither nothing nor everything."""
        return not self.unexpectedly_open and not self.unexpectedly_closed and 0 < self.succeeded < self.tried


class Survived(msgspec.Struct, frozen=True):
    """Flows that live and that do not, in words; ``resets`` are TCP connections that ended, however they did."""

    flows: int
    resets: int
    dead: tuple[str, ...]
    mib_poured: float
    longest_gap_ms: int

    @property
    def holds(self) -> bool:
        """Every flow that began lives, whole."""
        return self.flows > 0 and not self.resets and not self.dead


class MigrationShielded(msgspec.Struct, frozen=True):
    """Moves under a forbidden probe: ``passed`` counts answers and arrivals as seen inside the guests.

    ``survived`` is what of the allowed traffic lived on, ``connections_moved`` what the hosts say they handed over.
    """

    moves: tuple[str, ...]
    seconds: tuple[float, ...]
    sent: int
    passed: int
    survived: Survived
    connections_moved: int
    evidence: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """It moved, was probed throughout, nothing passed and nothing broke."""
        is_kept = self.survived.holds and self.connections_moved > 0
        return len(self.moves) >= 5 and self.sent > 100 and self.passed == 0 and is_kept


class AgentKilled(msgspec.Struct, frozen=True):
    """``killed`` agents; where verdicts differed while no agent lived; whether an open connection went on."""

    killed: int
    changed: tuple[str, ...]
    connection_went_on: bool

    @property
    def holds(self) -> bool:
        """Agents died and nothing changed."""
        return self.killed > 0 and not self.changed and self.connection_went_on


class ControllerAway(msgspec.Struct, frozen=True):
    """What happened while no controller answered; ``migrations`` of one VM then, and what of its traffic lived on."""

    changed: tuple[str, ...]
    started: bool
    migrations: int
    survived: Survived
    forbidden_passed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """The hosts went on, a VM started and one moved, shielded and with its connections."""
        is_moved = self.migrations > 0 and self.survived.holds
        return not self.changed and self.started and is_moved and not self.forbidden_passed


class HotplugClosed(msgspec.Struct, frozen=True):
    """A network card plugged in without being registered: frames seen at its tap, frames that arrived anywhere."""

    sent: int
    leaked: int
    admitted_later: bool

    @property
    def holds(self) -> bool:
        """It sent, and nothing arrived; once registered it works."""
        return self.sent > 0 and self.leaked == 0 and self.admitted_later


class DriftRepaired(msgspec.Struct, frozen=True):
    """What an administrator's hand took away: packets that leaked, seconds until it was back, entries about it."""

    sent: int
    leaked_from_vm: int
    leaked_to_vm: int
    filter_back_s: float
    guard_back_s: float
    recorded: int

    @property
    def holds(self) -> bool:
        """Nothing leaked from the VM, both were back within two seconds, and the ledger knows."""
        in_time = max(self.filter_back_s, self.guard_back_s) <= 2.0
        return self.sent > 100 and self.leaked_from_vm == 0 and in_time and self.recorded >= 2


class RevocationCut(msgspec.Struct, frozen=True):
    """An established connection before and after a label was removed, and after it was given back."""

    before: int
    after: int
    came_back: bool

    @property
    def holds(self) -> bool:
        """It spoke, was cut, and its kind is allowed again."""
        return self.before > 0 and self.after == 0 and self.came_back


class QuarantineHolds(msgspec.Struct, frozen=True):
    """What a quarantined VM could reach or be reached by, and whether it works again after release."""

    reached: tuple[str, ...]
    works_after_release: bool

    @property
    def holds(self) -> bool:
        """Nothing, then all again."""
        return not self.reached and self.works_after_release


class WordsFound(msgspec.Struct, frozen=True):
    """Why one packet was refused, the life of one VM, and the ledger's own check."""

    explanation: str
    history: tuple[str, ...]
    entries: int
    verified: bool

    @property
    def holds(self) -> bool:
        """There are words, a life with a start and a move, and a ledger that verifies."""
        return bool(self.explanation) and len(self.history) >= 3 and self.entries > 0 and self.verified


class Summary(msgspec.Struct, frozen=True):
    """The figures of one whole run, as ``./demo --summary`` writes them."""

    seconds: float
    guests: int
    hosts: int
    matrix_equal: bool
    migrations: int
    forbidden_sent: int
    forbidden_passed: int
    resets: int
    connections_moved: int
    agent_kill_verdicts_equal: bool
    controller_down_ok: bool
    controller_down_migrations: int
    hotplug_leaked: int
    drift_leaked_from_vm: int
    drift_repaired_s: float
    revocation_cut: bool
    ledger_entries: int
    ledger_verified: bool
    left_behind: tuple[str, ...]
