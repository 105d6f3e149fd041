"""``counters``: totals per rule and pair of ends, and what was shed. Counts nothing itself."""

from __future__ import annotations

import click

from buckler.cli.complete import complete_vm
from buckler.cli.output import Table, output_option, say, show, tenant_option
from buckler.cli.session import operator
from buckler.model.operatorapi.traffic import CounterItem


@click.command()
@click.option(
    "--verdict", type=click.Choice(["allow", "deny", "staged-allow", "staged-deny", "staged-reject"]),
    help="Only with this verdict; staged-: what the staged draft says of the packets.",
)  # fmt: skip
@click.option("--from", "origin", default="", metavar="VM", help="Only sent by this one.", shell_complete=complete_vm)
@click.option("--to", default="", metavar="VM", help="Only sent to this one.", shell_complete=complete_vm)
@tenant_option("Only with a VM of this tenant at an end, by name.")
@output_option("table", "wide", "json")
@click.pass_context
def counters(context: click.Context, verdict: str | None, origin: str, to: str, tenant: str, output: str) -> None:
    """Show how many packets each rule allowed or denied between any two ends, since the VMs are protected.

    Each end's shield counts for itself. Events that busy shields did not tell as flows are counted here all the same.
    Counts know names only: of a name that two tenants have, both are shown to each.

    \b
    Examples:
      buckler counters --verdict deny
      buckler counters --verdict staged-deny
      buckler counters --to db -o json
    """
    with operator(context) as client:
        items = client.counters(verdict or "", origin, to, tenant)
    for item in items:
        if item.verdict == "shed" and item.packets:
            say(f"{item.packets} events of {', '.join(item.hosts)} were shed from flows (counted here)", err=True)
    show(items, output, lambda: counters_table(items), lambda: ())


def counters_table(items: tuple[CounterItem, ...]) -> Table:
    """Make a row of every pair of ends and rule, the most packets first."""
    counted = sorted((item for item in items if item.verdict != "shed"), key=lambda item: -item.packets)
    return Table(
        columns=("FROM", "TO", "VERDICT", "BECAUSE", "PACKETS", "BYTES"),
        rows=tuple(_cells(item) for item in counted),
        wide=("SEEN BY", "HOSTS"),
        empty="nothing is counted",
    )


def _cells(item: CounterItem) -> tuple[str, ...]:
    ends = (item.local, item.peer) if item.direction == "egress" else (item.peer, item.local)
    because = f"{item.policy}/{item.rule}" if item.policy else "no rule: default deny or the shield's own law"
    seen_by = f"{item.local} {item.direction}"
    return (*ends, item.verdict, because, str(item.packets), str(item.bytes), seen_by, ", ".join(item.hosts))
