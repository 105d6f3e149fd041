"""``apply`` and ``diff``: documents from files into the pool. Checks nothing itself: the controller does, all at once."""

from __future__ import annotations

import difflib
from typing import Any

import click

from buckler.cli.ends import end_words
from buckler.cli.output import (
    ORDER,
    as_yaml,
    comment_option,
    dry_run_option,
    output_option,
    say,
    show,
    wait_option,
    words,
)
from buckler.cli.session import EXIT_UNFINISHED, EXIT_USAGE, Failed, issue_lines, operator
from buckler.cli.source import files_option, read_sources
from buckler.model.operatorapi.body import HostWait, Issue
from buckler.model.operatorapi.documents import (
    ApplyRequest,
    ApplyResult,
    Change,
    DiffResult,
    DocumentDiff,
    ReachCount,
)

SHOWN = 200
"""Pairs that are listed for people; -o json lists more."""
EMPTY = "what -f names holds no document"


@click.command()
@files_option(required=True)
@dry_run_option
@wait_option("How long to wait until every reachable host enforces it in its kernel; 0: only until it is committed.")
@comment_option
@output_option("table", "json", "yaml", "name")
@click.pass_context
def apply(
    context: click.Context, filenames: tuple[str, ...], dry_run: bool, wait: float, comment: str, output: str
) -> None:
    """Create or replace documents from files, all or nothing.

    Everything named by -f is one change: if one document has a problem, all problems are told and nothing is applied.
    Documents that are in the pool but not in the files stay as they are.

    \b
    Examples:
      buckler apply -f examples/shop/
      buckler apply -f web.yaml --dry-run
      buckler apply -f web.yaml -m "the shop takes cards"
      cat web.yaml | buckler apply -f -

    Exit codes: 0 applied and enforced, 1 refused, 4 applied, but some host does not enforce it yet.
    """
    sources = read_sources(filenames)
    with operator(context) as client:
        result = client.apply(ApplyRequest(files=sources, dry_run=dry_run, wait=wait, comment=comment))
    if not result.changes:
        raise Failed(f"nothing was applied: {EMPTY}")
    report(result, output, wait=wait)


def report(result: ApplyResult, output: str = "table", *, wait: float = 0) -> None:
    """Print the result of a change; ends the command when hosts are behind after ``wait`` seconds."""
    show_warnings(result.warnings)
    show(
        result,
        output,
        lambda: "\n".join(result_lines(result, waited=wait > 0)),
        lambda: map(change_name, result.changes),
    )
    if result.waiting and wait:
        raise Failed(*waiting_lines(result.waiting), exit_code=EXIT_UNFINISHED)


def show_warnings(warnings: tuple[Issue, ...]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        say("warning:" + "\n".join(issue_lines(warning))[1:], err=True)


def change_name(change: Change | DocumentDiff) -> str:
    """Write ``kind/name``, with the tenant where it is not the default one."""
    name = f"{change.kind.lower()}/{change.name}"
    return name if change.tenant == "default" else f"{name} (tenant {change.tenant})"


def result_lines(result: ApplyResult, *, waited: bool) -> list[str]:
    """Write what became of each document, and the revision. Only who waited for the hosts speaks about them."""
    suffix = " (dry run)" if result.dry_run else ""
    lines = [f"{change_name(change)} {change.action}{suffix}" for change in result.changes]
    if result.revision and not result.dry_run:
        where = ", and no host is behind" if waited and not result.waiting else ""
        lines.append(f"revision {result.revision} committed{where}")
    return lines or ["nothing to do"]


def waiting_lines(waiting: tuple[HostWait, ...]) -> list[str]:
    """Write which hosts are behind, and why."""
    lines = [f"committed, but not yet enforced by {words(host.host for host in waiting)}"]
    for host in waiting:
        reason = f" ({host.reason})" if host.reason else ""
        lines.append(f"  {host.host} enforces revision {host.enforced}, wanted {host.wanted}{reason}")
    return lines


@click.command()
@files_option(required=True)
@output_option("table", "json", "yaml", "name")
@click.pass_context
def diff(context: click.Context, filenames: tuple[str, ...], output: str) -> None:
    """Show what apply would change: documents line by line, and what may be sent afterwards.

    Between VMs, endpoints and addresses outside: by prefixes that change alike, `world` where all of them do.

    \b
    Example:
      buckler diff -f examples/shop/ || echo "there is something to apply"

    Exit codes: 0 nothing would change, 1 something would, 2 or more: the documents have problems, or no answer.
    """
    try:
        sources = read_sources(filenames)
    except Failed as failed:
        raise Failed(*failed.lines, exit_code=EXIT_USAGE) from failed
    with operator(context, refused=EXIT_USAGE) as client:
        result = client.diff(ApplyRequest(files=sources, dry_run=True))
    if not result.documents:
        raise Failed(EMPTY, exit_code=EXIT_USAGE)
    show_warnings(result.warnings)
    changed = [document for document in result.documents if document.before != document.after]
    if changed or output in ("json", "yaml"):
        show(result, output, lambda: "\n".join(diff_lines(result)), lambda: map(change_name, changed))
    context.exit(1 if changed else 0)


def diff_lines(result: DiffResult, names: tuple[str, str] = ("pool", "files")) -> list[str]:
    """Write a unified diff of the documents, then what changes between VMs. ``names``: of the two states."""
    lines: list[str] = []
    for document in result.documents:
        before, after = _lines(document.before), _lines(document.after)
        name = change_name(document)
        one, other = (f"{each}/{name}" for each in names)
        lines += difflib.unified_diff(before, after, one, other, lineterm="")
    return [*lines, *reach_lines(result)]


def reach_lines(result: DiffResult, most: int = SHOWN) -> list[str]:
    """Write who gains or loses what: the first pairs, and how many there are."""
    lines = ["", "What may be sent:"] if result.reach else []
    for pair in result.reach[:most]:
        ends = f"{end_words(pair.origin)} → {end_words(pair.to)}"
        lines.append(f"  {ends}: {sent_words(pair.before)} ⇒ {sent_words(pair.after)}")
    count = result.count
    more = count.changed - min(len(result.reach), most)
    lines += [f"  … and {more} more pairs"] if more > 0 else []
    if count.changed:
        lines.append(f"  {count_line(count)}")
    if not count.complete:
        lines.append("  This is not all: there are too many different VMs to compare every pair.")
    return lines


def sent_words(told: tuple[str, ...]) -> str:
    """Write what may be sent as ``reach`` does: ``TCP 80,443; ICMP``."""
    if told == ("any",):
        return "all"
    found: dict[str, list[str]] = {}
    for protocol, _, numbers in (each.partition(" ") for each in told):
        found.setdefault(protocol, []).append(numbers)
    ordered = sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    names = {"other": "other protocols"}
    return "; ".join(f"{names.get(each, each)} {','.join(found[each])}".strip() for each in ordered) or "nothing"


def count_line(count: ReachCount) -> str:
    """Count each pair once: those that only gain, those that only lose, those that do both."""
    both = count.gaining + count.losing - count.changed
    parts = ((count.gaining - both, "gain"), (count.losing - both, "lose"), (both, "gain some and lose some"))
    told = ", ".join(f"{number} {what}" for number, what in parts if number)
    return f"{count.changed} {'pair differs' if count.changed == 1 else 'pairs differ'}: {told}"


def _lines(document: dict[str, Any] | None) -> list[str]:
    return as_yaml(document).splitlines() if document else []
