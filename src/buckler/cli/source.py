"""Where documents come from: files, folders, standard input. Reads text; what it means is the controller's to say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from buckler.cli.session import EXIT_REFUSED, Failed
from buckler.model.operatorapi.documents import Reference, SourceFile

F = TypeVar("F", bound=Callable[..., Any])
SUFFIXES = (".yaml", ".yml", ".json")
LIMIT = 8 * 1024 * 1024


def files_option(*, required: bool) -> Callable[[F], F]:
    """Add ``-f``, any number of times."""
    return click.option(
        "-f", "--filename", "filenames", multiple=True, required=required, metavar="FILE|DIR|-",
        help="A file, a folder (its .yaml, .yml and .json files, and those of folders below) or - for standard input.",
        type=click.Path(allow_dash=True),
    )  # fmt: skip


def read_sources(filenames: Iterable[str], exit_code: int = EXIT_REFUSED) -> tuple[SourceFile, ...]:
    """Read everything that ``-f`` named, in a stable order, each file once. Raises Failed with all that cannot be read."""
    sources: dict[str, SourceFile] = {}
    problems: list[str] = []
    for path in [path for filename in filenames for path in _paths(filename, problems)]:
        try:
            source = _standard_input() if path is None else _read_file(path)
            sources.setdefault(source.name, source)
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise Failed(*dict.fromkeys(problems), exit_code=exit_code)
    return tuple(sources.values())


def references_in(sources: Sequence[SourceFile]) -> tuple[Reference, ...]:
    """Name the documents in ``sources``. Whatever is no document ends the command: nothing is guessed."""
    import yaml

    found = []
    for source in sources:
        try:
            documents = [document for document in yaml.safe_load_all(source.text) if document is not None]
        except yaml.YAMLError as error:
            raise Failed(f"{source.name} is not YAML: {error}") from error
        for document in documents:
            is_list = isinstance(document, dict) and document.get("kind") == "List"
            items = (document.get("items") or ()) if is_list else (document,)
            found += [_reference(source.name, item) for item in items]
    return tuple(found)


def _reference(file: str, document: object) -> Reference:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(metadata, dict):
        raise Failed(f"{file} holds something that is no document: it has no metadata")
    kind, name, tenant = document.get("kind"), metadata.get("name"), metadata.get("tenant", "default")
    if not (isinstance(kind, str) and isinstance(name, str) and isinstance(tenant, str)):
        raise Failed(f"{file} holds a document without kind or metadata.name")
    return Reference(kind=kind, name=name, tenant=tenant)


def _standard_input() -> SourceFile:
    return SourceFile(name="<stdin>", text=_text("<stdin>", sys.stdin.buffer.read(LIMIT + 1)))


def _paths(filename: str, problems: list[str]) -> list[Path | None]:
    """List what a word of the command line means; None is standard input."""
    path = Path(filename)
    if filename == "-":
        return [None]
    try:
        if not path.is_dir():
            return [path]
        found = sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}")
        return []
    if not found:
        problems.append(f"{path} holds no {', '.join(SUFFIXES)} file")
    return [*found]


def _read_file(path: Path) -> SourceFile:
    with path.open("rb") as file:
        return SourceFile(name=str(path), text=_text(str(path), file.read(LIMIT + 1)))


def _text(name: str, content: bytes) -> str:
    if len(content) > LIMIT:
        raise ValueError(f"{name} is larger than {LIMIT // 1024 // 1024} MiB: surely no document")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from error
