"""``buckler policy export``: policies as another system's rules, with what that system cannot say. Reads and writes files only."""

from __future__ import annotations

from pathlib import Path

import click

from buckler.cli.output import say
from buckler.cli.session import EXIT_USAGE, Failed
from buckler.offline.files import inventory_option, policies_option, read_draft
from buckler.policy.exporters.asa import asa_configuration
from buckler.policy.exporters.nftables import nftables_ruleset
from buckler.policy.exporters.permits import list_permits
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.importers.written import loss_report

EXIT_LOSSES = 3


@click.command()
@click.argument("system", type=click.Choice(["nftables", "cisco-asa"]))
@inventory_option
@policies_option
@click.option("--out", default="-", metavar="FILE|-", help="Where the rules go; left out: standard output.")
@click.option(
    "--loss",
    "loss",
    metavar="FILE",
    help="Where the report of losses goes, as JSON; left out: standard error, in words.",
)
def export(system: str, inventory: tuple[str, ...], policies: tuple[str, ...], out: str, loss: str | None) -> None:
    """Write policies as the rules of a firewall between the VMs, by the addresses they have now.

    nftables: a table for a router's forward hook. cisco-asa: object groups and one global access list.

    Exit codes: 0 all exported exactly, 3 with losses, 2 nothing written because of wrong usage, a file, or problems in the documents.
    """
    if not inventory and not policies:
        raise click.UsageError("name files: --inventory for VMs and networks, -f for policies")
    permits = list_permits(read_draft((*inventory, *policies), EXIT_USAGE))
    losses = permits.losses
    if system == "nftables":
        text = nftables_ruleset(permits)
    else:
        text, losses = asa_configuration(permits)
    _write(out, text)
    if loss:
        _write(loss, loss_report(Import(system, losses=losses)))
    told = [each for each in losses if each.effect is not Effect.NOTE]
    for each in told if not loss else []:
        say(f"{each.file}:{each.line}: {each.subject}: {each.what}: {each.means}", err=True)
    raise SystemExit(EXIT_LOSSES if told else 0)


def _write(name: str, text: str) -> None:
    if name == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"{name} cannot be written: {error}", exit_code=EXIT_USAGE) from error
