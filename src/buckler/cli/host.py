"""``host``: the pool's hypervisor hosts, how they join, are emptied and put out."""

from __future__ import annotations

import time

import click

from buckler.cli.complete import complete_host
from buckler.cli.output import Table, ago, dry_run_option, fields, moment, output_option, say, show, words
from buckler.cli.session import EXIT_UNFINISHED, Failed, operator
from buckler.model.operatorapi.hosts import HostChange, HostRequest, HostView, JoinToken, JoinTokenRequest
from buckler.model.pool import HostState


@click.group()
def host() -> None:
    """List hypervisor hosts, let new ones join, empty them, put them out.

    \b
    Example:
      buckler host list
    """


@host.command("list")
@output_option("table", "wide", "json", "yaml", "name")
@click.pass_context
def list_hosts(context: click.Context, output: str) -> None:
    """List hosts: state, last word, revision wanted and enforced.

    \b
    Example:
      buckler host list -o wide
    """
    with operator(context) as client:
        hosts = client.hosts()
    show(hosts, output, lambda: hosts_table(hosts, time.time()), lambda: (f"host/{each.name}" for each in hosts))


def hosts_table(hosts: tuple[HostView, ...], now: float) -> Table:
    """Make a row of every host."""
    rows = tuple(
        (
            each.name,
            each.state.value,
            enforcement(each),
            str(each.wanted),
            str(each.enforced),
            str(len(each.vms)),
            ago(each.seen_at, now),
            words(each.problems),
            each.fabric or "-",
            words(each.addresses),
            each.id,
        )
        for each in hosts
    )
    return Table(
        columns=("HOST", "STATE", "SHIELDS", "WANTED", "ENFORCED", "VMS", "SEEN", "PROBLEMS"),
        rows=rows,
        wide=("FABRIC", "ADDRESSES", "ID"),
        empty="no host has joined yet: `buckler host join-token` lets one in",
    )


def enforcement(view: HostView) -> str:
    """Say in one word whether the kernel of a host holds what is wanted: a host not heard is never called enforced."""
    if view.state is HostState.REVOKED:
        return "revoked"
    if not view.seen_at:
        return "never seen"
    if not view.connected:
        return "lost"
    return "enforced" if view.enforced >= view.wanted else "behind"


@host.command("show")
@click.argument("name", shell_complete=complete_host)
@output_option("table", "json", "yaml", "name")
@click.pass_context
def show_host(context: click.Context, name: str, output: str) -> None:
    """Tell all about one host.

    \b
    Example:
      buckler host show h1
    """
    with operator(context) as client:
        view = client.host(name)
    show(view, output, lambda: "\n".join(host_lines(view, time.time())), lambda: (f"host/{view.name}",))


def host_lines(view: HostView, now: float) -> list[str]:
    """Tell about a host."""
    stage = f", stage {view.stage}" if view.stage else ""
    facts = [
        ("Name", view.name),
        ("Id", view.id),
        ("State", view.state.value),
        ("Shields", f"{enforcement(view)}: revision {view.enforced} in the kernel, {view.wanted} wanted{stage}"),
        ("Agent", f"last heard {ago(view.seen_at, now)} ago" if view.seen_at else "never heard"),
        ("Fabric", view.fabric or "-"),
        ("Addresses", f"{words(view.addresses)} (no guest can ever reach them)"),
        ("Migrate URI", view.migrate_uri or "-"),
        ("VMs", words(view.vms, "none")),
        ("Rogues", str(view.rogues)),
    ]
    return [
        *fields(facts if view.problems else [*facts, ("Problems", "none")]),
        *(["Problems:"] if view.problems else []),
        *(f"  {each}" for each in view.problems),
    ]


@host.command()
@click.argument("name", shell_complete=complete_host)
@click.option("--reason", default="", help="Why: it is recorded.")
@click.option(
    "--timeout", type=float, default=600, show_default=True, help="Seconds to wait until it is empty; 0: do not wait."
)
@dry_run_option
@click.pass_context
def drain(context: click.Context, name: str, reason: str, timeout: float, dry_run: bool) -> None:
    """Move every VM away, shields first, and take none until undrained.

    \b
    Example:
      buckler host drain h1 --reason "kernel update"

    Exit codes: 0 empty, 1 refused or some VM cannot leave, 4 not empty in time.
    """
    from buckler.cli.migration import follow

    with operator(context) as client:
        change = client.drain(name, HostRequest(reason=reason, dry_run=dry_run))
        _report(change, "draining")
        if dry_run or not timeout:
            return
        until = time.monotonic() + timeout
        failed = [task.vm for task in change.tasks if not follow(client, task, until)]
        left = client.host(name)
    if failed or change.staying:
        raise Failed(f"{name} still holds {words([*failed, *change.staying])}")
    if left.vms:
        raise Failed(f"{name} still holds {words(left.vms)}", exit_code=EXIT_UNFINISHED)
    say(f"host/{left.name} holds no VM any more")


@host.command()
@click.argument("name", shell_complete=complete_host)
@click.option("--reason", default="", help="Why: it is recorded.")
@dry_run_option
@click.pass_context
def undrain(context: click.Context, name: str, reason: str, dry_run: bool) -> None:
    """Let a drained host take VMs again. None is moved back by itself.

    \b
    Example:
      buckler host undrain h1
    """
    with operator(context) as client:
        _report(client.undrain(name, HostRequest(reason=reason, dry_run=dry_run)), "active")


@host.command()
@click.argument("name", shell_complete=complete_host)
@click.option("--reason", required=True, help="Why: it is recorded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@click.pass_context
def revoke(context: click.Context, name: str, reason: str, yes: bool, dry_run: bool) -> None:
    """Put a host out of the pool for good: its key, its stream and its peers' trust end at once.

    Its VMs run on behind the shields that stand there; move them away first (`buckler host drain`).

    \b
    Example:
      buckler host revoke h1 --reason "stolen"
    """
    if not (yes or dry_run):
        click.confirm(f"Put {name} out of the pool for good?", abort=True, err=True)
    with operator(context) as client:
        _report(client.revoke(name, HostRequest(reason=reason, dry_run=dry_run)), "revoked")


def _report(change: HostChange, state: str) -> None:
    suffix = " (dry run)" if change.dry_run else ""
    say(f"host/{change.host.name} {state}{suffix}")
    for task in change.tasks:
        say(f"  {task.vm} → {task.destination}{suffix}")
    for staying in change.staying:
        say(f"  cannot leave: {staying}", err=True)


@host.command("join-token")
@click.argument("name", required=False, default="")
@click.option("--lifetime", type=click.FloatRange(min=60), default=3600, show_default=True, metavar="SECONDS")
@dry_run_option
@output_option("table", "json", "yaml")
@click.pass_context
def join_token(context: click.Context, name: str, lifetime: float, dry_run: bool, output: str) -> None:
    """Make a token that lets one host join once. With NAME only a host of that name.

    \b
    Example:
      buckler host join-token h2
    """
    with operator(context) as client:
        token = client.create_join_token(JoinTokenRequest(host=name, lifetime=lifetime, dry_run=dry_run))
    show(token, output, lambda: "\n".join(token_lines(token)), lambda: ())


def token_lines(token: JoinToken) -> list[str]:
    """Write the token and what to do with it."""
    if not token.token:
        return ["a token would be made (dry run)"]
    at = f" --controller {token.url}" if token.url else ""
    return [
        f"Good once, until {moment(token.expires_at)}. On the new host, as root:",
        f"  buckler agent join{at} {token.token}",
    ]
