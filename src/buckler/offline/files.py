"""Files → checked documents, or the end of the command with every problem. Owns no question."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from buckler.cli.output import say
from buckler.cli.session import EXIT_REFUSED, EXIT_USAGE, Failed
from buckler.cli.source import read_sources
from buckler.offline.naming import with_names
from buckler.policy.crosscheck import check_documents
from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.language import Document
from buckler.policy.problem import Problem, Severity
from buckler.policy.referring import settle_problems
from buckler.policy.source import Source
from buckler.policy.timing import parse_moment

F = TypeVar("F", bound=Callable[..., Any])


def inventory_option(function: F) -> F:
    """Add ``--inventory``."""
    return click.option(
        "--inventory", "inventory", multiple=True, metavar="FILE|DIR|-",
        help="VM, Network and Endpoint documents: a file, a folder or - for standard input; may be given again.",
    )(function)  # fmt: skip


def policies_option(function: F) -> F:
    """Add ``-f``."""
    return click.option(
        "-f", "--filename", "policies", multiple=True, metavar="FILE|DIR|-",
        help="Policy documents (and any others): a file, a folder or - for standard input; may be given again.",
    )(function)  # fmt: skip


def read_checked(filenames: Iterable[str]) -> tuple[tuple[Document, ...], tuple[Problem, ...]]:
    """Read files and check them by themselves and against each other: documents, and every problem."""
    sources = [Source(each.name, each.text) for each in read_sources(filenames, EXIT_USAGE)]
    reading = read_documents(sources)
    return reading.documents, settle_problems(reading, check_documents(reading.documents), reading.documents)


def time_option(function: F) -> F:
    """Add ``--at``."""
    return click.option(
        "--at", "at", default="", metavar="TIME",
        help="Ask of another time than now: 2027-01-31T18:00:00Z, or with another offset.",
    )(function)  # fmt: skip


def parse_time(text: str) -> float:
    """Read ``--at``; left out: now."""
    try:
        return parse_moment(text) if text else time.time()
    except ValueError as error:
        raise click.UsageError(f"--at {text!r}: {error}") from error


def read_draft(
    filenames: Iterable[str], exit_code: int = EXIT_REFUSED, at: str = "", names: str | None = None
) -> Draft:
    """Read files whose documents are all right, as they hold at a time; warnings go to standard error. Raises Failed.

    ``names``: the file of ``--names``, empty where none was stated; None: the question has no such option.
    """
    moment = parse_time(at)
    documents, problems = read_checked(filenames)
    errors = [each for each in problems if each.severity is Severity.ERROR]
    if errors:
        raise Failed(count_words(len(errors), "problem"), *map(str, errors), exit_code=exit_code)
    for each in problems:
        say(f"warning: {each}", err=True)
    return draft_pool(documents if names is None else with_names(documents, names, moment), moment)


def count_words(count: int, noun: str) -> str:
    """Write a number of things."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
