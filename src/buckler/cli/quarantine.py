"""``vm quarantine`` and ``vm release``: one order, on or off. Cuts nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from buckler.cli.apply import waiting_lines
from buckler.cli.complete import complete_vm
from buckler.cli.output import dry_run_option, say, tenant_option, wait_option
from buckler.cli.session import EXIT_UNFINISHED, Failed, looking_for, operator
from buckler.model.operatorapi.vms import QuarantineRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from buckler.client.operator import OperatorClient
    from buckler.model.operatorapi.vms import VmView

    Order = Callable[[OperatorClient, str, QuarantineRequest, str], VmView]


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add what both commands take."""
    options: tuple[Callable[[Callable[..., None]], Callable[..., None]], ...] = (
        click.pass_context,
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
@_options
def quarantine(context: click.Context, name: str, reason: str, tenant: str, dry_run: bool, wait: float) -> None:
    """Cut a VM off from everything, at both ends, established connections too.

    \b
    Example:
      buckler vm quarantine web1 --reason "scans its neighbours"
    """
    request = QuarantineRequest(reason=reason, dry_run=dry_run, wait=wait)
    _order(context, name, tenant, request, lambda client, *order: client.quarantine(*order), "quarantined")


@click.command()
@_options
def release(context: click.Context, name: str, reason: str, tenant: str, dry_run: bool, wait: float) -> None:
    """End a quarantine: the pool's policies decide again.

    \b
    Example:
      buckler vm release web1 --reason "cleaned and checked"
    """
    request = QuarantineRequest(reason=reason, dry_run=dry_run, wait=wait)
    _order(context, name, tenant, request, lambda client, *order: client.release(*order), "released")


def _order(context: click.Context, name: str, tenant: str, request: QuarantineRequest, order: Order, done: str) -> None:
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        view = order(client, name, request, tenant)
    say(f"vm/{view.name} {done}" + (" (dry run)" if request.dry_run else ""))
    if view.waiting:
        raise Failed(*waiting_lines(view.waiting), exit_code=EXIT_UNFINISHED)
