"""``buckler policy shadowed``, ``conflicts`` and their like: of files, or of the pool when no file is named. Judges nothing."""

from __future__ import annotations

import datetime as dt

import click

from buckler.cli.output import Table, output_option, say, show
from buckler.cli.session import Failed, operator
from buckler.model.operatorapi.answers import PolicyFinding, ReachPair, UnusedRule
from buckler.offline.files import inventory_option, policies_option, read_draft
from buckler.offline.naming import names
from buckler.policy.draft import Draft
from buckler.policy.problem import Problem
from buckler.policy.questions import Oddity, find_oddities, list_warnings
from buckler.policy.reach import reach_pairs, words_of

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

WORLD_IS = "`world` is an address outside that no document names; of those that one names `buckler policy reach` tells."


def question_commands() -> list[click.Command]:
    """Make every command of this kind."""
    return [_odd(name, kinds, text) for name, (kinds, text) in COMMANDS.items()] + [
        _ends("who-can-reach", "List who may send what to X."),
        _ends("what-can-reach", "List what X may send to whom."),
        names,
        unused,
    ]


def _odd(name: str, kinds: tuple[Oddity, ...], text: str) -> click.Command:
    @click.command(name, help=f"{text}\n\nWithout files, of the pool. Exit codes: 0 there are none, 1 there are.")
    @inventory_option
    @policies_option
    @output_option("table", "json", "yaml")
    @click.pass_context
    def command(context: click.Context, inventory: tuple[str, ...], policies: tuple[str, ...], output: str) -> None:
        found = [each for each in _findings(context, (*inventory, *policies)) if each.kind in kinds]
        show(found, output, lambda: findings_table(found), tuple)
        context.exit(1 if found else 0)

    return command


def _ends(name: str, text: str) -> click.Command:
    @click.command(name, help=f"{text}\n\nX is a VM, an endpoint or `world`. {WORLD_IS} Without files, in the pool.")
    @click.argument("end", metavar="X")
    @inventory_option
    @policies_option
    @output_option("table", "json", "yaml")
    @click.pass_context
    def command(
        context: click.Context, end: str, inventory: tuple[str, ...], policies: tuple[str, ...], output: str
    ) -> None:
        pairs = _pairs(context, (*inventory, *policies))
        if end not in {side for each in pairs for side in (each.origin, each.to)}:
            raise Failed(f"no such end: {end!r}")
        is_asked = name == "who-can-reach"
        found = [each for each in pairs if each.allowed and (each.to if is_asked else each.origin) == end]
        show(found, output, lambda: pairs_table(found), tuple)

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
    return Table(("RULE", "WHAT", "WHERE"), rows, empty="nothing found")


def pairs_table(found: list[ReachPair]) -> Table:
    """Make a row of every pair."""
    rows = tuple((each.origin, each.to, ", ".join(words_of(each.allowed))) for each in found)
    return Table(
        ("FROM", "TO", "MAY SEND"), rows, empty="nobody (prefixes that a document names: see `buckler policy reach`)"
    )


def warn_oddities(draft: Draft) -> tuple[Problem, ...]:
    """Give what a check should warn of."""
    return list_warnings(draft.pool, draft.documents, draft.numbers, _today(), draft.over)


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def _findings(context: click.Context, files: tuple[str, ...]) -> tuple[PolicyFinding, ...]:
    if files:
        draft = read_draft(files)
        return find_oddities(draft.pool, draft.documents, draft.numbers, _today(), draft.over)
    with operator(context) as client:
        return client.policy_findings()


def _pairs(context: click.Context, files: tuple[str, ...]) -> tuple[ReachPair, ...]:
    if files:
        draft = read_draft(files)
        return reach_pairs(draft.pool, draft.documents, draft.numbers)
    with operator(context) as client:
        return client.reach().pairs
