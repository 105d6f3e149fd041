"""A click group whose commands are imported only when they are called. Owns no command itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem


class Door(NamedTuple):
    """Where a command lives (``package.module:name``) and the one line that the group's help shows for it."""

    where: str
    summary: str


class LazyGroup(click.Group):
    """Lists ``doors`` by section without importing them; ``sections`` maps a heading to names and doors."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Door]] | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sections = sections or {}
        self.doors = {name: door for section in self.sections.values() for name, door in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, imported or not."""
        return sorted({*self.doors, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; a room that cannot be imported is told in one line."""
        door = self.doors.get(cmd_name)
        if door is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = door.where.partition(":")
        try:
            command = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise click.ClickException(f"`{cmd_name}` cannot be loaded here: {error}") from error
        if not isinstance(command, click.Command):
            raise click.ClickException(f"`{cmd_name}` cannot be loaded here: {door.where} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Let a name that nobody knows be answered with the nearest of the table."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the names of the table, importing nothing."""
        names = [CompletionItem(name, help=door.summary) for name, door in sorted(self.doors.items())]
        return [item for item in names if item.value.startswith(incomplete)] + click.Command.shell_complete(
            self, ctx, incomplete
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's form
        """Write every section from the table alone."""
        width = max((len(name) for name in self.doors), default=0)
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), door.summary) for name, door in section.items()])
