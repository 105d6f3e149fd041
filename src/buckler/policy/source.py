"""YAML (and so JSON) text → raw values that know their line. Bounded; owns no meaning.

Scalars follow YAML 1.2's core schema, so ``52:54:00:50:00:01`` and ``on`` are strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import yaml

from buckler.policy.problem import Problem

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 400_000
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z", re.ASCII)
"""With zeros before it a number is an octal one to readers of YAML 1.1: here it stays a word."""
_PLAIN_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


class Source(msgspec.Struct, frozen=True):
    """One file as text, and the name to blame."""

    name: str
    text: str


class Raw(msgspec.Struct, frozen=True):
    """A value with the line it starts on. Mappings hold Raw by key, lists hold Raw."""

    value: str | int | bool | dict[str, Raw] | tuple[Raw, ...] | None
    line: int


def name_in(raw: Raw) -> str:
    """Give the name of what may be a document; empty: it has none."""
    for step in ("metadata", "name"):
        if not isinstance(raw.value, dict) or step not in raw.value:
            return ""
        raw = raw.value[step]
    return raw.value if isinstance(raw.value, str) else ""


class _Refused(Exception):
    def __init__(self, line: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.line, self.message, self.hint = line, message, hint


def read_source(source: Source) -> tuple[list[Raw], list[Problem]]:
    """Split a file into its documents. A file that cannot be read as a whole gives one problem and no document."""
    try:
        if len(source.text) > MAX_BYTES:
            raise _Refused(0, f"the file is larger than {MAX_BYTES} characters")
        _check_bounds(source.text)
        loader = yaml.SafeLoader(source.text)
        documents = []
        problems: list[Problem] = []
        while loader.check_node():
            node = loader.get_node()
            if node is not None and not _is_empty(node):
                documents.append(_raw(node, "", source.name, problems))
        return documents, problems
    except _Refused as refused:
        return [], [Problem(source.name, refused.line, "", refused.message, refused.hint)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        text = " ".join(part for part in (error.context, error.problem) if part)
        return [], [Problem(source.name, mark.line + 1 if mark else 0, "", f"not YAML: {text}")]
    except (yaml.YAMLError, ValueError) as error:
        return [], [Problem(source.name, 0, "", f"not YAML: {str(error).splitlines()[0]}")]


def _check_bounds(text: str) -> None:
    """Walk the events once before anything is built: no aliases, no tags, bounded depth and number."""
    depth = 0
    for count, event in enumerate(_events(text)):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if count > MAX_NODES:
            raise _Refused(line, f"more than {MAX_NODES} values in one file")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(line, "anchors and aliases are not taken", "write the value out where it is needed")
        tag = getattr(event, "tag", None)
        if tag not in {None, "!", *_PLAIN_TAGS}:
            raise _Refused(line, f"the tag {tag} is not taken", "write plain YAML")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")


def _events(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=yaml.SafeLoader)


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == ""


def _raw(node: yaml.Node, path: str, file: str, problems: list[Problem]) -> Raw:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return Raw(_mapping(node, path, file, problems), line)
    if isinstance(node, yaml.SequenceNode):
        return Raw(tuple(_raw(each, f"{path}[{index}]", file, problems) for index, each in enumerate(node.value)), line)
    return Raw(_scalar(node), line)


def _mapping(node: yaml.MappingNode, path: str, file: str, problems: list[Problem]) -> dict[str, Raw]:
    found: dict[str, Raw] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(file, line, path, "a key must be a word"))
            continue
        key = key_node.value
        inner = f"{path}.{key}" if path else key
        if key in found:
            problems.append(Problem(file, line, inner, "written twice", f"first on line {found[key].line}"))
            continue
        value = _raw(value_node, inner, file, problems)
        found[key] = Raw(value.value, line)
    return found


def _scalar(node: yaml.Node) -> str | int | bool | None:
    text = str(node.value)
    if getattr(node, "style", None) is not None or node.tag == "tag:yaml.org,2002:str":
        return text
    if text in {"", "~", "null"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    return int(text) if _INTEGER.match(text) else text
