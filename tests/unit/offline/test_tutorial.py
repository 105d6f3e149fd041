"""The tutorial does what it says: its files are written, its commands run, its output and exit codes are the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from buckler.__main__ import main

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "policies-in-files.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def squeezed(text: str) -> str:
    return " ".join(text.split())


def run(command: str, told: list[str]) -> None:
    """Run one command; every line below it is part of its output, the exit code apart."""
    answer = CliRunner().invoke(main, shlex.split(command)[1:])
    code = int(told.pop().removeprefix("exit code ")) if told and told[-1].startswith("exit code ") else 0
    assert answer.exit_code == code, (command, answer.output)
    for line in told:
        assert squeezed(line) in squeezed(answer.output), (command, answer.output)


def test_the_tutorial_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = 0
    for language, text in BLOCK.findall(PAGE.read_text()):
        if language == "yaml":
            path = Path(text.splitlines()[0].removeprefix("# file: "))
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            continue
        for part in text.split("$ ")[1:]:
            command, *told = part.splitlines()
            run(command, told)
            commands += 1
    assert commands >= 17
