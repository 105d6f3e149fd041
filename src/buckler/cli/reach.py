"""``reach``: the matrix of everything that may be sent. Selects and writes; computes no verdict."""

from __future__ import annotations

from collections.abc import Iterable

import click

from buckler.cli.complete import complete_vm
from buckler.cli.ends import end_words
from buckler.cli.output import ORDER, Table, output_option, say, show, show_table, tenant_option
from buckler.cli.session import operator
from buckler.model.operatorapi.answers import Outside, PortRange, Reach, ReachPair

NOTHING = "·"
APART = "by prefix"
HOST, WORLD = "host", "world"
MATRIX_LIMIT = 10


@click.command()
@click.option("--from", "origin", default="", metavar="X", help="Only from this one.", shell_complete=complete_vm)
@click.option("--to", default="", metavar="X", help="Only to this one.", shell_complete=complete_vm)
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
    `world` is every address outside; where they have different answers, these are told by prefixes. `host` is the gateway
    that the host serves. X is a VM, an endpoint, `host`, `world`, or an address or prefix outside.

    \b
    Examples:
      buckler reach
      buckler reach --from web1 --list
      buckler reach --to 203.0.113.0/24
    """
    with operator(context) as client:
        answer = client.reach(tenant, origin=origin, to=to)
    for each in answer.notes:
        say(f"note: {each}", err=True)
    listed = as_list or output == "wide" or len(answer.vms) > MATRIX_LIMIT
    if output == "table" and not listed:
        show_table(matrix(answer), grid=True)
        apart = told_apart(answer)
        if apart:
            say("")
            show_table(pairs_table(apart, empty="nothing else outside"))
    else:
        show(answer, output, lambda: pairs_table(answer.pairs), lambda: ())


def matrix(answer: Reach) -> Table:
    """Make a row of every sender and a column of every receiver."""
    cells = {
        (_place(pair.origin), _place(pair.to)): ports_words(pair.allowed) or NOTHING if _is_one(pair) else APART
        for pair in answer.pairs
    }
    senders = _ordered(answer, (origin for origin, _ in cells))
    receivers = _ordered(answer, (to for _, to in cells))
    rows = tuple(
        (
            sender,
            *(
                "" if sender == receiver else cells.get((sender, receiver), _missing(sender, receiver))
                for receiver in receivers
            ),
        )
        for sender in senders
    )
    return Table(columns=("FROM \\ TO", *receivers), rows=rows, empty="no VM is registered yet")


def told_apart(answer: Reach) -> tuple[ReachPair, ...]:
    """Give the pairs that have no cell of their own: with a part of what is outside."""
    return tuple(pair for pair in answer.pairs if not _is_one(pair) and pair.allowed)


def _is_one(pair: ReachPair) -> bool:
    return isinstance(pair.origin, str) and isinstance(pair.to, str)


def _place(end: str | Outside) -> str:
    return end if isinstance(end, str) else WORLD


def _missing(sender: str, receiver: str) -> str:
    """Between the two of which no VM is one, nothing is judged."""
    return "" if {sender, receiver} <= {HOST, WORLD} else "?"


def _ordered(answer: Reach, found: Iterable[str]) -> list[str]:
    """Put ends into the answer's order; those that it does not list come last."""
    known = dict.fromkeys(found)
    return [name for name in answer.vms if name in known] + [name for name in known if name not in answer.vms]


def pairs_table(pairs: Iterable[ReachPair], empty: str = "nobody may send anything to anybody") -> Table:
    """Make a row of every pair that may send anything."""
    rows = tuple(
        (end_words(pair.origin), end_words(pair.to), ports_words(pair.allowed)) for pair in pairs if pair.allowed
    )
    return Table(columns=("FROM", "TO", "MAY SEND"), rows=rows, empty=empty)


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
    name = "other protocols" if protocol in {"any", "other"} else protocol
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
