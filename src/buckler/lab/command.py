"""The commands of ``buckler lab``. Owns what is said on the terminal, nothing of how a lab works."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from buckler.lab.datacentre import DataCentre, build_lab, open_lab, start_guests
from buckler.lab.guest.image import ImageFailed
from buckler.lab.machine import LabFailed, inside
from buckler.lab.plan import plan_lab
from buckler.lab.pool import Pool, raise_pool, shop_files
from buckler.lab.shop import FOLDER, shop_vms
from buckler.lab.sweep import sweep

DEFAULT_PREFIX = "bl"


def stopwatch() -> Callable[[str], None]:
    """Return a function that prints a line with the seconds since now."""
    began = time.monotonic()
    return lambda line: click.echo(f"{time.monotonic() - began:6.1f} s  {line}")


@contextmanager
def told() -> Iterator[None]:
    """Turn what a lab can fail with into one line and exit code 1."""
    try:
        yield
    except (LabFailed, ImageFailed, ValueError) as failure:
        raise click.ClickException(str(failure)) from failure


def end_on_signals() -> None:
    """Let a SIGTERM or a closed terminal end us as Ctrl-C does: by the way that takes the lab away."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def folder_of(context: click.Context) -> Path:
    """Return where the chosen lab keeps its state."""
    return Path("/var/lib/buckler-lab") / str(context.obj)


def opened(context: click.Context) -> DataCentre:
    """Return the running lab."""
    return open_lab(folder_of(context))


@click.group()
@click.option(
    "--prefix", default=DEFAULT_PREFIX, envvar="BUCKLER_LAB_PREFIX", help="Begins the lab's namespaces' names."
)
@click.pass_context
def lab(context: click.Context, prefix: str) -> None:
    """A virtual data centre on this machine: hosts in namespaces, real guests, a controller, and no way out."""
    context.obj = prefix


@lab.command()
@click.option("--hosts", default=2, show_default=True, help="How many hypervisor hosts.")
@click.option("--bare", is_flag=True, help="Hosts and guests only: a pool without Buckler, where all reach all.")
@click.option(
    "--shop", default=FOLDER, type=click.Path(path_type=Path), help="Documents of the VMs to make, and their policies."
)
@click.pass_context
def up(context: click.Context, hosts: int, bare: bool, shop: Path) -> None:
    """Bring a lab up; what an earlier one left is removed first."""
    say = stopwatch()
    end_on_signals()
    with told():
        plan = plan_lab(shop_vms(shop), hosts, str(context.obj))
        try:
            centre = build_lab(plan, say)
            if bare:
                start_guests(centre, plan.guests, {})
            else:
                raise_pool(centre, shop_files(shop), say)
        except BaseException:
            sweep(plan.folder, plan.prefix)
            raise
    say("the lab is up")
    if not bare:
        click.echo(f"\nTo use it:\n  export BUCKLER_SOCKET={Pool(centre).socket}\n  buckler status")


@lab.command()
@click.pass_context
def status(context: click.Context) -> None:
    """Show hosts and guests."""
    with told():
        centre = opened(context)
        places = centre.domains()
        click.echo(f"{'HOST':<10} {'ADDRESS':<12} {'PID':>7}  GUESTS")
        for host in centre.plan.hosts:
            guests = sorted(name for name, place in places.items() if place == host.name)
            click.echo(f"{host.name:<10} {host.address:<12} {centre.pid(host.name):>7}  {' '.join(guests)}")
        controller = centre.plan.controller
        click.echo(f"{controller.name:<10} {controller.address:<12} {centre.pid(controller.name):>7}")
        click.echo(f"\nexport BUCKLER_SOCKET={Pool(centre).socket}")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("guest")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--timeout", default=60, show_default=True, help="Seconds after which the command is stopped.")
@click.pass_context
def execute(context: click.Context, guest: str, command: tuple[str, ...], timeout: int) -> None:
    """Run a shell command in a guest, over no network; its output and exit code are this command's."""
    with told():
        answer = opened(context).execute(guest, " ".join(command), timeout)
    click.echo(answer.output, nl=False)
    context.exit(answer.code)


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("host")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def shell(context: click.Context, host: str, command: tuple[str, ...]) -> None:
    """Run a program on a host (or on ``controller``), as root there, with this terminal."""
    import subprocess

    with told():
        pid = opened(context).pid(host)
    sys.stdout.flush()
    context.exit(subprocess.run(inside(pid, *command), check=False).returncode)


@lab.command()
@click.argument("vm")
@click.argument("host")
@click.pass_context
def migrate(context: click.Context, vm: str, host: str) -> None:
    """Move a guest live with libvirt's own means, as an administrator with virsh would."""
    with told():
        centre = opened(context)
        if host not in {machine.name for machine in centre.plan.hosts}:
            raise LabFailed(f"no host {host!r}")
        seconds = centre.migrate(vm, host)
    click.echo(f"{vm} runs on {host} (after {seconds:.1f} s)")


@lab.command()
@click.pass_context
def down(context: click.Context) -> None:
    """Take the lab down; nothing of it stays."""
    with told():
        sweep(folder_of(context), str(context.obj))
    click.echo("nothing of the lab is left")
