"""``status``, ``unprotected`` and ``rogues``: the whole pool at a glance. Shows facts; calls nothing enforced that is not."""

from __future__ import annotations

import time

import click

from buckler.cli.host import enforcement, hosts_table
from buckler.cli.output import Table, fields, moment, output_option, plain_table, show, words
from buckler.cli.session import EXIT_UNFINISHED, Failed, operator
from buckler.model.operatorapi.pool import PoolStatus, Rogue, Unprotected
from buckler.model.pool import HostState

POLL = 0.5


@click.command()
@click.option(
    "--wait", type=click.FloatRange(min=0), default=0, metavar="SECONDS", help="Wait until all hosts enforce."
)
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def status(context: click.Context, wait: float, output: str) -> None:
    """Show the pool: per host the revision wanted and the one that its kernel enforces; unreachable hosts too.

    \b
    Examples:
      buckler status
      buckler status --wait 30

    Exit codes: 0 told (with --wait: every host enforces), 4 some host does not in time.
    """
    until = time.monotonic() + wait
    with operator(context) as client:
        answer = client.status()
        while behind(answer) and time.monotonic() < until:
            time.sleep(POLL)
            answer = client.status()
    now = time.time()
    show(answer, output, lambda: "\n".join(status_lines(answer, now, wide=output == "wide")), lambda: ())
    if wait and behind(answer):
        raise Failed(f"not enforced everywhere: {words(behind(answer))}", exit_code=EXIT_UNFINISHED)


def behind(answer: PoolStatus) -> list[str]:
    """Name the hosts of which it is not known that they enforce what is wanted."""
    members = [host for host in answer.hosts if host.state is not HostState.REVOKED]
    return [host.name for host in members if enforcement(host) != "enforced"]


def status_lines(answer: PoolStatus, now: float, *, wide: bool) -> list[str]:
    """Tell about the pool."""
    rogues_now = "1 rogue" if answer.rogues == 1 else f"{answer.rogues} rogues"
    facts = [
        ("Pool", answer.pool),
        ("Controller", f"Buckler {answer.version}"),
        ("Revision", f"{answer.revision}{_rollout_words(answer)}"),
        ("VMs", f"{answer.vms} registered, {answer.unprotected} unprotected, {rogues_now}"),
        ("Policies", str(answer.policies)),
        ("Ledger", f"{answer.ledger_entries} entries"),
    ]
    table = hosts_table(answer.hosts, now)
    lines = [*fields(facts), "", plain_table(table, wide=wide) if table.rows else table.empty]
    if answer.rollout:
        lines += [
            f"  {each.host} is waited for: enforces {each.enforced}, wanted {each.wanted}"
            + (f" ({each.reason})" if each.reason else "")
            for each in answer.rollout.waiting
        ]
    return lines


def _rollout_words(answer: PoolStatus) -> str:
    if answer.rollout:
        return f", rolling out {answer.rollout.revision} (stage {answer.rollout.stage})"
    late = behind(answer)
    return f", not enforced by {words(late)}" if late else ", enforced by every host" if answer.hosts else ""


@click.command()
@output_option("table", "json", "yaml", "name")
@click.pass_context
def unprotected(context: click.Context, output: str) -> None:
    """List VMs whose shield does not enforce: observed ones, and those that are not admitted. Each with its reason.

    \b
    Example:
      buckler unprotected
    """
    with operator(context) as client:
        found = client.unprotected()
    show(found, output, lambda: unprotected_table(found), lambda: (f"vm/{each.vm}" for each in found))


def unprotected_table(found: tuple[Unprotected, ...]) -> Table:
    """Make a row of every VM that is not protected."""
    rows = tuple((each.tenant, each.vm, each.host or "-", each.reason) for each in found)
    return Table(columns=("TENANT", "VM", "HOST", "REASON"), rows=rows, empty="every registered VM is protected")


@click.command()
@output_option("table", "wide", "json", "yaml", "name")
@click.pass_context
def rogues(context: click.Context, output: str) -> None:
    """List domains that nobody registered, and copies of VMs that run elsewhere. They run closed.

    `buckler vm adopt` opens the former. A copy needs an identity of its own: stop it, remove the passport, adopt it.

    \b
    Example:
      buckler rogues
    """
    with operator(context) as client:
        found = client.rogues()
    show(found, output, lambda: rogues_table(found), lambda: (each.uuid for each in found))


def rogues_table(found: tuple[Rogue, ...]) -> Table:
    """Make a row of every rogue."""
    rows = tuple(
        (
            *(each.host, each.name, each.uuid, each.state, each.twin_of, moment(each.since)),
            *(words(each.macs), words(each.bridges)),
        )
        for each in found
    )
    return Table(
        columns=("HOST", "DOMAIN", "UUID", "STATE", "TWIN OF", "SINCE"),
        rows=rows,
        wide=("MACS", "BRIDGES"),
        empty="no rogue is seen",
    )
