"""A command's conversation with the controller, and what a failure looks like and exits with. Knows no command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import click

from buckler.cli.output import printable

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient
    from buckler.model.operatorapi.body import Issue, Problem

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_UNFINISHED = 4
EXIT_UNVERIFIED = 5


class Failed(click.ClickException):
    """The end of a command: every reason goes to standard error, ``exit_code`` to the shell."""

    def __init__(self, *lines: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(lines[0] if lines else "failed")
        self.lines = lines
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the reasons."""
        for number, line in enumerate(self.lines):
            click.echo(printable(f"error: {line}" if number == 0 else line), file=file, err=file is None)


@contextmanager
def operator(context: click.Context, refused: int = EXIT_REFUSED) -> Iterator[OperatorClient]:
    """Open the client of the operator API; a refusal ends the command with ``refused`` and every reason."""
    from buckler.client.operator import OperatorClient, OperatorFailed
    from buckler.model.operatorapi import SOCKET

    with OperatorClient(context.meta.get("buckler.socket") or SOCKET) as client:
        try:
            yield client
        except OperatorFailed as failed:
            raise Failed(*problem_lines(failed.problem), exit_code=exit_code_of(failed.problem, refused)) from failed


@contextmanager
def looking_for(client: OperatorClient, kind: str, name: str, tenant: str) -> Iterator[None]:
    """Within this block, a name that is not found is also looked for in other tenants: told as a hint, never guessed."""
    from buckler.client.operator import OperatorFailed

    try:
        yield
    except OperatorFailed as failed:
        if failed.problem.status != 404 or tenant:
            raise
        items = [item.document["metadata"] for item in client.documents(kind)]
        found = sorted({each.get("tenant", "default") for each in items if each["name"] == name})
        if not found:
            raise
        hints = [f"  hint: tenant {each} has one: -n {each}" for each in found]
        raise Failed(*problem_lines(failed.problem), *hints) from failed


def exit_code_of(problem: Problem, refused: int = EXIT_REFUSED) -> int:
    """Tell a refusal from a controller that is away or broken (no answer, or 5xx)."""
    return EXIT_UNREACHABLE if problem.status == 0 or problem.status >= 500 else refused


def problem_lines(problem: Problem) -> list[str]:
    """Write a problem for people: what, why, then each single problem with its place and hint."""
    lines = [": ".join(part for part in (problem.title, problem.detail) if part)]
    if problem.status == 0:
        lines.append("  hint: is a controller running on this host (`buckler up`), and are you root? See --socket.")
    for issue in problem.problems:
        lines += issue_lines(issue)
    return lines


def issue_lines(issue: Issue) -> list[str]:
    """Write one problem as ``file:line: path: message`` and its hint below."""
    place = f"{issue.file}:{issue.line}" if issue.file and issue.line else issue.file
    lines = ["  " + ": ".join(part for part in (place, issue.path, issue.message) if part)]
    return [*lines, f"      hint: {issue.hint}"] if issue.hint else lines
