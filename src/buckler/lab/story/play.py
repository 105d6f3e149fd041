"""The order of the story and what each step says of itself. Owns no step and no output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from buckler.lab.story import answer_steps, motion_steps, shop_steps
from buckler.lab.story.cast import Cast
from buckler.lab.story.drift_step import drift_repaired
from buckler.lab.story.figures import (
    AgentKilled,
    ControllerAway,
    DriftRepaired,
    HotplugClosed,
    MatrixMatches,
    MigrationShielded,
    RevocationCut,
    Summary,
    WordsFound,
)
from buckler.lab.story.hotplug_step import hotplug_closed

R = TypeVar("R")


class Result(Protocol):
    """What every step returns."""

    @property
    def holds(self) -> bool:
        """Whether the claim was seen to be true."""


class Step(msgspec.Struct, frozen=True):
    """``claim`` is what a newcomer is to learn from it."""

    name: str
    claim: str
    run: Callable[[Cast], Result]


STEPS = (
    Step("shop", "The shop works, tier by tier; attacker and rogue get nothing", shop_steps.shop_works),
    Step("matrix", "What `buckler reach` predicts is what every pair of guests can do", shop_steps.matrix_matches),
    Step(
        "migration",
        "A VM moves live five times: no connection breaks, and what is forbidden stays so at every moment",
        motion_steps.migration_shielded,
    ),
    Step("agent", "An agent dies, and nothing changes", motion_steps.agent_killed),
    Step("controller", "The controller is away, and the hosts go on", motion_steps.controller_away),
    Step("hotplug", "A card nobody registered passes nothing until it is", hotplug_closed),
    Step("drift", "What a hand takes away is put back, and nothing leaks from the VM", drift_repaired),
    Step("revocation", "A label is removed, and an open connection is cut", answer_steps.revocation_cut),
    Step("quarantine", "One step takes a VM out of the world, one brings it back", answer_steps.quarantine_holds),
    Step("words", "Every refusal has a reason, every VM a history, every entry a proof", answer_steps.words_found),
)


def summarise(
    results: dict[str, Result], guests: int, hosts: int, seconds: float, left_behind: tuple[str, ...]
) -> Summary:
    """Make the summary of a whole run; a step that gave no result counts as one that failed."""
    matrix = _of(results, "matrix", MatrixMatches)
    moved = _of(results, "migration", MigrationShielded)
    agent = _of(results, "agent", AgentKilled)
    away = _of(results, "controller", ControllerAway)
    plugged = _of(results, "hotplug", HotplugClosed)
    drift = _of(results, "drift", DriftRepaired)
    revoked = _of(results, "revocation", RevocationCut)
    words = _of(results, "words", WordsFound)
    return Summary(
        seconds=round(seconds, 1),
        guests=guests,
        hosts=hosts,
        matrix_equal=matrix is not None and matrix.holds,
        migrations=(len(moved.moves) if moved else 0) + (away.migrations if away else 0),
        forbidden_sent=moved.sent if moved else 0,
        forbidden_passed=moved.passed if moved else -1,
        resets=moved.survived.resets + away.survived.resets if moved and away else -1,
        connections_moved=moved.connections_moved if moved else 0,
        agent_kill_verdicts_equal=agent is not None and agent.holds,
        controller_down_ok=away is not None and away.holds,
        controller_down_migrations=away.migrations if away else 0,
        hotplug_leaked=plugged.leaked if plugged else -1,
        drift_leaked_from_vm=drift.leaked_from_vm if drift else -1,
        drift_repaired_s=max(drift.filter_back_s, drift.guard_back_s) if drift else -1.0,
        revocation_cut=revoked is not None and revoked.holds,
        ledger_entries=words.entries if words else 0,
        ledger_verified=words is not None and words.verified,
        left_behind=left_behind,
    )


def _of(results: dict[str, Result], name: str, kind: type[R]) -> R | None:
    found = results.get(name)
    return found if isinstance(found, kind) else None
