"""``reach``: the matrix of everything that may be sent. Selects and writes; computes no verdict."""

from __future__ import annotations

from collections.abc import Iterable

import click
import msgspec

from buckler.cli.complete import complete_vm
from buckler.cli.output import Table, output_option, show, show_table, tenant_option, words
from buckler.cli.session import Failed, operator
from buckler.model.operatorapi.answers import PortRange, Reach, ReachPair

NOTHING = "·"
MATRIX_LIMIT = 10
ORDER = ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6")


@click.command()
@click.option("--from", "origin", default="", metavar="VM", help="Only from this one.", shell_complete=complete_vm)
@click.option("--to", default="", metavar="VM", help="Only to this one.", shell_complete=complete_vm)
@click.option(
    "--list", "as_list", is_flag=True, help="A line for each pair that may send something, instead of a matrix."
)
@tenant_option()
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def reach(context: click.Context, origin: str, to: str, as_list: bool, tenant: str, output: str) -> None:
    """Show what every VM may send to every other, both ends' shields considered.

    The row sends, the column receives; `·` means nothing. Ports are those of the receiver; answers to an allowed
    connection are always allowed. From more than ten VMs on, and with -o wide, it is a list.
    `world` is an address outside that no document names: of prefixes and groups that one names, `buckler policy reach` and `explain` tell.

    \b
    Examples:
      buckler reach
      buckler reach --from web1 --list
    """
    with operator(context) as client:
        answer = client.reach(tenant)
    for end in filter(None, (origin, to)):
        if end not in ends(answer):
            raise Failed(f"no such end: {end!r}", f"known here: {words(sorted(ends(answer)), 'none')}")
    answer = select(answer, origin, to)
    listed = as_list or output == "wide" or len(answer.vms) > MATRIX_LIMIT
    if output == "table" and not listed:
        show_table(matrix(answer), grid=True)
    else:
        show(answer, output, lambda: pairs_table(answer.pairs), lambda: ())


def select(answer: Reach, origin: str, to: str) -> Reach:
    """Keep the pairs from and to the given ones (empty: all)."""
    pairs = tuple(pair for pair in answer.pairs if origin in ("", pair.origin) and to in ("", pair.to))
    return msgspec.structs.replace(answer, pairs=pairs)


def ends(answer: Reach) -> set[str]:
    """Name everything that may stand as a row or a column."""
    return {*answer.vms, *(end for pair in answer.pairs for end in (pair.origin, pair.to))}


def matrix(answer: Reach) -> Table:
    """Make a row of every sender and a column of every receiver."""
    cells = {(pair.origin, pair.to): ports_words(pair.allowed) or NOTHING for pair in answer.pairs}
    senders = _ordered(answer, (origin for origin, _ in cells))
    receivers = _ordered(answer, (to for _, to in cells))
    rows = tuple(
        (sender, *("" if sender == receiver else cells.get((sender, receiver), "?") for receiver in receivers))
        for sender in senders
    )
    return Table(columns=("FROM \\ TO", *receivers), rows=rows, empty="no VM is registered yet")


def _ordered(answer: Reach, found: Iterable[str]) -> list[str]:
    """Put ends into the answer's order; those that it does not list come last."""
    known = dict.fromkeys(found)
    return [name for name in answer.vms if name in known] + [name for name in known if name not in answer.vms]


def pairs_table(pairs: Iterable[ReachPair]) -> Table:
    """Make a row of every pair that may send anything."""
    rows = tuple((pair.origin, pair.to, ports_words(pair.allowed)) for pair in pairs if pair.allowed)
    return Table(columns=("FROM", "TO", "MAY SEND"), rows=rows, empty="nobody may send anything to anybody")


def ports_words(allowed: tuple[PortRange, ...]) -> str:
    """Write ranges as ``TCP 80,443; ICMP``; everything is ``all``."""
    whole = {span.protocol for span in allowed if (span.port, span.end_port) == (0, 65535)}
    if "any" in whole and {span.protocol for span in allowed} <= whole and (len(whole) == 1 or set(ORDER) <= whole):
        return "all"
    protocols = sorted(dict.fromkeys(span.protocol for span in allowed), key=_rank)
    return "; ".join(_protocol_words(name, [span for span in allowed if span.protocol == name]) for name in protocols)


def _rank(protocol: str) -> tuple[int, str]:
    return (ORDER.index(protocol) if protocol in ORDER else len(ORDER), protocol)


def _protocol_words(protocol: str, spans: list[PortRange]) -> str:
    name = "other protocols" if protocol == "any" else protocol
    if any((span.port, span.end_port) == (0, 65535) for span in spans):
        return name
    write = _icmp_words if protocol in ("ICMP", "ICMPv6") else _span_words
    return f"{name} {','.join(write(span) for span in sorted(spans, key=lambda span: span.port))}"


def _span_words(span: PortRange) -> str:
    return str(span.port) if span.port == span.end_port else f"{span.port}-{span.end_port}"


def _icmp_words(span: PortRange) -> str:
    """Write a type, with its code unless all codes are meant."""
    first, last = divmod(span.port, 256), divmod(span.end_port, 256)
    if first[1] == 0 and last[1] == 255:
        return f"type {first[0]}" if first[0] == last[0] else f"type {first[0]}-{last[0]}"
    if first == last:
        return f"type {first[0]} code {first[1]}"
    return f"type {first[0]} code {first[1]} to type {last[0]} code {last[1]}"
