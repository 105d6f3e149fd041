"""How answers are written: tables, JSON, YAML, names. Values in, text out; only ``show`` prints."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
STYLES = {
    "allow": "green", "enforce": "green", "enforced": "green", "active": "green", "running": "green", "yes": "green",
    "deny": "red", "revoked": "red", "lost": "red", "quarantined": "red", "failed": "red",
    "observe": "yellow", "draining": "yellow", "drained": "yellow", "behind": "yellow",
}  # fmt: skip


ORDER = ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6")
"""Of protocols; others come after."""


class Table(NamedTuple):
    """``wide`` columns come after ``columns`` and are shown by ``-o wide`` only; rows hold both."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: tuple[str, ...] = ()
    empty: str = "nothing found"


def printable(text: str) -> str:
    """Escape control characters: names of strangers' domains must not steer the terminal of who looks at them."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(text: str, *, err: bool = False) -> None:
    """Print a line that cannot steer the terminal."""
    click.echo(printable(text), err=err)


def output_option(*formats: str) -> Callable[[F], F]:
    """Add ``-o``; the first format is the default."""
    return click.option(
        "-o", "--output", type=click.Choice(formats), default=formats[0], show_default=True, help="Form of the answer."
    )


def tenant_option(text: str = "Only this tenant's.") -> Callable[[F], F]:
    """Add ``-n``, as kubectl's namespace."""
    return click.option(
        "-n", "--tenant", default="", metavar="TENANT", envvar="BUCKLER_TENANT", show_envvar=True, help=text
    )


def dry_run_option(function: F) -> F:
    """Add ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Check and tell what would happen; change nothing.")(function)


def comment_option(function: F) -> F:
    """Add ``-m``, as git's."""
    return click.option(
        "-m", "--comment", default="", metavar="COMMENT", help="Why: it stays with the revision and in the ledger."
    )(function)


def wait_option(text: str = "As apply.") -> Callable[[F], F]:
    """Add ``--wait``: how long a change may take to reach every reachable host's kernel."""
    return click.option(
        "--wait", type=click.FloatRange(min=0), default=10, show_default=True, metavar="SECONDS", help=text
    )


def show(value: Any, output: str, people: Callable[[], Table | str], names: Callable[[], Iterable[str]]) -> None:
    """Print ``value`` in one of the five forms; ``people`` makes the one that is meant for them."""
    match output:
        case "json":
            say(as_json(value))
        case "yaml":
            say(as_yaml(value).rstrip("\n"))
        case "name":
            for name in names():
                say(name)
        case _:
            answer = people()
            if isinstance(answer, Table):
                show_table(answer, wide=output == "wide")
            else:
                say(answer)


def show_table(table: Table, *, wide: bool = False, grid: bool = False) -> None:
    """Print a table: coloured by rich on a terminal, plain columns elsewhere."""
    if not table.rows:
        say(table.empty, err=True)
    elif sys.stdout.isatty():
        _show_rich(table, wide=wide, grid=grid)
    else:
        say(plain_table(table, wide=wide))


def plain_table(table: Table, *, wide: bool = False) -> str:
    """Write columns three blanks apart, as kubectl does."""
    headings, rows = _cells(table, wide=wide)
    widths = [max(len(row[number]) for row in [headings, *rows]) for number in range(len(headings))]
    lines = [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [headings, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def as_json(value: Any) -> str:
    """Write indented JSON with the API's names."""
    return printable(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def as_yaml(value: Any) -> str:
    """Write YAML with the API's names, in the API's order."""
    import yaml

    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, allow_unicode=True, width=120)


def moment(at: float) -> str:
    """Write a time in UTC to the second, or a dash when there is none."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else "-"


def ago(at: float, now: float) -> str:
    """Write how long ago something was: ``12s``, ``5m``, ``3h``, ``2d``, or ``never``."""
    if not at:
        return "never"
    seconds = max(0, int(now - at))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def words(items: Iterable[str], nothing: str = "-") -> str:
    """Join with commas, or say that there is nothing."""
    return ",".join(items) or nothing


def label_words(labels: dict[str, str]) -> str:
    """Write labels as a selector would read them."""
    return words(f"{key}={value}" for key, value in sorted(labels.items()))


def fields(pairs: Sequence[tuple[str, str]], indent: str = "") -> list[str]:
    """Write ``name:  value`` lines with the values below each other."""
    width = max((len(name) for name, _ in pairs), default=0) + 2
    return [f"{indent}{(name + ':').ljust(width)} {value}".rstrip() for name, value in pairs]


def _cells(table: Table, *, wide: bool) -> tuple[list[str], list[list[str]]]:
    count = len(table.columns) + (len(table.wide) if wide else 0)
    return list((table.columns + table.wide)[:count]), [[_cell(text) for text in row[:count]] for row in table.rows]


def _cell(text: str) -> str:
    return printable(" ".join(text.split("\n")))


def _show_rich(table: Table, *, wide: bool, grid: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    headings, rows = _cells(table, wide=wide)
    screen = RichTable(box=box.SQUARE if grid else None, pad_edge=grid, show_lines=grid, header_style="bold")
    for heading in headings:
        screen.add_column(heading, overflow="fold")
    for row in rows:
        screen.add_row(*(Text(cell, style=STYLES.get(cell.split(" ")[0].lower(), "")) for cell in row))
    Console().print(screen)
