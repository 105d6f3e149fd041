"""``get``, ``delete`` and ``label``: documents of the pool by kind and name. Owns the words for kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from buckler.cli.apply import report
from buckler.cli.complete import KINDS, complete_kind_or_name
from buckler.cli.output import (
    Table,
    as_json,
    as_yaml,
    comment_option,
    dry_run_option,
    label_words,
    output_option,
    say,
    show_table,
    tenant_option,
    wait_option,
)
from buckler.cli.session import looking_for, operator
from buckler.cli.source import files_option, read_sources, references_in
from buckler.model.operatorapi.documents import ApplyRequest, DocumentItem, LabelRequest, Reference

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient

_PLURALS = {f"{word}s": kind for word, kind in KINDS.items()} | {"policies": "Policy"}
WORDS = {**KINDS, **_PLURALS, "net": "Network", "pol": "Policy", "all": ""}
"""Every word for a kind."""
KNOWN = ", ".join(KINDS.values())


def kind_of(word: str) -> str:
    """Read a kind as people write it (``vms``, ``policy``, ``net``); ``all`` is the empty one."""
    kind = WORDS.get(word.lower())
    if kind is None:
        raise click.UsageError(f"{word!r} is no kind of document: one of {KNOWN}, or all (hosts: `buckler host`)")
    return kind


def names_of(words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read ``KIND NAME…`` or ``KIND/NAME…`` into kinds and names; a lone kind has the empty name."""
    if words and all("/" in word for word in words):
        pairs = [word.split("/", 1) for word in words]
        return [(kind_of(kind), name) for kind, name in pairs]
    if any("/" in word for word in words):
        raise click.UsageError("write KIND NAME… or KIND/NAME…, not both at once")
    return [(kind_of(words[0]), name) for name in words[1:] or ("",)] if words else []


def references_of(words: tuple[str, ...], tenant: str) -> tuple[Reference, ...]:
    """Read documents to change: each needs a kind and a name."""
    pairs = names_of(words)
    if any(not kind or not name for kind, name in pairs):
        raise click.UsageError("write KIND NAME… or KIND/NAME…: a whole kind at once is not meant here")
    return tuple(Reference(kind, name, tenant or "default") for kind, name in pairs)


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="KIND [NAME…]", shell_complete=complete_kind_or_name)
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only with these labels: tier=web,env!=test,owner")
@tenant_option()
@output_option("table", "wide", "json", "yaml", "name")
@click.pass_context
def get(context: click.Context, what: tuple[str, ...], selector: str, tenant: str, output: str) -> None:
    """List documents or show one. YAML and JSON can be applied again.

    KIND is vm, network, policy, flow, endpoint, addressgroup, service, response, exception, one of these in the plural, or all.

    \b
    Examples:
      buckler get policies
      buckler get vm -l tier=web -o wide
      buckler get policy web -o yaml > web.yaml
    """
    pairs = names_of(what)
    with operator(context) as client:
        if all(name for _, name in pairs):
            items = [_found(client, kind, name, tenant) for kind, name in pairs]
        else:
            items = [item for kind, _ in pairs for item in client.documents(kind, tenant, selector)]
    single = len(items) == 1 and bool(pairs[0][1])
    match output:
        case "json":
            say(as_json(items[0].document if single else list_of(items)))
        case "yaml":
            say("---\n".join(as_yaml(item.document) for item in items).rstrip("\n"))
        case "name":
            for item in items:
                say("/".join((item.document["kind"].lower(), item.document["metadata"]["name"])))
        case _:
            show_table(documents_table(items), wide=output == "wide")


def _found(client: OperatorClient, kind: str, name: str, tenant: str) -> DocumentItem:
    with looking_for(client, kind, name, tenant):
        return client.document(kind, tenant or "default", name)


def list_of(items: list[DocumentItem]) -> dict[str, Any]:
    """Wrap several documents as kubectl does."""
    return {"apiVersion": "buckler.io/v1", "kind": "List", "items": [item.document for item in items]}


def documents_table(items: list[DocumentItem]) -> Table:
    """Make a row of every document."""
    rows = []
    for item in items:
        metadata, spec = item.document.get("metadata", {}), item.document.get("spec", {})
        where = f"{item.file}:{item.line}" if item.line else item.file
        rows.append(
            (
                str(item.document.get("kind", "")),
                str(metadata.get("tenant", "default")),
                str(metadata.get("name", "")),
                _summary(spec),
                label_words(metadata.get("labels") or {}),
                str(item.revision),
                where or "-",
            )
        )
    return Table(
        columns=("KIND", "TENANT", "NAME", "SUMMARY"), rows=tuple(rows), wide=("LABELS", "REVISION", "WRITTEN IN")
    )


def _summary(spec: dict[str, Any]) -> str:
    """Say in one cell what matters most about a document of any kind."""
    if "bridge" in spec:
        vlan = f" vlan {spec['vlan']}" if spec.get("vlan") else ""
        return f"bridge {spec['bridge']}{vlan} {','.join(spec.get('cidrs') or ())}".rstrip()
    if "interfaces" in spec:
        addresses = [address for interface in spec["interfaces"] for address in interface.get("addresses") or ()]
        return " ".join([spec.get("mode", "enforce"), ",".join(addresses)]).rstrip()
    said = spec.get("description") or spec.get("purpose") or ""
    if "cidrs" in spec:
        return ",".join(spec["cidrs"])
    if "selector" in spec:
        at = f" at {spec['virtualAddress']} in {spec.get('network', '')}" if spec.get("virtualAddress") else ""
        return f"{','.join(map(_port_words, spec.get('ports') or ()))}{at}: {said}".strip(": ")
    if "network" in spec:
        return f"{spec['network']} {','.join(spec.get('addresses') or ())}: {said}".rstrip(": ")
    if "trigger" in spec:
        return f"{spec.get('mode', 'observe')}: {said}".rstrip(": ")
    tier, mode = spec.get("tier", "tenant"), spec.get("mode", "enforce")
    if "reason" in spec and "until" in spec and ("policy" in spec or "flow" in spec):
        rule = f"{spec['policy']}/{spec.get('rule', '')}" if spec.get("policy") else spec["flow"]
        return f"{tier} {spec['action']} {rule} until {spec['until']}: {said or spec['reason']}"
    return f"{tier} order {spec.get('order', 1000)} {mode}: {said}".rstrip(": ")


def _port_words(port: dict[str, Any]) -> str:
    last = f"-{port['endPort']}" if "endPort" in port else ""
    number = port.get("port", port.get("type", ""))
    return f"{number}{last}/{port['protocol']}".lstrip("/")


@click.command()
@click.argument("what", nargs=-1, metavar="[KIND NAME…]", shell_complete=complete_kind_or_name)
@files_option(required=False)
@tenant_option("The tenant of the named documents (default: default).")
@click.option("--if-match", "etag", default="", metavar="ETAG", help="Only if nobody changed it since: one document.")
@dry_run_option
@wait_option()
@comment_option
@output_option("table", "json", "yaml", "name")
@click.pass_context
def delete(
    context: click.Context,
    what: tuple[str, ...],
    filenames: tuple[str, ...],
    tenant: str,
    etag: str,
    dry_run: bool,
    wait: float,
    comment: str,
    output: str,
) -> None:
    """Delete documents, by kind and name or all those of files: all or nothing.

    \b
    Examples:
      buckler delete policy web
      buckler delete -f examples/shop/ --dry-run
    """
    if bool(what) == bool(filenames):
        raise click.UsageError("say what to delete: either KIND NAME… or -f FILE")
    references = references_of(what, tenant) if what else references_in(read_sources(filenames))
    if etag and len(references) != 1:
        raise click.UsageError("--if-match goes with exactly one document")
    if etag:
        references = (Reference(references[0].kind, references[0].name, references[0].tenant, etag),)
    with operator(context) as client:
        result = client.apply(ApplyRequest(delete=references, dry_run=dry_run, wait=wait, comment=comment))
    report(result, output, wait=wait)


@click.command()
@click.argument("kind", shell_complete=complete_kind_or_name)
@click.argument("name", shell_complete=complete_kind_or_name)
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-…")
@click.option("--overwrite", is_flag=True, help="Replace values that are there already.")
@tenant_option("The document's tenant (default: default).")
@dry_run_option
@wait_option()
@output_option("table", "json", "yaml", "name")
@click.pass_context
def label(
    context: click.Context,
    kind: str,
    name: str,
    labels: tuple[str, ...],
    overwrite: bool,
    tenant: str,
    dry_run: bool,
    wait: float,
    output: str,
) -> None:
    """Set labels (KEY=VALUE) or remove them (KEY-). A removed label cuts connections that it allowed.

    \b
    Examples:
      buckler label vm web1 tier=web
      buckler label vm web1 tier=app --overwrite
      buckler label vm web1 tier-
    """
    reference = references_of((kind, name), tenant)[0]
    wanted, removed = parse_labels(labels)
    request = LabelRequest(set=wanted, remove=removed, overwrite=overwrite, dry_run=dry_run, wait=wait)
    with operator(context) as client, looking_for(client, reference.kind, name, tenant):
        result = client.label(reference, request)
    report(result, output, wait=wait)


def parse_labels(words: tuple[str, ...]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read ``key=value`` (set) and ``key-`` (remove)."""
    wanted: dict[str, str] = {}
    removed: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key:
            wanted[key] = value
        elif not equals and word.endswith("-") and len(word) > 1:
            removed.append(word[:-1])
        else:
            raise click.UsageError(f"{word!r} is neither KEY=VALUE nor KEY-")
    both = wanted.keys() & set(removed)
    if both:
        raise click.UsageError(f"both set and removed: {', '.join(sorted(both))}")
    return wanted, tuple(removed)
