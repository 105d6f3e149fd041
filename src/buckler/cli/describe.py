"""``describe``: one thing told in words. Pure texts; the facts are the controller's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from buckler.cli.complete import complete_kind_or_name
from buckler.cli.document import names_of
from buckler.cli.host import host_lines
from buckler.cli.output import as_yaml, fields, label_words, moment, say, tenant_option
from buckler.cli.quarantine import stand_lines
from buckler.cli.session import looking_for, operator
from buckler.model.operatorapi.documents import DocumentItem
from buckler.model.operatorapi.vms import Allowance, InterfaceView, VmView
from buckler.model.pool import ShieldMode

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient

_ALLOWED = {
    Allowance.NOTHING: "nothing in, nothing out",
    Allowance.REMEDIATION: "only what policies of the quarantine tier open",
}


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="KIND NAME…", shell_complete=complete_kind_or_name)
@tenant_option("The tenant of the names (default: default).")
@click.pass_context
def describe(context: click.Context, what: tuple[str, ...], tenant: str) -> None:
    """Tell all about VMs, hosts, networks, policies or flows, in words.

    \b
    Examples:
      buckler describe vm web1
      buckler describe policy web
      buckler describe host h1
    """
    is_host = what[0].lower() in ("host", "hosts")
    if len(what) < 2 and "/" not in what[0]:
        raise click.UsageError("say what to describe: KIND NAME…")
    texts = []
    with operator(context) as client:
        if is_host:
            texts = [host_lines(client.host(name), time.time()) for name in what[1:]]
        else:
            for kind, name in names_of(what):
                with looking_for(client, kind, name, tenant):
                    texts.append(_told(client, kind, name, tenant))
    say("\n\n".join("\n".join(lines) for lines in texts))


def _told(client: OperatorClient, kind: str, name: str, tenant: str) -> list[str]:
    if kind == "VM":
        return vm_lines(client.vm(name, tenant))
    selected = client.vms() if kind in ("Policy", "Flow") else ()
    return document_lines(client.document(kind, tenant or "default", name), selected)


def vm_lines(view: VmView) -> list[str]:
    """Tell about a VM: who it is, where it runs, how it is shielded, what selects it."""
    facts = [
        ("Name", view.name),
        ("Tenant", view.tenant),
        ("Id", view.id),
        ("UUID", f"{view.uuid} (libvirt's)"),
        ("Labels", label_words(view.labels)),
        ("Owner", view.owner or "-"),
        ("Purpose", view.purpose or "-"),
        ("Runs on", f"{view.host} ({view.state})" if view.host else "no host reports it"),
        ("Passport", "in its domain's metadata" if view.has_passport else "none yet: closed until it is written"),
        ("Shield", shield_sentence(view)),
    ]
    lines = [*fields(facts), *_quarantine_lines(view)]
    lines.append("Interfaces:" if view.interfaces else "Interfaces:  none registered")
    for interface in view.interfaces:
        lines += _interface_lines(interface)
    lines.append("Policies that select it:" if view.policies else "Policies that select it: none, so all is denied")
    lines += [f"  {each.tier}: {each.kind.lower()}/{each.name}" for each in view.policies]
    return lines


def shield_sentence(view: VmView) -> str:
    """Say in one sentence how a VM is shielded."""
    closed = [interface.mac for interface in view.interfaces if not interface.admitted]
    if view.quarantined:
        allow = view.quarantine.allow if view.quarantine else Allowance.NOTHING
        return f"quarantined: {_ALLOWED[allow]}"
    if view.state in ("running", "paused") and closed:
        return f"closed at {', '.join(closed)}: not admitted"
    if view.mode is ShieldMode.OBSERVE:
        return "observes: what policy denies is recorded, and passes (listed by `buckler unprotected`)"
    return "enforces: what no policy allows is dropped"


def _quarantine_lines(view: VmView) -> list[str]:
    found = view.quarantine
    if found is None:
        return []
    by = f"response {found.response}" if found.response else found.by
    return [f"Quarantine:  {moment(found.at)} by {by}: {found.reason}", *stand_lines(view)]


def _interface_lines(interface: InterfaceView) -> list[str]:
    state = "admitted" if interface.admitted else "not admitted"
    facts = [
        ("Network", interface.network),
        ("Addresses", _addresses(interface)),
        ("Labels", label_words(interface.labels)),
        ("Identity", f"{interface.identity:#x}" if interface.identity else "-"),
        ("Device", f"{interface.device} on bridge {interface.bridge}" if interface.device else "-"),
        ("State", f"{state}: {interface.reason}" if interface.reason else state),
    ]
    return [f"  {interface.mac}", *fields(facts, indent="    ")]


def _addresses(interface: InterfaceView) -> str:
    """Name each address, and where it comes from if nobody declared it."""
    words = []
    for address in interface.addresses:
        source = interface.sources.get(address, "declared")
        words.append(address if source == "declared" else f"{address} ({source})")
    return ", ".join(words) or "none declared"


def document_lines(item: DocumentItem, vms: tuple[VmView, ...]) -> list[str]:
    """Tell about a document: where it was written, whom it selects now, and what it says."""
    document = item.document
    kind, metadata = document.get("kind", ""), document.get("metadata", {})
    selected = [
        view.name
        for view in vms
        for policy in view.policies
        if (policy.kind, policy.name, policy.tenant) == (kind, metadata.get("name"), metadata.get("tenant", "default"))
    ]
    facts = [
        ("Kind", kind),
        ("Name", metadata.get("name", "")),
        ("Tenant", metadata.get("tenant", "default")),
        ("Labels", label_words(metadata.get("labels") or {})),
        ("Written in", f"{item.file}:{item.line}" if item.line else item.file or "-"),
        ("Revision", f"{item.revision} (etag {item.etag})"),
    ]
    if kind in ("Policy", "Flow"):
        facts.append(("Selects", ", ".join(dict.fromkeys(selected)) or "no registered VM"))
    return [*fields(facts), "Spec:", *(f"  {line}" for line in as_yaml(document.get("spec", {})).splitlines())]
