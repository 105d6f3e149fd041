"""``buckler policy rollback``: the documents of a revision again, as a new one. Says first what it will do, and asks."""

from __future__ import annotations

import click
import msgspec

from buckler.cli.apply import change_name, result_lines, show_warnings, waiting_lines
from buckler.cli.difference import words_of_diff
from buckler.cli.output import comment_option, dry_run_option, output_option, say, show, wait_option
from buckler.cli.session import EXIT_UNFINISHED, EXIT_USAGE, Failed, operator
from buckler.model.operatorapi.revisions import RollbackRequest, RollbackResult

_SHOWN = 20


@click.command()
@click.argument("revision", type=click.IntRange(1), metavar="REVISION")
@click.option("--inventory", is_flag=True, help="VMs and networks too: normally they stay as they are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@comment_option
@dry_run_option
@wait_option()
@output_option("table", "json", "yaml", "name")
@click.pass_context
def rollback(
    context: click.Context,
    revision: int,
    inventory: bool,
    yes: bool,
    comment: str,
    dry_run: bool,
    wait: float,
    output: str,
) -> None:
    """Put the policies, flows, groups, services and endpoints of REVISION back, as a new revision.

    What was added since is deleted, what was deleted is there again. VMs and networks (and the labels of VMs) stay as
    they are without --inventory: they describe the world. Everything is checked as with apply, all or nothing, and
    closes before it opens. What would be done is shown first; if the pool changes before you answer, nothing is done.

    \b
    Examples:
      buckler policy rollback 12 --dry-run
      buckler policy rollback 12 -m "the new rule broke the shop"

    Exit codes: 0 done and enforced, 1 refused or not confirmed, 4 done, but some host does not enforce it yet.
    """
    if not comment and not dry_run:
        raise Failed("say why with -m COMMENT: it stays with the revision", exit_code=EXIT_USAGE)
    request = RollbackRequest(comment=comment, inventory=inventory, wait=wait, dry_run=True)
    with operator(context) as client:
        planned = client.roll_back(revision, request)
        if dry_run or not planned.result.changes:
            _show(planned, output, wait=0)
            return
        if not yes:
            for line in plan_lines(planned):
                say(line, err=True)
            click.confirm(f"Put revision {revision} back?", abort=True, err=True)
        wanted = msgspec.structs.replace(request, dry_run=False, current=planned.current)
        done = client.roll_back(revision, wanted)
    _show(done, output, wait=wait)


def plan_lines(planned: RollbackResult) -> list[str]:
    """Write what would be done, in documents and in what may be sent, and what stays otherwise than it was."""
    lines = words_of_diff(planned.diff) or ["the documents are as they were: nothing to put back"]
    if planned.left:
        names = ", ".join(planned.left[:_SHOWN]) + (", …" if len(planned.left) > _SHOWN else "")
        lines.append(f"{len(planned.left)} of VM and Network differ too and stay as they are (--inventory): {names}")
    return lines


def _show(done: RollbackResult, output: str, *, wait: float) -> None:
    result = done.result
    show_warnings(result.warnings)
    told = plan_lines(done) if result.dry_run else result_lines(result, waited=wait > 0)
    show(done, output, lambda: "\n".join(told), lambda: map(change_name, result.changes))
    if result.waiting and wait:
        raise Failed(*waiting_lines(result.waiting), exit_code=EXIT_UNFINISHED)
