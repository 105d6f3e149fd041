"""``./bench migration``: what moving a VM costs with Buckler, beside a lab without it, and whether anything breaks or passes."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

from buckler.lab.machine import LabFailed
from buckler.lab.measure.moves import Questions, Range, Timed
from buckler.lab.measure.spread import Spread, spread
from buckler.lab.story.figures import Survived
from buckler.lab.sweep import sweep

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.component.carrying import Carried, carry  # noqa: E402 - the tests are no package of ours

WITH, WITHOUT = "bmw", "bmo"
MOST_PAIRED = 100
TRACED = 10
CARRIED = 5
CHECK_EVERY = 20


class Compared(msgspec.Struct, frozen=True):
    """Milliseconds with and without Buckler, and the median of what each pair of moves differed by."""

    with_buckler: Spread
    without: Spread
    added: Spread


class Report(msgspec.Struct, frozen=True):
    """The whole run. ``resets`` counts TCP connections that ended, ``dead`` every flow that did not go on."""

    moves: int
    paired: int
    seconds: float
    load_before: float
    load_after: float
    flows: int
    resets: int
    dead: tuple[str, ...]
    mib_poured: float
    forbidden_sent: int
    forbidden_seen: int
    downtime_ms: Compared
    gap_ms: Compared
    total_ms: Compared
    added_total_ms: float
    traced_moves: int
    hooks_traced: int
    calls_in_downtime: int
    agent_questions_in_downtime: int
    carried: tuple[Carried, ...]
    connections_100k_s: float | None


def say(line: str) -> None:
    """Progress goes beside the result."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> int:
    """Return 1 when a connection broke, something forbidden passed, or libvirt waited for us in a downtime."""
    parser = argparse.ArgumentParser(prog="./bench migration", description=__doc__)
    parser.add_argument("--moves", type=int, default=1000, help="moves with Buckler (default: 1000, some 25 minutes)")
    parser.add_argument("--connections", type=int, default=100_000, help="connections to hand over (0: none)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    report = measure(max(arguments.moves, TRACED + 2), arguments.connections)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    sys.stdout.write(describe(report) + "\n")
    return 1 if report.resets or report.dead or report.forbidden_seen or report.calls_in_downtime else 0


def measure(moves: int, connections: int) -> Report:
    """Bring both labs up, move, take them away."""
    began, load = time.monotonic(), os.getloadavg()[0]
    carried = carry_often(connections) if connections else ()
    folders = []
    try:
        ours, bare = Range(WITH, say, bare=False), Range(WITHOUT, say, bare=True)
        folders = [ours.plan, bare.plan]
        paired = move_in_pairs(ours, bare, min(MOST_PAIRED, moves - TRACED))
        bare.close()
        sweep(bare.plan.folder, bare.plan.prefix)
        traced = ours.move_traced(TRACED)
        failure = move_often(ours, moves - len(paired) - TRACED)
        survived, sent, passed = ours.close()
    finally:
        for plan in folders:
            sweep(plan.folder, plan.prefix)
    survived = msgspec.structs.replace(survived, dead=(*survived.dead, *failure))
    return put_together(moves, paired, traced, survived, (sent, passed), carried, (began, load))


def carry_often(count: int) -> tuple[Carried, ...]:
    """Carry connections between two kernel tables a few times."""
    say(f"carrying {count} connections {CARRIED} times")
    return tuple(carry(count) for _ in range(CARRIED))


def move_in_pairs(ours: Range, bare: Range, count: int) -> list[tuple[Timed, Timed]]:
    """One with and one without in turn; who begins alternates."""
    found = []
    for number in range(count):
        if number % 2:
            one, other = ours.move(), bare.move()
        else:
            other = bare.move()
            one = ours.move()
        found.append((one, other))
        if number % CHECK_EVERY == CHECK_EVERY - 1:
            ours.check()
            say(f"{number + 1} of {count} pairs of moves")
    return found


def move_often(ours: Range, count: int) -> tuple[str, ...]:
    """Move server and client at once until ``count`` is reached; return why it ended early, if it did."""
    for number in range(0, count - 1, 2):
        try:
            ours.move_both()
            if number % (2 * CHECK_EVERY) == 0:
                ours.check()
                say(f"{number + 2} of {count} further moves")
        except LabFailed as failed:
            return (f"after {number} further moves: {failed}",)
    return ()


def put_together(
    moves: int,
    paired: list[tuple[Timed, Timed]],
    traced: Questions,
    survived: Survived,
    fired: tuple[int, int],
    carried: tuple[Carried, ...],
    start: tuple[float, float],
) -> Report:
    """Make the report of what was found."""

    def compared(name: str) -> Compared:
        with_buckler = [getattr(one, name) for one, _ in paired]
        without = [getattr(other, name) for _, other in paired]
        differences = [one - other for one, other in zip(with_buckler, without, strict=True)]
        return Compared(spread(with_buckler), spread(without), spread(differences))

    total = compared("total_ms")
    return Report(
        moves=moves,
        paired=len(paired),
        seconds=round(time.monotonic() - start[0], 1),
        load_before=round(start[1], 2),
        load_after=round(os.getloadavg()[0], 2),
        flows=survived.flows,
        resets=survived.resets,
        dead=survived.dead,
        mib_poured=survived.mib_poured,
        forbidden_sent=fired[0],
        forbidden_seen=fired[1],
        downtime_ms=compared("downtime_ms"),
        gap_ms=compared("gap_ms"),
        total_ms=total,
        added_total_ms=total.added.median,
        traced_moves=traced.moves,
        hooks_traced=traced.hooks_seen,
        calls_in_downtime=traced.hooks,
        agent_questions_in_downtime=traced.asked,
        carried=carried,
        connections_100k_s=for_100k(carried),
    )


def for_100k(carried: tuple[Carried, ...]) -> float | None:
    """Return the median of the runs; of fewer connections what as many as 100,000 would have taken."""
    return spread([each.seconds / each.connections * 100_000 for each in carried], 3).median if carried else None


def describe(report: Report) -> str:
    """Say it as a table of a document."""
    rows = [
        "| | with Buckler | without | added (paired) |",
        "|---|---|---|---|",
        *(
            f"| {words}, ms | {what.with_buckler} | {what.without} | {what.added} |"
            for words, what in (
                ("downtime (STOP to RESUME)", report.downtime_ms),
                ("longest gap at a TCP client", report.gap_ms),
                ("whole move", report.total_ms),
            )
        ),
        "",
        f"{report.moves} moves in {report.seconds:g} s, {report.paired} of them paired; medians with a 95 % interval",
        f"load {report.load_before:g} before, {report.load_after:g} after",
        f"{report.flows} flows: {report.resets} resets, {len(report.dead)} dead, {report.mib_poured:g} MiB poured and compared",
        f"{report.forbidden_sent} forbidden packets sent, {report.forbidden_seen} seen",
        f"{report.traced_moves} traced moves: {report.hooks_traced} hook runs, {report.calls_in_downtime} between STOP and RESUME",
        f"{report.agent_questions_in_downtime} questions of agents to libvirt in that time, for which nobody waits",
        *report.dead,
    ]
    if report.carried:
        rows.append(
            f"100,000 connections: {report.connections_100k_s:g} s (median of {len(report.carried)}), of which:"
        )
    rows += [f"  {each}" for each in report.carried]
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
