"""``vm``: registered VMs, their adoption, passports and histories; gathers the commands of its neighbours."""

from __future__ import annotations

import click

from buckler.cli.bound import bound_lines, parse_moment
from buckler.cli.complete import complete_vm
from buckler.cli.describe import vm_lines
from buckler.cli.document import parse_labels
from buckler.cli.output import (
    Table,
    dry_run_option,
    label_words,
    moment,
    output_option,
    show,
    tenant_option,
    words,
)
from buckler.cli.quarantine import quarantine, release
from buckler.cli.sample import samples, top
from buckler.cli.session import Failed, looking_for, operator
from buckler.model.operatorapi.pool import Rogue
from buckler.model.operatorapi.vms import AdoptRequest, HistoryEntry, VmView
from buckler.model.pool import Interface, ShieldMode


@click.group()
def vm() -> None:
    """List, adopt and quarantine VMs; see what they use, read their passports and histories.

    \b
    Example:
      buckler vm list -l tier=web
    """


@vm.command("list")
@click.option("-l", "--selector", default="", metavar="LABELS", help="Only with these labels: tier=web,env!=test")
@tenant_option()
@output_option("table", "wide", "json", "yaml", "name")
@click.pass_context
def list_vms(context: click.Context, selector: str, tenant: str, output: str) -> None:
    """List registered VMs: where they run and whether their shields stand.

    \b
    Example:
      buckler vm list -o wide
    """
    with operator(context) as client:
        vms = client.vms(tenant, selector)
    show(vms, output, lambda: vms_table(vms), lambda: (f"vm/{each.name}" for each in vms))


def vms_table(vms: tuple[VmView, ...]) -> Table:
    """Make a row of every VM."""
    rows = [
        (
            each.tenant,
            each.name,
            each.host or "-",
            each.state,
            shield_word(each),
            words(address for interface in each.interfaces for address in interface.addresses),
            label_words(each.labels),
            each.id,
            each.uuid,
            words(dict.fromkeys(interface.network for interface in each.interfaces)),
            "yes" if each.has_passport else "no",
        )
        for each in vms
    ]
    return Table(
        columns=("TENANT", "NAME", "HOST", "STATE", "SHIELD", "ADDRESSES"),
        rows=tuple(rows),
        wide=("LABELS", "ID", "UUID", "NETWORKS", "PASSPORT"),
        empty="no VM is registered yet: `buckler rogues` shows what runs, `buckler vm adopt` registers it",
    )


def shield_word(view: VmView) -> str:
    """Say in one word how a VM is shielded now; what is not admitted is closed."""
    if view.quarantined:
        return "quarantined"
    if view.state in ("running", "paused") and not all(interface.admitted for interface in view.interfaces):
        return "closed"
    return view.mode.value


@vm.command("show")
@click.argument("name", shell_complete=complete_vm)
@tenant_option("The VM's tenant (default: default).")
@output_option("table", "json", "yaml", "name")
@click.pass_context
def show_vm(context: click.Context, name: str, tenant: str, output: str) -> None:
    """Tell all about one VM: identity, interfaces, where it runs, its shield, the policies that select it.

    \b
    Example:
      buckler vm show web1
    """
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        view = client.vm(name, tenant)
    show(view, output, lambda: "\n".join(vm_lines(view)), lambda: (f"vm/{view.name}",))


@vm.command()
@click.argument("domain", metavar="UUID|DOMAIN")
@click.option("--as", "name", default="", metavar="NAME", help="Its name in the pool (default: the domain's).")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label, any number of times.")
@click.option(
    "--interface", "interfaces", multiple=True, metavar="MAC=NETWORK[,ADDRESS…]",
    help="An interface with its network and addresses, any number of times (default: as observed, no address).",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice([mode.value for mode in ShieldMode]), default=ShieldMode.ENFORCE.value,
    show_default=True, help="observe lets pass what policy denies, and records it: for VMs that already serve.",
)  # fmt: skip
@click.option("--owner", default="", help="Who answers for it.")
@click.option("--purpose", default="", help="What it is for.")
@tenant_option("The tenant that it belongs to (default: default).")
@dry_run_option
@output_option("table", "json", "yaml", "name")
@click.pass_context
def adopt(
    context: click.Context,
    domain: str,
    name: str,
    labels: tuple[str, ...],
    interfaces: tuple[str, ...],
    mode: str,
    owner: str,
    purpose: str,
    tenant: str,
    dry_run: bool,
    output: str,
) -> None:
    """Register a domain that runs but is unknown (a rogue), by libvirt's UUID or the domain's name.

    It gets an identity and a passport; from then on the pool's policies decide about it.

    \b
    Example:
      buckler rogues
      buckler vm adopt web1 --label tier=web --interface 52:54:00:00:00:01=front,10.0.0.11 --mode observe
    """
    wanted, removed = parse_labels(labels)
    if removed:
        raise click.UsageError("--label takes KEY=VALUE")
    parsed = tuple(parse_interface(text) for text in interfaces)
    with operator(context) as client:
        rogue = find_rogue(client.rogues(), domain)
        request = AdoptRequest(
            uuid=rogue.uuid,
            name=name or rogue.name,
            tenant=tenant or "default",
            labels=wanted,
            mode=ShieldMode(mode),
            interfaces=parsed,
            owner=owner,
            purpose=purpose,
            dry_run=dry_run,
        )
        view = client.adopt(request)
    suffix = " (dry run)" if dry_run else ""
    cards = [
        f"  {card.mac} on network {card.network}: {words(card.addresses, 'no address')}" for card in view.interfaces
    ]
    lines = [f"vm/{view.name} adopted{suffix}", *(cards if dry_run else [])]
    show(view, output, lambda: "\n".join(lines), lambda: (f"vm/{view.name}",))


def find_rogue(rogues: tuple[Rogue, ...], wanted: str) -> Rogue:
    """Find the one rogue with this UUID or domain name; two of one name are not guessed between."""
    found = [rogue for rogue in rogues if wanted in (rogue.uuid, rogue.name)]
    if not found:
        raise Failed(f"no unregistered domain {wanted!r} is reported by any host", "  hint: see `buckler rogues`")
    if len({rogue.uuid for rogue in found}) > 1:
        lines = [f"  {rogue.uuid} on {rogue.host}" for rogue in found]
        raise Failed(f"several unregistered domains are named {wanted!r}: use a UUID", *lines)
    return found[0]


def parse_interface(text: str) -> Interface:
    """Read ``MAC=NETWORK[,ADDRESS…]``."""
    mac, equals, rest = text.partition("=")
    network, *addresses = rest.split(",")
    if not (mac and equals and network) or not all(addresses):
        raise click.UsageError(f"{text!r}: write --interface MAC=NETWORK[,ADDRESS…]")
    return Interface(mac=mac.lower(), network=network, addresses=tuple(addresses))


@vm.command()
@click.argument("name", shell_complete=complete_vm)
@click.option("--limit", type=click.IntRange(min=1), help="Only the newest entries.")
@tenant_option("The VM's tenant (default: default).")
@output_option("table", "wide", "json", "yaml")
@click.pass_context
def history(context: click.Context, name: str, limit: int | None, tenant: str, output: str) -> None:
    """Tell a VM's life in words, from the ledger, oldest first. A move is one line; -o wide shows its parts too.

    \b
    Example:
      buckler vm history web1
    """
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        entries = client.history(name, tenant, limit or 0)
    show(entries, output, lambda: history_table(entries, is_wide=output == "wide"), lambda: ())


def history_table(entries: tuple[HistoryEntry, ...], *, is_wide: bool = True) -> Table:
    """Make a row of every entry; a move is one unless ``is_wide``."""
    rows = tuple(
        (moment(entry.at), entry.text, str(entry.index), entry.kind, entry.host or "-", entry.actor or "-")
        for entry in entries
        if is_wide or not entry.part_of
    )
    return Table(columns=("TIME", "WHAT HAPPENED"), rows=rows, wide=("ENTRY", "KIND", "HOST", "ACTOR"))


@vm.command()
@click.argument("name", shell_complete=complete_vm)
@click.option("--at", default="", metavar="TIME", help="Only then: 2026-03-01T12:00:00Z, or Unix seconds.")
@click.option("--host", default="", help="Only on this host.")
@tenant_option("The VM's tenant (default: default).")
@output_option("table", "json", "yaml")
@click.pass_context
def policy(context: click.Context, name: str, at: str, host: str, tenant: str, output: str) -> None:
    """Tell which policy bound a VM, when and on which host, from the ledger and what was kept of every revision.

    Deleted VMs are found too. Times are those of the host that enforced: clocks of two hosts may differ. Without --at
    the whole life is told; exit code 1 when nothing bound it there and then.

    \b
    Examples:
      buckler vm policy web1
      buckler vm policy web1 --at 2026-03-01T12:00:00Z --host h1
    """
    when = parse_moment(at) if at else 0.0
    with operator(context) as client, looking_for(client, "VM", name, tenant):
        found = client.bound_policy(name, tenant, when, host)
    show(found, output, lambda: "\n".join(bound_lines(found)), lambda: ())
    if not found:
        raise Failed(f"the ledger tells of no time that {name} was on a host" + (" then" if when else ""))


@vm.command()
@click.argument("name", shell_complete=complete_vm)
@tenant_option("The VM's tenant (default: default).")
@output_option("table", "json", "yaml")
@click.pass_context
def passport(context: click.Context, name: str, tenant: str, output: str) -> None:
    """Show the signed statement about a VM that travels in its domain's metadata, and its claims.

    \b
    Example:
      buckler vm passport web1
    """
    from buckler.cli.output import as_yaml

    with operator(context) as client, looking_for(client, "VM", name, tenant):
        view = client.passport(name, tenant)
    show(view, output, lambda: f"{as_yaml(view.claims)}\n{view.statement}", lambda: ())


for command in (samples, top, quarantine, release):
    vm.add_command(command)
