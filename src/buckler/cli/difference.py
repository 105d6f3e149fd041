"""What differs between revisions, files and what hosts enforce, asked of the pool. Compares nothing itself."""

from __future__ import annotations

from collections.abc import Iterable

import click

from buckler.cli.apply import change_name, reach_lines, show_warnings
from buckler.cli.output import say, show
from buckler.cli.session import EXIT_USAGE, operator
from buckler.cli.source import read_sources
from buckler.model.operatorapi.documents import ApplyRequest, DiffResult, DocumentDiff
from buckler.model.operatorapi.hosts import HostView
from buckler.model.pool import HostState

SHOWN = 100
"""Documents that are told to people; -o json tells all."""


def diff_pool(context: click.Context, revisions: tuple[int, ...], files: tuple[str, ...], output: str) -> None:
    """Show what differs, and end the command with 0 (nothing) or 1.

    Two revisions: between them. One: from it to the pool as it is. Files: from the pool to the files. Nothing: from what
    hosts enforce to the pool.
    """
    with operator(context, refused=EXIT_USAGE) as client:
        if files:
            result = client.diff(ApplyRequest(files=read_sources(files, EXIT_USAGE), dry_run=True))
        elif revisions:
            result = client.compare(*revisions)
        else:
            status = client.status()
            behind = [each for each in status.hosts if each.state is not HostState.REVOKED]
            for line in running_lines(behind):
                say(line, err=True)
            oldest = min((each.enforced for each in behind if each.enforced), default=0)
            is_done = status.rollout is None or not oldest
            result = DiffResult(()) if is_done else client.compare(oldest)
    show_warnings(result.warnings)
    changed = [each for each in result.documents if each.before != each.after]
    if changed or result.reach or output in ("json", "yaml"):
        show(result, output, lambda: "\n".join(words_of_diff(result)), lambda: map(change_name, changed))
    else:
        say("nothing differs", err=True)
    context.exit(1 if changed or result.reach else 0)


def running_lines(hosts: Iterable[HostView]) -> list[str]:
    """Say what each host enforces."""
    lines = []
    for host in hosts:
        if not host.enforced:
            lines.append(f"{host.name} enforces no revision yet: its VMs stay closed")
        elif host.enforced < host.wanted:
            lines.append(f"{host.name} enforces revision {host.enforced}, wanted {host.wanted} (stage {host.stage})")
        else:
            lines.append(f"{host.name} enforces revision {host.enforced}, as wanted (stage {host.stage})")
    return lines


def words_of_diff(result: DiffResult) -> list[str]:
    """Write which documents differ in which fields, then who gains or loses what."""
    changed = [each for each in result.documents if each.before != each.after]
    lines = [line for each in changed[:SHOWN] for line in document_lines(each)]
    more = len(changed) - SHOWN
    return [*lines, *([f"… and {more} more documents"] if more > 0 else []), *reach_lines(result)]


def document_lines(document: DocumentDiff) -> list[str]:
    """Write what becomes of one document."""
    return [f"{change_name(document)} {document.action}", *(f"  {field}" for field in document.fields)]
