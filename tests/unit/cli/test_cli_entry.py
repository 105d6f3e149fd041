from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from buckler.__main__ import SECTIONS, main

OWN = sorted(
    name for section in SECTIONS.values() for name, door in section.items() if door.where.startswith("buckler.cli.")
)
HEAVY = ("alembic", "cryptography", "httpx", "libvirt", "litestar", "msgspec", "pyroute2", "rich", "sqlalchemy", "yaml")


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(main)
    found: list[tuple[str, click.Command]] = []
    for name in OWN:
        command = main.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {each}", sub) for each, sub in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), commands())
def test_every_command_teaches_with_an_example(name: str, command: click.Command) -> None:
    help_text = command.help or ""
    assert "Example" in help_text
    assert f"buckler {name.split()[0]}" in help_text


@pytest.mark.parametrize("name", ["apply", "delete", "label", "migrate", "vm adopt", "vm quarantine", "vm release",
                                  "host drain", "host undrain", "host revoke", "host join-token"])  # fmt: skip
def test_every_change_has_a_dry_run(name: str) -> None:
    command = dict(commands())[name]
    assert "dry_run" in {parameter.name for parameter in command.params}


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["stauts"])
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.output


def test_the_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from buckler.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('HEAVY', sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Change the pool:" in result.stdout
    assert not [name for name in HEAVY if f"'{name}'" in result.stderr]


def test_without_a_controller_the_reason_is_told_and_the_code_is_3(tmp_path: object) -> None:
    for arguments in (["status"], ["get", "vms"], ["diff", "-f", "-"], ["vm", "list"], ["ledger", "verify"]):
        result = CliRunner().invoke(main, ["--socket", f"{tmp_path}/nobody.sock", *arguments], input="")
        assert result.exit_code == 3, arguments
        assert "no controller answers at" in result.output
        assert "buckler up" in result.output


def test_wrong_usage_is_2() -> None:
    for arguments in (["get"], ["get", "pods"], ["delete"], ["label", "vm", "a", "b"], ["explain", "a", "b", "http"]):
        assert CliRunner().invoke(main, arguments).exit_code == 2, arguments


def test_an_unreadable_file_is_1_but_for_diff_more_than_1() -> None:
    assert CliRunner().invoke(main, ["apply", "-f", "/nowhere.yaml"]).exit_code == 1
    assert CliRunner().invoke(main, ["diff", "-f", "/nowhere.yaml"]).exit_code == 2


def test_a_room_that_is_missing_is_told_in_one_line() -> None:
    from buckler.cli.lazy import Door, LazyGroup

    group = LazyGroup("x", sections={"S": {"gone": Door("buckler.nowhere:gone", "Gone.")}})
    result = CliRunner().invoke(group, ["gone"])
    assert result.exit_code == 1
    assert "cannot be loaded here" in result.output


def test_commands_are_completed_without_importing_them() -> None:
    from buckler.cli.lazy import Door, LazyGroup

    group = LazyGroup("x", sections={"S": {"gone": Door("buckler.nowhere:gone", "Gone."), "go": Door("x:y", "Go.")}})
    offered = group.shell_complete(click.Context(group), "go")
    assert [(item.value, item.help) for item in offered] == [("go", "Go."), ("gone", "Gone.")]
    assert [item.value for item in group.shell_complete(click.Context(group), "--he")] == ["--help"]
