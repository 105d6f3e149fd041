"""``buckler policy library`` and ``tightens``: shipped policies, and whether an edit of one is stricter. Words only."""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

from buckler.cli.output import Table, output_option, say, show
from buckler.cli.session import EXIT_USAGE, Failed
from buckler.offline.files import policies_option, read_draft
from buckler.policy.crosscheck import check_documents
from buckler.policy.draft import Draft
from buckler.policy.form import document_to_dict
from buckler.policy.instances import packet_words
from buckler.policy.language import API_VERSION, Document
from buckler.policy.problem import Problem, Severity, has_errors
from buckler.policy.shelf import BadParameters, Shipped, check_shipped, list_shipped, write_shipped
from buckler.policy.tighten import Undecided, find_loosening

_WORD = re.compile(r"[-A-Za-z0-9_./]+")


@click.command()
@click.argument("name", required=False)
@click.option("--set", "given", multiple=True, metavar="PARAMETER=WORD", help="A parameter; may be given again.")
@output_option("table", "json", "yaml")
def library(name: str | None, given: tuple[str, ...], output: str) -> None:
    """List the shipped policies; with NAME and its parameters, print one as documents for `apply`.

    \b
    Example:
      buckler policy library default-deny-tenant --set tenant=shop --set owner=shop-team --set review=2027-06-30

    Exit codes: 0 told, 1 a parameter is missing or wrong, or there is no such policy.
    """
    shipped = list_shipped()
    if name is None:
        show(tuple(shipped.values()), output, lambda: _table(shipped), lambda: shipped)
        return
    if name not in shipped:
        raise Failed(f"the library has no {name!r}", f"it has: {', '.join(shipped)}")
    try:
        values = dict(_pair(each) for each in given)
        text = write_shipped(shipped[name], values)
    except BadParameters as bad:
        raise Failed(f"{name} cannot be written", *bad.args) from bad
    reading = check_shipped(name, text)
    found = reading.problems if has_errors(reading.problems) else check_documents(reading.documents)
    wrong = [_blamed(each, values, text) for each in found if each.severity is Severity.ERROR]
    if wrong:
        raise Failed(f"{name} cannot be written", *dict.fromkeys(wrong))
    documents = {
        "apiVersion": API_VERSION,
        "kind": "List",
        "items": [document_to_dict(each) for each in reading.documents],
    }
    show(documents, "json" if output == "json" else "table", lambda: text.rstrip("\n"), tuple)


@click.command()
@click.option(
    "--against",
    "against",
    multiple=True,
    required=True,
    metavar="FILE|DIR",
    help="The policies that must not be loosened.",
)
@policies_option
def tightens(against: tuple[str, ...], policies: tuple[str, ...]) -> None:
    """Say whether the policies of -f allow nothing that those of --against do not, in any pool there could be.

    It is decided exactly, for every set of labels that a VM may ever have. Otherwise one packet is named that only -f allows.

    Exit codes: 0 nothing more is allowed, 1 something is, 2 wrong usage or documents, or too many labels to decide.
    """
    old, new = (_written(read_draft(each, EXIT_USAGE)) if each else () for each in (against, policies))
    try:
        found = find_loosening(old, new)
    except Undecided as undecided:
        raise Failed(
            str(undecided), "nothing is called tighter that was not decided", exit_code=EXIT_USAGE
        ) from undecided
    if found is None:
        say("nothing is allowed that was not allowed before")
        return
    raise Failed(f"{packet_words(found)} was not allowed before")


def _blamed(problem: Problem, given: Mapping[str, str], text: str) -> str:
    """Name the parameter whose word is told to be wrong; its place in what was not printed helps nobody."""
    line = text.splitlines()[problem.line - 1] if problem.line else ""
    told, written = (set(_WORD.findall(each)) for each in (problem.message, line))
    names = [[f"{name}={value}" for name, value in given.items() if value in words] for words in (told, written)]
    where = " or ".join(names[0] or names[1]) or problem.path
    return f"{where}: {problem.message}" + (f" ({problem.hint})" if problem.hint else "")


def _written(draft: Draft) -> tuple[Document, ...]:
    """Give all documents, whatever time it is: tighter is tighter at any time."""
    return (*draft.documents, *draft.over)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"{text!r}: write PARAMETER=WORD")
    return name, value


def _table(shipped: dict[str, Shipped]) -> Table:
    rows = tuple(
        (
            each.name,
            each.purpose,
            ", ".join(one.name if one.default is None else f"{one.name}={one.default}" for one in each.parameters),
        )
        for each in shipped.values()
    )
    return Table(("NAME", "WHAT IT DOES", "PARAMETERS"), rows)
