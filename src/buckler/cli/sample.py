"""``vm samples`` and ``vm top``: what VMs use, as rates. Shows samples; measures nothing."""

from __future__ import annotations

import itertools
import time

import click

from buckler.cli.complete import complete_vm
from buckler.cli.output import Table, moment, output_option, show, tenant_option
from buckler.cli.session import looking_for, operator
from buckler.model.operatorapi.traffic import SampleItem, VmLoad

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COLUMNS = ("CPU", "MEMORY", "READ", "WRITTEN", "SENT", "RECEIVED", "REFUSED")


@click.command()
@click.argument("name", shell_complete=complete_vm)
@click.option(
    "--since", default="10m", show_default=True, metavar="AGO", help="How far back: 30s, 10m, 6h, 2d, or a Unix time."
)
@click.option("--limit", type=click.IntRange(1, 10_000), help="Only the newest samples.")
@tenant_option("The VM's tenant (default: default).")
@output_option("table", "wide", "json")
@click.pass_context
def samples(context: click.Context, name: str, since: str, limit: int | None, tenant: str, output: str) -> None:
    """Show what a VM used, over all hosts it was on: each line the rates since the sample before it.

    CPU is of one core; SENT and RECEIVED are packets that its shields let pass, REFUSED those that they did not. With
    -o json the totals, which never go back.

    \b
    Examples:
      buckler vm samples web1
      buckler vm samples web1 --since 6h -o json
    """
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        items = client.samples(name, tenant, parse_since(since, time.time()), limit or 0)
    show(items, output, lambda: samples_table(items), lambda: ())


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 86400), default=60, show_default=True, help="Rates over this time.")
@tenant_option()
@output_option("table", "json")
@click.pass_context
def top(context: click.Context, seconds: float, tenant: str, output: str) -> None:
    """Show what every VM of the pool uses now, the busiest first.

    \b
    Example:
      buckler vm top
    """
    with operator(context) as client:
        loads = client.load(tenant, seconds)
    show(loads, output, lambda: load_table(loads), lambda: ())


def parse_since(text: str, now: float) -> float:
    """Read ``30s``, ``10m``, ``6h``, ``2d`` ago, or a Unix time."""
    number, unit = (text[:-1], UNITS.get(text[-1])) if text[-1:].isalpha() else (text, None)
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e12 or (text[-1:].isalpha() and unit is None):
        raise click.UsageError(f"{text!r}: write --since 30s, 10m, 6h, 2d or a Unix time")
    return value if unit is None else max(now - value * unit, 0.0)


def samples_table(items: tuple[SampleItem, ...]) -> Table:
    """Make a row of every sample but the first, which has none before it."""
    rows = tuple(
        (moment(later.at), later.host, *rates(earlier, later), *totals(later))
        for earlier, later in itertools.pairwise(items)
    )
    wide = ("CPU SECONDS", "PACKETS SENT", "PACKETS RECEIVED", "PACKETS REFUSED")
    return Table(("TIME", "HOST", *COLUMNS), rows, wide, "no samples are recorded for that time")


def load_table(loads: tuple[VmLoad, ...]) -> Table:
    """Make a row of every VM, also of those that have no samples."""
    rows = [
        (
            each.tenant,
            each.vm,
            "-" if each.last is None else each.last.host,
            *(("-",) * len(COLUMNS) if each.last is None or each.earlier is None else rates(each.earlier, each.last)),
        )
        for each in sorted(loads, key=_busy)
    ]
    return Table(("TENANT", "NAME", "HOST", *COLUMNS), tuple(rows), (), "no VM is registered yet")


def rates(earlier: SampleItem, later: SampleItem) -> tuple[str, ...]:
    """What went on a second between two samples, in words; memory as it was at the later one."""
    seconds = max(later.at - earlier.at, 1e-3)

    def rate(name: str) -> float:
        return float(max(getattr(later, name) - getattr(earlier, name), 0)) / seconds

    return (
        f"{100 * rate('cpu_seconds'):.0f}%",
        size(later.memory),
        f"{size(rate('read_bytes'))}/s",
        f"{size(rate('written_bytes'))}/s",
        f"{rate('sent_packets'):.0f}/s {size(rate('sent_bytes'))}/s",
        f"{rate('received_packets'):.0f}/s {size(rate('received_bytes'))}/s",
        f"{rate('refused_packets'):.0f}/s",
    )


def totals(item: SampleItem) -> tuple[str, ...]:
    """What it all came to, for the wide form."""
    return (
        f"{item.cpu_seconds:.1f}",
        str(item.sent_packets),
        str(item.received_packets),
        str(item.refused_packets),
    )


def size(octets: float) -> str:
    """Write a number of bytes short: ``12B``, ``1.5K``, ``20M``."""
    value = float(octets)
    for unit in ("B", "K", "M", "G"):
        if value < 1000:
            return f"{value:.0f}{unit}" if unit == "B" or value >= 10 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def _busy(load: VmLoad) -> tuple[float, str]:
    if load.last is None or load.earlier is None:
        return (1.0, load.vm)
    seconds = max(load.last.at - load.earlier.at, 1e-3)
    return (-(load.last.cpu_seconds - load.earlier.cpu_seconds) / seconds, load.vm)
