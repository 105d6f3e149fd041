"""``migrate``: move a running VM and follow the task to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from buckler.cli.complete import complete_host, complete_vm
from buckler.cli.output import dry_run_option, output_option, say, show, tenant_option
from buckler.cli.session import EXIT_UNFINISHED, Failed, looking_for, operator
from buckler.model.agentapi import TaskState
from buckler.model.operatorapi.vms import MigrateRequest, TaskView

if TYPE_CHECKING:
    from buckler.client.operator import OperatorClient

POLL = 0.5


@click.command()
@click.argument("vm", shell_complete=complete_vm)
@click.argument("host", shell_complete=complete_host)
@click.option("--timeout", type=float, default=300, show_default=True, help="Seconds to follow it; 0: do not wait.")
@tenant_option("The VM's tenant (default: default).")
@dry_run_option
@output_option("table", "json", "yaml")
@click.pass_context
def migrate(
    context: click.Context, vm: str, host: str, timeout: float, tenant: str, dry_run: bool, output: str
) -> None:
    """Move a running VM live to another host. Its shield stands there before the guest runs there.

    \b
    Example:
      buckler migrate web1 h2

    Exit codes: 0 moved, 1 refused or failed (the VM runs on where it was), 4 not finished in time.
    """
    with operator(context) as client:
        with looking_for(client, "VM", vm, tenant):
            task = client.migrate(vm, MigrateRequest(host=host, dry_run=dry_run), tenant)
        if dry_run:
            say(f"vm/{vm} would move from {task.source} to {task.destination} (dry run)")
            return
        if timeout and not follow(client, task, time.monotonic() + timeout):
            raise Failed(f"the migration of {vm} failed: the reason stands above, the VM runs on where it was")
        task = client.task(task.id)
    show(task, output, lambda: f"vm/{task.vm} {task_word(task)}", lambda: ())


def follow(client: OperatorClient, task: TaskView, until: float) -> bool:
    """Tell the task's progress on standard error until it ends; say whether it was done. Ends the command in time."""
    told = ""
    while True:
        line = task_line(task)
        if line != told:
            say(line, err=True)
            told = line
        if task.state in (TaskState.DONE, TaskState.FAILED):
            return task.state is TaskState.DONE
        if time.monotonic() > until:
            raise Failed(
                f"not finished in time: {line}",
                f"  hint: it goes on; `buckler vm show {task.vm}` tells where it runs",
                exit_code=EXIT_UNFINISHED,
            )
        time.sleep(POLL)
        task = client.task(task.id)


def task_word(task: TaskView) -> str:
    """Say in a few words where a migration stands."""
    match task.state:
        case TaskState.DONE:
            return f"moved from {task.source} to {task.destination}"
        case TaskState.FAILED:
            return f"not moved: {task.message or 'no reason told'}"
        case TaskState.RUNNING:
            return f"moves from {task.source} to {task.destination}"
        case None:
            return f"waits for {task.source} to take the order"


def task_line(task: TaskView) -> str:
    """Write one line of progress."""
    more = f": {task.message}" if task.message and task.state is not TaskState.FAILED else ""
    return f"{task.vm} {task_word(task)}{more}"
