"""The entry point ``buckler``: which command lives in which room. Owns the table, no command."""

from __future__ import annotations

import click

from buckler.cli.lazy import Door, LazyGroup

SECTIONS = {
    "Change the pool": {
        "apply": Door("buckler.cli.apply:apply", "Create or replace documents from files, all or nothing."),
        "diff": Door(
            "buckler.cli.apply:diff", "Show what apply would change: exit code 0 for nothing, 1 for something."
        ),
        "delete": Door("buckler.cli.document:delete", "Delete documents by kind and name, or those of files."),
        "label": Door("buckler.cli.document:label", "Set or remove labels: they are what policies select."),
        "migrate": Door("buckler.cli.migration:migrate", "Move a running VM to another host, shield first."),
    },
    "Look at the pool": {
        "get": Door("buckler.cli.document:get", "List documents, or show one."),
        "describe": Door("buckler.cli.describe:describe", "Tell all about one thing, in words."),
        "status": Door("buckler.cli.pool:status", "Show per host what is wanted and what the kernel enforces."),
        "unprotected": Door("buckler.cli.pool:unprotected", "List VMs whose shield does not enforce, and why."),
        "rogues": Door("buckler.cli.pool:rogues", "List domains that nobody registered."),
    },
    "Understand who may speak with whom": {
        "explain": Door("buckler.cli.explain:explain", "Say which rule decides a connection, at both ends."),
        "reach": Door("buckler.cli.reach:reach", "Show the matrix of everything that may be sent."),
        "policy": Door(
            "buckler.offline.command:policy", "Ask about policies, in files or of the pool; revisions and rollback."
        ),
        "import": Door("buckler.offline.importing:import_", "Carry over policies of other systems, from files."),
        "counters": Door(
            "buckler.cli.counter:counters", "Show how many packets each rule decided between any two ends."
        ),
        "flows": Door("buckler.cli.flow:flows", "Show connections and refusals as the shields saw them."),
    },
    "Work on one kind of thing": {
        "vm": Door("buckler.cli.vm:vm", "List, adopt, quarantine VMs; see what they use, read their histories."),
        "host": Door("buckler.cli.host:host", "List, drain, admit and revoke hypervisor hosts."),
        "ledger": Door("buckler.cli.ledger:ledger", "Verify and export the record of everything."),
    },
    "Run Buckler": {
        "up": Door("buckler.up.command:up", "Run controller and agent on this host."),
        "controller": Door("buckler.controller.command:controller", "Run and look after a controller."),
        "agent": Door("buckler.agent.command:agent", "Run and look after a host's agent."),
        "lab": Door("buckler.lab.command:lab", "A virtual data centre on this machine, to try things in."),
    },
}

HELP = """Shields for pools of virtual machines, outside the guest.

\b
Example:
  buckler apply -f examples/shop/      write down what may speak with what
  buckler reach                        see the matrix that follows
  buckler explain web1 db 5432        ask why one connection is refused

Exit codes: 0 done · 1 refused, or a difference found · 2 wrong usage · 3 no controller answered
· 4 done, but not enforced or finished in time · 5 a verification failed.
"""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="buckler", prog_name="buckler")
@click.option("--socket", envvar="BUCKLER_SOCKET", metavar="PATH", help="Unix socket of the controller's operator API.")
@click.pass_context
def main(context: click.Context, socket: str | None) -> None:
    """Read the one option that all commands share."""
    context.meta["buckler.socket"] = socket


if __name__ == "__main__":
    main(prog_name="buckler")
