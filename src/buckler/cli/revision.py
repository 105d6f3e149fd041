"""``buckler policy revisions`` and ``show``: what the pool's documents were, by number. Changes nothing."""

from __future__ import annotations

import click

from buckler.cli.output import Table, as_yaml, fields, moment, output_option, say, show, words
from buckler.cli.session import operator
from buckler.model.operatorapi.revisions import ChangeCount, RevisionItem, RevisionView

_SHOWN = 100
_CUT = 48


@click.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, newest first.")
@click.option("--below", type=click.IntRange(0), default=0, metavar="REVISION", help="Only older ones than this.")
@output_option("table", "wide", "json", "yaml", "name")
@click.pass_context
def revisions(context: click.Context, limit: int, below: int, output: str) -> None:
    """List the revisions of the pool's documents: when, who, why, and what changed.

    Every apply, delete and label makes one, and none is ever altered. Numbers between are revisions that changed no
    document: something was published, a host drained, a VM put in quarantine. Long comments and changes are cut: -o wide has
    them whole.
    """
    with operator(context) as client:
        page = client.revisions(below, limit)
    show(page, output, lambda: revisions_table(page.items), lambda: (str(each.revision) for each in page.items))


@click.command("show")
@click.argument("revision", type=click.IntRange(1), metavar="REVISION")
@output_option("table", "json", "yaml", "name")
@click.pass_context
def show_revision(context: click.Context, revision: int, output: str) -> None:
    """Show the documents of a revision. With -o yaml as documents that can be applied again.

    Exit codes: 0 shown, 1 there is no such revision, or its documents were not recorded.
    """
    with operator(context) as client:
        view = client.revision(revision)
    if output == "yaml":
        say("---\n".join(map(as_yaml, view.documents)).rstrip("\n"))
    else:
        show(view, output, lambda: "\n".join(view_lines(view)), lambda: map(_name, view.documents))


def revisions_table(items: tuple[RevisionItem, ...]) -> Table:
    """Make a row of every revision."""
    rows = tuple(
        (
            *(str(each.revision), moment(each.at), each.actor, _cut(each.comment) or "-", _cut(short_words(each))),
            *(each.cause, each.comment or "-", changes_words(each)),
        )
        for each in items
    )
    return Table(
        ("REVISION", "WHEN", "WHO", "COMMENT", "WHAT CHANGED"),
        rows,
        wide=("BY", "WHOLE COMMENT", "ALL THAT CHANGED"),
        empty="no document was ever applied",
    )


def _cut(text: str) -> str:
    """Keep a row on one line of a terminal; -o wide has it whole."""
    return text if len(text) <= _CUT else f"{text[: _CUT - 2].rstrip()} …"


def short_words(item: RevisionItem) -> str:
    """Say how much a revision changed: ``Policy, 3 VM created; Flow configured``. Leaves out what is only written elsewhere."""
    if not item.recorded:
        return "not recorded"
    by_action: dict[str, list[str]] = {}
    for each in item.changes:
        by_action.setdefault(each.action, []).append(f"{each.count} {each.kind}" if each.count > 1 else each.kind)
    moved = by_action.pop("unchanged", [])
    told = [f"{', '.join(kinds)} {action}" for action, kinds in by_action.items()]
    return "; ".join(told) or ("only where it is written" if moved else "nothing")


def changes_words(item: RevisionItem) -> str:
    """Say what a revision changed: ``Policy web created; 3 of kind VM configured (a, b, c)``."""
    if not item.recorded:
        return "not recorded: older than the recording of changes"
    return "; ".join(map(_change_words, item.changes)) or "nothing"


def _change_words(change: ChangeCount) -> str:
    action = "only where it is written" if change.action == "unchanged" else change.action
    if change.count == 1:
        return f"{change.kind} {words(change.names)} {action}"
    more = change.count - len(change.names)
    names = ", ".join(change.names) + (f" and {more} more" if more else "")
    return f"{change.count} of kind {change.kind} {action} ({names})"


def view_lines(view: RevisionView) -> list[str]:
    """Write who made it, then the names of its documents."""
    pairs = [("Documents as of revision", str(view.revision))]
    made = view.made_by
    if made is not None:
        pairs.append(
            ("Last changed by", f"revision {made.revision}, {moment(made.at)}, {made.actor}: {changes_words(made)}")
        )
        pairs += [("Comment", made.comment)] if made.comment else []
    names = [_name(each) for each in view.documents]
    more = [f"  … and {len(names) - _SHOWN} more: -o name"] if len(names) > _SHOWN else []
    return [*fields(pairs), f"{len(names)} documents:", *(f"  {name}" for name in names[:_SHOWN]), *more]


def _name(document: dict[str, object]) -> str:
    metadata = document.get("metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    tenant = inner.get("tenant", "default")
    name = f"{str(document.get('kind')).lower()}/{inner.get('name')}"
    return name if tenant == "default" else f"{name} (tenant {tenant})"
