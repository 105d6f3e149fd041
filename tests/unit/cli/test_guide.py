"""The guides say only what works: their documents are accepted, their commands and options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from buckler.__main__ import main
from buckler.policy.documents import read_documents
from buckler.policy.source import Source

PAGES = sorted(Path(__file__).parents[3].glob("docs/guide/*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LATER = {"agent", "controller", "lab", "up"}


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def command_lines() -> Iterator[str]:
    for page in PAGES:
        for _, text in blocks(page):
            joined = text.replace("\\\n", " ")
            yield from (line for line in joined.splitlines() if line.startswith("buckler "))


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_commands_of_the_guides_exist_with_their_options(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name = words.pop(0)
        if command is main and name in LATER:
            return
        found = command.get_command(context, name)
        assert found is not None, line
        command = found
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-") and word != "-"} <= known | {"--help"}


def test_documents_of_the_guides_are_accepted() -> None:
    texts = [
        (f"{page.name}-{number}", text)
        for page in PAGES
        for number, (language, text) in enumerate(blocks(page))
        if language == "yaml"
    ]
    assert texts
    for name, text in texts:
        reading = read_documents([Source(name, text)])
        assert not reading.problems, [str(problem) for problem in reading.problems]
        assert reading.documents
