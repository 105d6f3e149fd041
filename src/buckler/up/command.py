"""``buckler up``: says what it does, does it, watches, and tells what to do next."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import click

from buckler.agent.settings import BadSettings
from buckler.cli.session import EXIT_REFUSED, EXIT_UNFINISHED, Failed, problem_lines
from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.model.operatorapi import SOCKET
from buckler.model.operatorapi.hosts import JoinTokenRequest
from buckler.ports.state import StateFailed
from buckler.up import machine
from buckler.up.plan import Facts, Hook, Step, plan, refuse
from buckler.up.supervise import Child, supervise

BUCKLER = (sys.executable, "-m", "buckler")
COMMANDS = {
    "controller": (*BUCKLER, "controller", "run", "--config", str(machine.CONTROLLER_SETTINGS)),
    "agent": (*BUCKLER, "agent", "run"),
}
PATIENCE = 60.0


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
def up(dry_run: bool) -> None:
    """Run controller and agent on this host, and keep them running until interrupted.

    Needs root, libvirt and Linux 6.1 or later. Writes /etc/buckler/{controller,agent}.yaml if they are not there, installs
    libvirt's hook, makes this host a member of its own pool. What is done already is left as it is. When it ends,
    the shields stay in the kernel and go on enforcing.

    \b
    Examples:
      buckler up --dry-run
      buckler up

    Exit codes: 0 ended in order, 1 refused, 4 something did not start in time.
    """
    try:
        facts = machine.observe()
    except (BadSettings, StateFailed) as error:
        raise Failed(f"this host cannot be looked at: {error}") from error
    steps = plan(facts)
    refusals = refuse(facts)
    if dry_run:
        for step in steps:
            click.echo(f"would {step.value}")
    if refusals:
        lines = [line for each in refusals for line in (f"  {each.reason}", f"      hint: {each.hint}")]
        raise Failed("buckler cannot run here", *lines, exit_code=EXIT_REFUSED)
    if not dry_run:
        _bring_up(facts, steps)


def _bring_up(facts: Facts, steps: tuple[Step, ...]) -> None:
    children: dict[str, Child] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for step in steps:
            click.echo(f"{step.value} …")
            _take(step, children)
        _wait_enforced()
        click.echo("\n".join(next_lines(facts)))
        if children:
            supervise(children, click.echo)
    except (BadSettings, OSError) as error:
        _stop(children)
        raise Failed(str(error)) from error
    except BaseException:
        _stop(children)
        raise


def _stop(children: dict[str, Child]) -> None:
    for child in reversed(children.values()):
        child.stop()


def _take(step: Step, children: dict[str, Child]) -> None:
    match step:
        case Step.WRITE_CONTROLLER_SETTINGS:
            machine.write_controller_settings()
        case Step.WRITE_AGENT_SETTINGS:
            machine.write_agent_settings()
        case Step.INSTALL_HOOK:
            machine.put_hook()
        case Step.START_CONTROLLER:
            children["controller"] = _start("controller")
            _wait(children["controller"])
        case Step.JOIN:
            _join()
        case Step.START_AGENT:
            children["agent"] = _start("agent")


def _start(name: str) -> Child:
    child = Child(name, COMMANDS[name], click.echo)
    child.start()
    return child


def _wait(controller: Child) -> None:
    until = time.monotonic() + PATIENCE
    while not machine.controller_answers():
        if controller.exit_code is not None:
            raise Failed(f"the controller ended with {controller.exit_code}: its reason stands above")
        if time.monotonic() > until:
            raise Failed(f"the controller does not answer within {PATIENCE:g} s", exit_code=EXIT_UNFINISHED)
        time.sleep(0.2)


def _join() -> None:
    name = socket.gethostname().split(".")[0]
    try:
        with OperatorClient(SOCKET) as client:
            token = client.create_join_token(JoinTokenRequest(host=name, lifetime=300))
    except OperatorFailed as failed:
        raise Failed(*problem_lines(failed.problem)) from failed
    command = (*BUCKLER, "agent", "join", token.token, "--controller", token.url, "--name", name)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
    if done.returncode:
        raise Failed(f"`buckler agent join` ended with {done.returncode}: its reason stands above")


def _wait_enforced() -> None:
    """Wait until this host's kernel enforces what is wanted; being late is told, and is no end."""
    until = time.monotonic() + PATIENCE
    name = socket.gethostname().split(".")[0]
    with OperatorClient(SOCKET) as client:
        while time.monotonic() < until:
            try:
                view = client.host(name)
                if view.connected and view.enforced >= view.wanted:
                    click.echo(f"this host enforces revision {view.enforced}")
                    return
            except OperatorFailed:
                pass
            time.sleep(0.5)
    click.echo("this host does not enforce yet: `buckler status` tells more", err=True)


def next_lines(facts: Facts) -> list[str]:
    """Say what a person does next on a host whose VMs nobody registered yet."""
    lines = ["", "Buckler runs. In another terminal:"]
    if facts.hook is Hook.ABSENT:
        lines += [
            "  systemctl restart libvirtd             once: libvirt finds its hook only when it starts; VMs run on",
        ]
    return [
        *lines,
        "  buckler status                         what is wanted, and what the kernel enforces",
        "  buckler rogues                         domains that nobody registered",
        "  buckler vm adopt NAME --mode observe   register one; observe first, what is denied still passes",
        "  buckler flows --verdict deny --follow  what a policy would have to allow",
        "The guide goes on from here: docs/guide/first-steps.md",
    ]
