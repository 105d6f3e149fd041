"""``buckler policy shadowed``, ``conflicts`` and their like: of files, or of the pool when no file is named. Judges nothing."""

from __future__ import annotations

import datetime as dt

import click

from buckler.cli.output import Table, output_option, say, show
from buckler.cli.reach import pairs_table
from buckler.cli.session import EXIT_USAGE, Failed, operator
from buckler.model.operatorapi.answers import PolicyFinding, Reach, UnusedRule
from buckler.offline.files import inventory_option, parse_time, policies_option, read_draft, time_option
from buckler.offline.naming import names, names_option
from buckler.policy.draft import Draft
from buckler.policy.pairs import answer_reach
from buckler.policy.party import UnknownEnd
from buckler.policy.problem import Problem
from buckler.policy.questions import Oddity, find_oddities, list_warnings

COMMANDS = {
    "shadowed": (
        (Oddity.SHADOWED,),
        (
            "List rules that never decide: others take every packet that they mean. Staged rules are judged in the draft. "
            "Not judged: rules outside their hours, and those whose names nobody answered yet."
        ),
    ),
    "unmatched": ((Oddity.UNMATCHED, Oddity.TENANT), "List rules whose subject or peers are nobody."),
    "conflicts": ((Oddity.CONFLICT,), "List rules that allow what one of the same tier and order denies."),
    "unprotected": (
        (Oddity.UNPROTECTED, Oddity.OBSERVED),
        "List VMs whose shield only observes, and policies that only do.",
    ),
    "reviews": ((Oddity.REVIEW, Oddity.OVER), "List policies whose review date is past, and what has ended."),
}

X_IS = (
    "X is a VM, an endpoint, `host` (the gateway that the host serves), `world` (every address outside), or an address or prefix "
    "outside (an address that one of them has is that one; ADDRESS/32 asks where it is outside). Addresses outside with the same "
    "answer are told together. Without files, in the pool."
)
ODD_EXIT = "Exit codes: 0 there are none, 1 there are, 2 wrong usage or documents, 3 no controller answers."
ENDS_EXIT = "Exit codes: 0 told, 1 no such end, or the documents have problems, 2 wrong usage, 3 no controller answers."


def question_commands() -> list[click.Command]:
    """Make every command of this kind."""
    return [_odd(name, kinds, text) for name, (kinds, text) in COMMANDS.items()] + [
        _ends("who-can-reach", "List who may send what to X."),
        _ends("what-can-reach", "List what X may send to whom."),
        names,
        unused,
    ]


def _odd(name: str, kinds: tuple[Oddity, ...], text: str) -> click.Command:
    @click.command(name, help=f"{text}\n\nWithout files, of the pool. {ODD_EXIT}")
    @inventory_option
    @policies_option
    @time_option
    @output_option("table", "json", "yaml")
    @click.pass_context
    def command(
        context: click.Context, inventory: tuple[str, ...], policies: tuple[str, ...], at: str, output: str
    ) -> None:
        files = (*inventory, *policies)
        if at and not files:
            raise click.UsageError("--at asks of files: with --inventory or -f")
        found = [each for each in _findings(context, files, at) if each.kind in kinds]
        show(found, output, lambda: findings_table(found), tuple)
        context.exit(1 if found else 0)

    return command


def _ends(name: str, text: str) -> click.Command:
    @click.command(name, help=f"{text}\n\n{X_IS}\n\n{ENDS_EXIT}")
    @click.argument("end", metavar="X")
    @inventory_option
    @policies_option
    @names_option
    @time_option
    @output_option("table", "json", "yaml")
    @click.pass_context
    def command(
        context: click.Context,
        end: str,
        inventory: tuple[str, ...],
        policies: tuple[str, ...],
        names: str,
        at: str,
        output: str,
    ) -> None:
        files = (*inventory, *policies)
        if not end:
            raise click.UsageError("X is empty")
        if not files and (names or at):
            raise click.UsageError("--names and --at ask of files: with --inventory or -f")
        sides = ("", end) if name == "who-can-reach" else (end, "")
        answer = _reach(context, files, sides, names, at)
        for each in answer.notes:
            say(f"note: {each}", err=True)
        found = [each for each in answer.pairs if each.allowed]
        show(found, output, lambda: pairs_table(found, empty="nobody"), tuple)

    return command


@click.command()
@click.option("--days", type=click.IntRange(0, 100_000), default=0, help="Met nothing for so many days; 0: ever.")
@output_option("table", "json", "yaml")
@click.pass_context
def unused(context: click.Context, days: int, output: str) -> None:
    """List rules of the pool that no packet met, by the counters of all hosts.

    Rules that decide nothing by themselves (pass, mode observe) are not counted and not listed. A rule that matters once a year is
    listed. Policies of one name in two tenants count as one. What has not been looked at for so many days is listed as such.
    Exit codes: 0 there are none, 1 there are.
    """
    with operator(context) as client:
        answer = client.unused(days)
    for host in answer.unheard:
        say(f"host {host} is silent: what it counted since is missing here", err=True)
    show(answer, output, lambda: unused_table(answer.rules), lambda: ())
    context.exit(1 if any(each.known for each in answer.rules) else 0)


def unused_table(found: tuple[UnusedRule, ...]) -> Table:
    """Make a row of every rule, those first of which it is known."""
    rows = tuple(
        (f"{each.policy}/{each.rule}", each.text, f"{each.file}:{each.line}" if each.file else "")
        for each in sorted(found, key=lambda each: not each.known)
    )
    return Table(("RULE", "WHAT", "WHERE"), rows, empty="nothing found")


def findings_table(found: list[PolicyFinding]) -> Table:
    """Make a row of every finding."""
    rows = tuple((each.subject, each.text, f"{each.file}:{each.line}" if each.file else "") for each in found)
    return Table(("ABOUT", "WHAT", "WHERE"), rows, empty="nothing found")


def warn_oddities(draft: Draft, moment: float) -> tuple[Problem, ...]:
    """Give what a check should warn of."""
    return list_warnings(draft.pool, draft.documents, draft.numbers, _day(moment), draft.over)


def _day(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).date().isoformat()


def _findings(context: click.Context, files: tuple[str, ...], at: str) -> tuple[PolicyFinding, ...]:
    if files:
        draft = read_draft(files, exit_code=EXIT_USAGE, at=at, names=None)
        return find_oddities(draft.pool, draft.documents, draft.numbers, _day(parse_time(at)), draft.over)
    with operator(context, refused=EXIT_USAGE) as client:
        return client.policy_findings()


def _reach(context: click.Context, files: tuple[str, ...], sides: tuple[str, str], names: str, at: str) -> Reach:
    origin, to = sides
    if files:
        try:
            return answer_reach(read_draft(files, names=names, at=at), 0, origin=origin, to=to)
        except UnknownEnd as error:
            raise Failed("no such end", str(error)) from error
    with operator(context) as client:
        return client.reach(origin=origin, to=to)
