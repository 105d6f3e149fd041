"""``buckler policy staged`` and ``promote``: what the draft of the pool would have done, and making it decide. Judges nothing."""

from __future__ import annotations

import json
import time

import click

from buckler.cli.apply import report, show_warnings
from buckler.cli.impact import basis_lines, impact_table
from buckler.cli.output import comment_option, dry_run_option, output_option, say, show, tenant_option, wait_option
from buckler.cli.sample import parse_since
from buckler.cli.session import Failed, operator
from buckler.model.operatorapi.documents import ApplyRequest, DocumentItem, SourceFile
from buckler.model.operatorapi.impact import ImpactRequest


@click.command()
@click.option("--since", default="", metavar="AGO", help="How far back: 30s, 10m, 6h, 2d, or a Unix time.")
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def staged(context: click.Context, since: str, output: str) -> None:
    """List recorded connections that would get another verdict if all that is staged were enforced.

    It speaks of what shields recorded and the controller still has, as `policy impact` does; both ends are judged.
    `flows -o json` has what each shield's own draft said of a packet when it met it.

    Exit codes: 0 none would, 1 some would.
    """
    start = parse_since(since, time.time()) if since else 0.0
    with operator(context) as client:
        items = [each for kind in ("Policy", "Flow") for each in client.documents(kind)]
        if not any(map(_is_staged, items)):
            say("nothing is staged in the pool", err=True)
        told = client.impact(ImpactRequest(since=start, staged=True))
    show_warnings(told.warnings)
    for line in basis_lines(told):
        say(line, err=True)
    show(told, output, lambda: impact_table(told.items), tuple)
    context.exit(1 if told.items else 0)


@click.command()
@click.argument("name", metavar="NAME")
@tenant_option("The tenant of the policy or flow (default: default).")
@dry_run_option
@wait_option("How long to wait until every reachable host enforces it in its kernel; 0: only until it is committed.")
@comment_option
@output_option("table", "json", "yaml", "name")
@click.pass_context
def promote(
    context: click.Context, name: str, tenant: str, dry_run: bool, wait: float, comment: str, output: str
) -> None:
    """Let a staged policy or flow decide: the same document with mode enforce, as a new revision.

    Exit codes: 0 done and enforced, 1 refused, or nothing of this name is staged, 4 done, but some host is behind.
    """
    with operator(context) as client:
        items = [each for kind in ("Policy", "Flow") for each in client.documents(kind, tenant or "default")]
        found = [each for each in items if _is_staged(each) and each.document["metadata"]["name"] == name]
        if not found:
            raise Failed(f"no policy and no flow {name!r} is staged in tenant {tenant or 'default'}")
        files = tuple(SourceFile(f"{each.document['kind']} {name}, promoted", _enforced(each)) for each in found)
        result = client.apply(ApplyRequest(files=files, dry_run=dry_run, wait=wait, comment=comment))
    report(result, output, wait=wait)


def _is_staged(item: DocumentItem) -> bool:
    return bool(item.document["spec"].get("mode") == "staged")


def _enforced(item: DocumentItem) -> str:
    spec = {**item.document["spec"], "mode": "enforce"}
    return json.dumps({**item.document, "spec": spec})
