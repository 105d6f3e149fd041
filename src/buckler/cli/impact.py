"""``buckler policy impact``: a draft held against what shields recorded. Replays nothing itself."""

from __future__ import annotations

import time

import click

from buckler.cli.apply import show_warnings
from buckler.cli.output import Table, moment, output_option, say, show
from buckler.cli.sample import parse_since
from buckler.cli.session import EXIT_USAGE, operator
from buckler.cli.source import files_option, read_sources
from buckler.model.operatorapi.impact import Impact, ImpactItem, ImpactRequest


@click.command()
@files_option(required=True)
@click.option("--since", default="", metavar="AGO", help="How far back: 30s, 10m, 6h, 2d, or a Unix time.")
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def impact(context: click.Context, filenames: tuple[str, ...], since: str, output: str) -> None:
    """Show which recorded connections would get another verdict if these documents were applied.

    It speaks of what shields recorded and the controller still has, and says how much that is and how much is known to
    be missing. Both ends of a connection are judged; a connection that both recorded counts once.

    \b
    Example:
      buckler policy impact -f draft/ --since 2d

    Exit codes: 0 none would, 1 some would, 2 the documents have problems.
    """
    start = parse_since(since, time.time()) if since else 0.0
    with operator(context, refused=EXIT_USAGE) as client:
        told = client.impact(ImpactRequest(files=read_sources(filenames, EXIT_USAGE), since=start))
    show_warnings(told.warnings)
    for line in basis_lines(told):
        say(line, err=True)
    show(told, output, lambda: impact_table(told.items), tuple)
    context.exit(1 if told.items else 0)


def impact_table(items: tuple[ImpactItem, ...]) -> Table:
    """Make a row of every pair, port and rule."""
    rows = tuple(
        (
            each.origin,
            each.to,
            f"{each.protocol} {each.port}",
            f"{each.before} → {each.after}",
            str(each.connections),
            _rules(each),
            str(each.records),
            moment(each.last),
        )
        for each in items
    )
    columns = ("FROM", "TO", "WHAT", "VERDICT", "CONNECTIONS", "DECIDED BY")
    return Table(columns, rows, ("RECORDS", "LAST SEEN"), empty="no recorded connection would get another verdict")


def basis_lines(told: Impact) -> list[str]:
    """Say what the answer rests on, and what it does not know."""
    if not told.records:
        return ["nothing is recorded: this says nothing about what the draft would do"]
    lines = [f"{told.records} records of {told.connections} connections, {moment(told.first)} to {moment(told.last)}"]
    lines += [f"{told.shed} more are known to be missing: too many at once"] if told.shed else []
    lines += [f"{told.otherwise} were decided by no policy (spoofed, malformed and the like)"] if told.otherwise else []
    lines += (
        [f"{told.outdated} were recorded under other documents: the pool says otherwise now"] if told.outdated else []
    )
    lines += [f"{count} cannot be judged again: {reason}" for reason, count in told.unplaced.items()]
    more = told.changed - len(told.items)
    return [*lines, *([f"{more} more lines are not listed"] if more else [])]


def _rules(item: ImpactItem) -> str:
    return f"{item.rule_before or 'default deny'} → {item.rule_after or 'default deny'}"
