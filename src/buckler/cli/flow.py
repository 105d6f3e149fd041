"""``flows``: connections and refusals as the shields saw them. Shows records; judges nothing."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import NamedTuple

import click
import msgspec

from buckler.cli.complete import complete_vm
from buckler.cli.output import Table, moment, output_option, say, show, tenant_option
from buckler.cli.session import operator
from buckler.client.operator import OperatorClient
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.traffic import FlowItem

PORTED = ("TCP", "UDP", "SCTP")
# What decided when no rule did and the reason's own word says too little.
LAWS = {"": "no rule: default deny", "policy": "no rule: default deny", "infra": "a hypervisor host's address",
        "service": "not what the virtual address serves", "no-member": "nobody stands behind the virtual address"}  # fmt: skip
WIDTHS = (20, 7, 16, 16, 11, 0)


class _Wanted(NamedTuple):
    """Empty: any."""

    verdict: str
    origin: str
    to: str
    tenant: str


@click.command()
@click.option("--follow", is_flag=True, help="Go on showing new ones, until interrupted.")
@click.option(
    "--verdict", type=click.Choice(["allow", "deny", "observed"]),
    help="Only with this verdict; observed: what passed only because the VM's shield observes.",
)  # fmt: skip
@click.option("--from", "origin", default="", metavar="VM", help="Only sent by this one.", shell_complete=complete_vm)
@click.option("--to", default="", metavar="VM", help="Only sent to this one.", shell_complete=complete_vm)
@tenant_option("Only with a VM of this tenant at an end, by name.")
@click.option("--tail", type=click.IntRange(min=0), default=100, show_default=True, help="How many of the newest.")
@output_option("table", "wide", "json")
@click.pass_context
def flows(
    context: click.Context,
    follow: bool,
    verdict: str | None,
    origin: str,
    to: str,
    tenant: str,
    tail: int,
    output: str,
) -> None:
    """Show connections and refusals by name, as the shields saw them, oldest first.

    Each end's shield records its own view: an allowed connection between two VMs appears twice.
    Records know names only: of a name that two tenants have, both are shown to each.

    \b
    Examples:
      buckler flows --verdict deny --to db
      buckler flows --follow --from web1
      buckler flows --verdict observed
    """
    wanted = _Wanted(verdict or "", origin, to, tenant)
    with operator(context) as client:
        if follow:
            with suppress(KeyboardInterrupt):
                _follow(client, wanted, tail, output)
            return
        items = _newest(client, wanted, tail)
    _warn_shed(items)
    show(items, output, lambda: flows_table(items), lambda: ())


def _newest(client: OperatorClient, wanted: _Wanted, tail: int) -> tuple[FlowItem, ...]:
    return client.flows(wanted.verdict, wanted.origin, wanted.to, limit=tail, tenant=wanted.tenant) if tail else ()


def _follow(client: OperatorClient, wanted: _Wanted, tail: int, output: str) -> None:
    before = client.flows(limit=1)
    items = _newest(client, wanted, tail)
    after = max((item.cursor for item in (*before, *items)), default=0)
    new = client.follow_flows(wanted.verdict, wanted.origin, wanted.to, after=after, tenant=wanted.tenant)
    for item in chain(items, new):
        _warn_shed((item,))
        say(msgspec.json.encode(item).decode() if output == "json" else flow_line(item, wide=output == "wide"))


def _warn_shed(items: tuple[FlowItem, ...]) -> None:
    shed = sum(item.shed for item in items)
    if shed:
        say(f"warning: {shed} events were shed by busy shields and are not shown (counters have them)", err=True)


def flows_table(items: tuple[FlowItem, ...]) -> Table:
    """Make a row of every record."""
    return Table(
        columns=("TIME", "VERDICT", "FROM", "TO", "PORT", "BECAUSE"),
        rows=tuple(_cells(item.flow) for item in items),
        wide=("SEEN BY", "SOURCE", "DESTINATION", "PACKETS", "BYTES", "HOST"),
        empty="no flow is recorded",
    )


def flow_line(item: FlowItem, *, wide: bool) -> str:
    """Write one record as a line whose columns stay where they are."""
    cells = _cells(item.flow)
    line = " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False))
    return "  ".join((line, *cells[len(WIDTHS) :])) if wide else line


def _cells(flow: FlowRecord) -> tuple[str, ...]:
    is_ported = flow.protocol.upper() in PORTED
    ends = (flow.local, flow.peer) if flow.direction == "egress" else (flow.peer, flow.local)
    return (
        moment(flow.at),
        flow.verdict,
        *ends,
        port_of(flow),
        because(flow) + marks(flow),
        f"{flow.local} {flow.direction}",
        _address(flow.source, flow.source_port if is_ported else 0),
        _address(flow.destination, flow.destination_port if is_ported else 0),
        str(flow.packets),
        str(flow.bytes),
        flow.host,
    )


def port_of(flow: FlowRecord) -> str:
    """Write protocol and destination port; of ICMP the type, as ``explain`` takes it."""
    if flow.protocol.upper() in PORTED:
        return f"{flow.protocol.upper()} {flow.destination_port}"
    if flow.protocol in ("icmp", "icmpv6"):
        return f"{flow.protocol}/{flow.destination_port >> 8}"
    return flow.protocol


def because(flow: FlowRecord) -> str:
    """Say what decided: a rule of a policy, the shield's own law, or the default."""
    if flow.reason == "observed":
        return f"only observed, {flow.policy}/{flow.rule}" if flow.policy else "only observed, no rule: default deny"
    if flow.policy:
        return f"{flow.policy}/{flow.rule}"
    return LAWS.get(flow.reason, flow.reason)


def marks(flow: FlowRecord) -> str:
    """Say whether a rule logs it, whether a refusal was answered, the Service, and what a draft says that says another thing."""
    words = [word for word, is_so in (("logged", flow.logged), ("answered", flow.answered)) if is_so]
    if flow.service:
        words.append(f"through Service {flow.service}")
    if flow.staged and flow.staged != ("reject" if flow.answered else flow.verdict):
        words.append(f"staged: {flow.staged}, {_draft_rule(flow)}")
    return f" ({'; '.join(words)})" if words else ""


def _draft_rule(flow: FlowRecord) -> str:
    return f"{flow.staged_policy}/{flow.staged_rule}" if flow.staged_policy else "no rule"


def _address(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
