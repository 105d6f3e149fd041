"""``buckler policy``: check, diff, explain, reach (and export) on files alone. Words and exit codes; judges nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from buckler.cli.apply import diff_lines
from buckler.cli.difference import diff_pool
from buckler.cli.explain import explanation_lines, parse_port
from buckler.cli.impact import impact
from buckler.cli.output import Table, output_option, say, show
from buckler.cli.revision import revisions, show_revision
from buckler.cli.rollback import rollback
from buckler.cli.session import EXIT_USAGE, Failed
from buckler.cli.staging import promote, staged
from buckler.offline.compare import compare
from buckler.offline.exporting import export
from buckler.offline.files import (
    count_words,
    inventory_option,
    parse_time,
    policies_option,
    read_checked,
    read_draft,
    time_option,
)
from buckler.offline.naming import names_option
from buckler.offline.questions import question_commands, warn_oddities
from buckler.offline.shipping import library, tightens
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.explain import NoSuchPacket
from buckler.policy.explainvirtual import explain_connection
from buckler.policy.matrix import Connection, Place, Talk, list_talks
from buckler.policy.party import WORLD, UnknownEnd
from buckler.policy.problem import Problem, Severity, has_errors
from buckler.policy.staging import promote_all

EVERYWHERE = ("0.0.0.0/0", "::/0")
SHOWN_BLOCKS = 4
"""Of addresses with the same answer; all of them are in the other forms."""


@click.group()
def policy() -> None:
    """Ask about policies that stand in files: needs no controller and no root. Some questions also ask the pool.

    \b
    Example, as a check of a repository:
      buckler policy check --inventory vms.yaml -f policies/
    """


policy.add_command(export)


@policy.command()
@inventory_option
@policies_option
@time_option
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@output_option("table", "json", "yaml")
def check(inventory: tuple[str, ...], policies: tuple[str, ...], at: str, strict: bool, output: str) -> None:
    """Check documents by themselves and against each other; warn of selectors that match nothing, past reviews and ends.

    Exit codes: 0 nothing to object to, 1 problems (with --strict: or warnings), 2 wrong usage or unreadable files.
    """
    moment = parse_time(at)
    documents, problems = read_checked(_both(inventory, policies))
    if not documents and not problems:
        raise Failed("the files hold no documents", exit_code=EXIT_USAGE)
    if not has_errors(problems):
        problems += warn_oddities(draft_pool(documents, moment), moment)
    show(
        problems,
        output,
        lambda: "\n".join([*map(_problem_line, problems), _verdict(len(documents), problems)]),
        tuple,
    )
    if any(strict or each.severity is Severity.ERROR for each in problems):
        raise SystemExit(1)


@policy.command()
@click.argument("revisions", nargs=-1, type=click.IntRange(1), metavar="[REVISION [REVISION]]")
@inventory_option
@policies_option
@click.option(
    "--against",
    "against",
    multiple=True,
    metavar="FILE|DIR",
    help="The policies as they were; may be given again. No controller is asked.",
)
@names_option
@time_option
@click.option(
    "--staged", is_flag=True, help="Of the files alone: what changes when all that is staged in them is enforced."
)
@output_option("table", "json", "yaml")
@click.pass_context
def diff(
    context: click.Context,
    revisions: tuple[int, ...],
    inventory: tuple[str, ...],
    policies: tuple[str, ...],
    against: tuple[str, ...],
    names: str,
    at: str,
    staged: bool,
    output: str,
) -> None:
    """Show what changes: documents, and who may send what to whom.

    \b
    With --against, of files alone: from the policies of --against to those of -f.
    Without, of the pool:
      policy diff 12 15      from revision 12 to 15
      policy diff 12         from revision 12 to the pool as it is
      policy diff -f DRAFT   from the pool as it is to the pool with the files
      policy diff            from what hosts enforce to the pool as it is
    With --staged, of files alone: from what they say to what they say once promoted.

    Addresses outside are told by the prefixes that change alike; `world` is all of them. In -o json {"blocks": ["CIDR", …]},
    less those in "except".

    Exit codes: 0 nothing changes, 1 something does, 2 the documents have problems.
    """
    if staged and (against or revisions):
        raise click.UsageError("--staged compares files with themselves: no --against and no revisions")
    if (at or names) and not (against or staged):
        raise click.UsageError("--at and --names ask of files: with --against or --staged")
    if not against and not staged:
        if len(revisions) > 2 or (revisions and (inventory or policies)):
            raise click.UsageError("name up to two revisions, or files")
        diff_pool(context, revisions, (*inventory, *policies), output)
    elif revisions:
        raise click.UsageError("--against compares files: no revisions")
    before = read_draft(_both(inventory, policies if staged else against), EXIT_USAGE, at, names)
    after = _promoted(before) if staged else read_draft(_both(inventory, policies), EXIT_USAGE, at, names)
    result = compare(before, after)
    changed = bool(result.documents or result.reach)
    if changed or output != "table":
        show(result, output, lambda: "\n".join(diff_lines(result, ("before", "after"))), tuple)
    else:
        say("nothing differs", err=True)
    raise SystemExit(1 if changed else 0)


@policy.command()
@click.argument("origin", metavar="FROM")
@click.argument("to", metavar="TO")
@click.argument("port", metavar="PORT")
@inventory_option
@policies_option
@names_option
@time_option
@click.option("--expect", type=click.Choice(["allow", "deny"]), help="Exit with 1 unless this is the verdict.")
@output_option("table", "wide", "json", "yaml")
def explain(
    origin: str,
    to: str,
    port: str,
    inventory: tuple[str, ...],
    policies: tuple[str, ...],
    names: str,
    at: str,
    expect: str | None,
    output: str,
) -> None:
    """Say which rule of which document and line decides a connection, at both ends.

    FROM and TO are VMs (NAME, TENANT/NAME or NAMESPACE/NAME), endpoints, addresses, `world`, or `host` (the gateway that the
    host serves); TO may be the virtual address of a Service: then each of its members is told. PORT is 5432, 53/udp, icmp.

    Exit codes: 0 explained (and as expected), 1 not as expected, or no such end or packet, 2 wrong usage.
    """
    protocol, number = parse_port(port)
    draft = read_draft(_both(inventory, policies), at=at, names=names)
    try:
        answer = explain_connection(draft.pool, draft.documents, origin, to, protocol, number)
    except UnknownEnd as error:
        raise Failed("no such end", str(error)) from error
    except NoSuchPacket as error:
        raise Failed("no such packet", str(error)) from error
    show(answer, output, lambda: "\n".join(explanation_lines(answer, every_step=output == "wide")), tuple)
    if expect and answer.verdict != expect:
        raise Failed(f"the verdict is {answer.verdict}, expected was {expect}")


@policy.command()
@inventory_option
@policies_option
@names_option
@time_option
@click.option("--staged", is_flag=True, help="As if all that is staged were enforced.")
@output_option("table", "json", "yaml")
def reach(
    inventory: tuple[str, ...], policies: tuple[str, ...], names: str, at: str, staged: bool, output: str
) -> None:
    """List every ordered pair that may talk, VMs and blocks of outside addresses, both ends' shields considered.

    With -o json a list of {"from": P, "to": P, "connections": C}. P is {"vm": "TENANT/NAME"} (of an imported workload
    "NAMESPACE/NAME"), {"endpoint": "TENANT/NAME"} or {"blocks": ["CIDR", …]}: addresses outside that all have this answer.

    C is "all", or a list of {"protocol": "TCP", "ports": [[first, last], …]}. For ICMP and ICMPv6 "types" stand in place of
    "ports", and where not every code of a type may be sent, "codes" of that one type. "other" is every protocol that is none
    of TCP, UDP, SCTP, ICMP and ICMPv6. Without ports or types: all of them.

    The host's gateway is not listed: ask `who-can-reach host`, `what-can-reach host`.

    Exit codes: 0 told, 1 the documents have problems, 2 wrong usage.
    """
    draft = read_draft(_both(inventory, policies), at=at, names=names)
    talks = list_talks(_promoted(draft) if staged else draft)
    show(talks, output, lambda: talks_table(talks), tuple)


for each in (*question_commands(), library, tightens, revisions, show_revision, rollback, impact, staged, promote):
    policy.add_command(each)


def talks_table(talks: tuple[Talk, ...]) -> Table:
    """Make a row of every pair."""
    rows = tuple((_place(each.origin), _place(each.to), _connections(each.connections)) for each in talks)
    return Table(("FROM", "TO", "MAY SEND"), rows, empty="nobody may talk to anybody")


def _promoted(draft: Draft) -> Draft:
    return msgspec.structs.replace(draft, documents=promote_all(draft.documents))


def _both(inventory: tuple[str, ...], policies: tuple[str, ...]) -> tuple[str, ...]:
    if not inventory and not policies:
        raise click.UsageError("name files: --inventory for VMs and networks, -f for policies")
    return (*inventory, *policies)


def _place(place: Place) -> str:
    if place.blocks == EVERYWHERE:
        return WORLD
    more = len(place.blocks) - SHOWN_BLOCKS
    return place.title or ", ".join(place.blocks[:SHOWN_BLOCKS]) + (f" and {more} more" if more > 0 else "")


def _connections(connections: str | tuple[Connection, ...]) -> str:
    if isinstance(connections, str):
        return connections
    return ", ".join(_words(each) for each in connections)


def _words(each: Connection) -> str:
    numbers = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in each.ports or each.types)
    codes = "".join(f" code {low}" if low == high else f" codes {low}-{high}" for low, high in each.codes)
    return each.protocol if numbers in {"0-65535", "0-255"} else f"{each.protocol} {numbers}{codes}"


def _problem_line(problem: Problem) -> str:
    return f"{problem.severity}: {problem}"


def _verdict(documents: int, problems: Sequence[Problem]) -> str:
    errors = sum(each.severity is Severity.ERROR for each in problems)
    warnings = len(problems) - errors
    counted = [count_words(n, noun) for n, noun in ((errors, "problem"), (warnings, "warning")) if n]
    return ", ".join([count_words(documents, "document"), *(counted or ["nothing to object to"])])
