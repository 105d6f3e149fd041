"""``buckler policy shadowed``, ``conflicts`` and their like: of files, or of the pool when no file is named. Judges nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import click

from buckler.cli.output import Table, output_option, show
from buckler.cli.session import Failed, operator
from buckler.model.operatorapi.answers import PolicyFinding, ReachPair
from buckler.model.operatorapi.documents import DocumentItem
from buckler.offline.files import inventory_option, policies_option, read_draft
from buckler.policy.draft import Draft
from buckler.policy.problem import Problem
from buckler.policy.questions import Oddity, find_oddities, list_warnings
from buckler.policy.reach import reach_pairs, words_of

COMMANDS = {
    "shadowed": ((Oddity.SHADOWED,), "List rules that never decide: others take every packet that they mean."),
    "unmatched": ((Oddity.UNMATCHED, Oddity.TENANT), "List rules whose subject or peers are nobody."),
    "conflicts": ((Oddity.CONFLICT,), "List rules that allow what one of the same tier and order denies."),
    "unprotected": (
        (Oddity.UNPROTECTED, Oddity.OBSERVED),
        "List VMs whose shield only observes, and policies that only do.",
    ),
    "reviews": ((Oddity.REVIEW,), "List policies whose review date is past."),
}


def question_commands() -> list[click.Command]:
    """Make every command of this kind."""
    return [_odd(name, kinds, text) for name, (kinds, text) in COMMANDS.items()] + [
        _ends("who-can-reach", "List who may send what to X."),
        _ends("what-can-reach", "List what X may send to whom."),
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
    @click.command(name, help=f"{text}\n\nX is a VM, an endpoint or `world`. Without files, in the pool.")
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
@output_option("table", "json", "yaml")
@click.pass_context
def unused(context: click.Context, output: str) -> None:
    """List rules of the pool that no packet met so far, by the counters of all hosts.

    A rule that matters once a year is listed too. Policies of one name in two tenants count as one.
    Exit codes: 0 there are none, 1 there are.
    """
    with operator(context) as client:
        used = {(each.policy, each.rule) for each in client.counters() if each.packets}
        written = [item for kind in ("Policy", "Flow") for item in client.documents(kind)]
    found = [finding for item in written for finding in _unused(item, used)]
    show(found, output, lambda: findings_table(found), tuple)
    context.exit(1 if found else 0)


def _unused(item: DocumentItem, used: set[tuple[str, str]]) -> Iterator[PolicyFinding]:
    name, spec = item.document["metadata"]["name"], item.document["spec"]
    sides = [side for side in ("ingress", "egress") if side in spec]
    rules = (
        [rule["name"] for side in sides for rule in spec[side]] if "subject" in spec or sides else ["egress", "ingress"]
    )
    for rule in rules:
        if (name, rule) not in used:
            yield PolicyFinding("unused", f"{name}/{rule}", "no packet met it so far", item.file, item.line)


def findings_table(found: list[PolicyFinding]) -> Table:
    """Make a row of every finding."""
    rows = tuple((each.subject, each.text, f"{each.file}:{each.line}" if each.file else "") for each in found)
    return Table(("RULE", "WHAT", "WHERE"), rows, empty="nothing found")


def pairs_table(found: list[ReachPair]) -> Table:
    """Make a row of every pair."""
    rows = tuple((each.origin, each.to, ", ".join(words_of(each.allowed))) for each in found)
    return Table(("FROM", "TO", "MAY SEND"), rows, empty="nobody")


def warn_oddities(draft: Draft) -> tuple[Problem, ...]:
    """Give what a check should warn of."""
    return list_warnings(draft.pool, draft.documents, draft.numbers, _today())


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def _findings(context: click.Context, files: tuple[str, ...]) -> tuple[PolicyFinding, ...]:
    if files:
        draft = read_draft(files)
        return find_oddities(draft.pool, draft.documents, draft.numbers, _today())
    with operator(context) as client:
        return client.policy_findings()


def _pairs(context: click.Context, files: tuple[str, ...]) -> tuple[ReachPair, ...]:
    if files:
        draft = read_draft(files)
        return reach_pairs(draft.pool, draft.documents, draft.numbers)
    with operator(context) as client:
        return client.reach().pairs
