"""Learned answers for names: listing the pool's, and taking a list of them where only files are asked. Learns nothing."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from buckler.cli.output import Table, output_option, say, show
from buckler.cli.session import EXIT_USAGE, Failed, operator
from buckler.model.operatorapi.answers import NameAnswer
from buckler.policy.language import Document
from buckler.policy.learned import Learned, learned_groups, patterns_of

F = TypeVar("F", bound=Callable[..., Any])


def names_option(function: F) -> F:
    """Add ``--names``."""
    return click.option(
        "--names", "names", default="", metavar="FILE",
        help="What names stand for: answers as `policy names -o json` lists them; those that ended open nothing. Else a name means nobody.",
    )(function)  # fmt: skip


@click.command()
@output_option("table", "json", "yaml")
@click.pass_context
def names(context: click.Context, output: str) -> None:
    """List what VMs were answered for names that policies mean, who was told it, by which resolver, and how long it holds."""
    with operator(context) as client:
        found = client.names()
    show(found, output, lambda: names_table(found, time.time()), lambda: (each.name for each in found))


def names_table(found: Iterable[NameAnswer], now: float) -> Table:
    """Make a row of every answer."""
    rows = tuple(
        (each.name, each.address, each.network, each.vm, each.resolver, _span(now - each.at), _span(each.until - now))
        for each in found
    )
    columns = ("NAME", "ADDRESS", "NETWORK", "TOLD TO", "BY", "AGE", "HOLDS FOR")
    return Table(columns, rows, empty="no answer was learned")


def with_names(documents: tuple[Document, ...], filename: str, moment: float) -> tuple[Document, ...]:
    """Add what a file says of names at a time, or say that they mean nobody. Raises Failed."""
    patterns = sorted(frozenset[str]().union(*map(patterns_of, documents)))
    if not filename:
        if patterns:
            text = ", ".join(patterns[:3]) + (", …" if len(patterns) > 3 else "")
            say(f"warning: names of the outside world mean nobody here ({text}): state --names FILE", err=True)
        return documents
    found = _read(filename)
    holding = tuple(each for each in found if not each.until or each.until > moment)
    if len(holding) < len(found):
        ended = f"{len(found) - len(holding)} of {len(found)} answers in {filename} have ended by then and open nothing"
        say(f"warning: {ended}: list them anew, or ask of an earlier time with --at", err=True)
    return (*documents, *learned_groups(documents, map(_learned, holding)))


def _read(filename: str) -> tuple[NameAnswer, ...]:
    try:
        found = msgspec.json.decode(Path(filename).read_bytes(), type=tuple[NameAnswer, ...])
        for each in found:
            ipaddress.ip_address(each.address)
    except (OSError, ValueError) as error:
        raise Failed(f"{filename} is no list of answers", str(error), exit_code=EXIT_USAGE) from error
    return found


def _learned(each: NameAnswer) -> Learned:
    address = str(ipaddress.ip_address(each.address))
    return Learned(each.name, each.network, address, 0, each.vm, each.resolver, each.at)


def _span(seconds: float) -> str:
    minutes = max(int(seconds // 60), 0)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
