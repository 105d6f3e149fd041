"""``vm quarantine`` and ``vm release``: one order, on or off. Cuts nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from buckler.cli.apply import waiting_lines
from buckler.cli.complete import complete_vm
from buckler.cli.output import dry_run_option, output_option, show, tenant_option, wait_option
from buckler.cli.session import EXIT_UNFINISHED, Failed, looking_for, operator
from buckler.model.operatorapi.vms import Allowance, QuarantineRequest, VmView

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient

    Order = Callable[[OperatorClient, str, QuarantineRequest, str], VmView]


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what both commands take."""
    options: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
        click.pass_context,
        output_option("table", "json", "yaml", "name"),
        wait_option(),
        dry_run_option,
        tenant_option("The VM's tenant (default: default)."),
        click.option("--reason", required=True, help="Why: it is recorded."),
        click.argument("name", shell_complete=complete_vm),
    )
    for option in options:
        function = option(function)
    return function


@click.command()
@click.option(
    "--allow",
    type=click.Choice([each.value for each in Allowance if each.value]),
    help="Leave open what policies of the quarantine tier say, and nothing else.",
)
@_options
def quarantine(
    context: click.Context, name: str, reason: str, tenant: str, dry_run: bool, wait: float, output: str, allow: str
) -> None:
    """Cut a VM off from everything, at both ends, established connections too.

    It holds wherever the VM goes, after restarts too, until it is released. What no host could tell its kernel yet is
    told: such a host is asked again until it does. Said again with another --allow, it changes what is left open.

    \b
    Examples:
      buckler vm quarantine web1 --reason "scans its neighbours"
      buckler vm quarantine web1 --allow remediation --reason "waits for its patches"

    Exit codes: 0 every host has closed it, 1 refused, 4 it holds, but some host has not closed it yet.
    """
    request = QuarantineRequest(reason=reason, allow=Allowance(allow or ""), dry_run=dry_run, wait=wait)
    _order(context, name, tenant, request, output, lambda client, *order: client.quarantine(*order))


@click.command()
@_options
def release(
    context: click.Context, name: str, reason: str, tenant: str, dry_run: bool, wait: float, output: str
) -> None:
    """End a quarantine: the pool's policies decide again.

    \b
    Example:
      buckler vm release web1 --reason "cleaned and checked"
    """
    request = QuarantineRequest(reason=reason, dry_run=dry_run, wait=wait)
    _order(context, name, tenant, request, output, lambda client, *order: client.release(*order))


def _order(
    context: click.Context, name: str, tenant: str, request: QuarantineRequest, output: str, order: Order
) -> None:
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        view = order(client, name, request, tenant)
    show(view, output, lambda: "\n".join(_lines(view, request)), lambda: (f"vm/{view.name}",))
    if view.waiting:
        raise Failed(*waiting_lines(view.waiting), exit_code=EXIT_UNFINISHED)


def _lines(view: VmView, request: QuarantineRequest) -> list[str]:
    done = "quarantined" if view.quarantined else "released"
    lines = [f"vm/{view.name} {done}" + (" (dry run)" if request.dry_run else "")]
    return lines if request.dry_run else [*lines, *stand_lines(view)]


def stand_lines(view: VmView) -> list[str]:
    """Say of each host whether it has closed what the quarantine closes."""
    if view.quarantine is None:
        return []
    return [
        f"  {each.host}: enforced"
        if each.enforced
        else f"  {each.host}: pending" + (f" ({each.reason})" * bool(each.reason))
        for each in view.quarantine.hosts
    ]
