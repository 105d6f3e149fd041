#!/usr/bin/env python3
"""Writes docs/reference/language.md from the documents' own structs; with ``--check`` only says whether it is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buckler.policy import documents, responses, termwords, things, words
from buckler.policy.language import Kind
from buckler.policy.schema import document_schema

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference" / "language.md"
REFUSED = {
    "In a policy, a flow or a rule": documents._LATER_POLICY,
    "As an action": documents._LATER_ACTION,
    "As a peer": words._LATER_PEER,
    "In a VM": documents._LATER_VM,
    "In a Network": documents._LATER_NETWORK,
    "In an Endpoint": things._LATER_ENDPOINT,
    "In a Service": things._LATER_SERVICE,
    "In a Response": responses._LATER_RESPONSE,
    "In an Exception": termwords._LATER_EXCEPTION,
}
HEAD = """\
# Every word of the documents

Made from the code by `tools/reference_language.py`; what the words do together is told in [policy.md](policy.md), and the same
is there for editors as JSON Schema in [schema](schema). Every document has `apiVersion: buckler.io/v1`, `kind`, `metadata` (`name`, `tenant`,
`labels`) and `spec`.
"""


def reference() -> str:
    """Write the whole page."""
    parts: dict[str, dict[str, Any]] = {}
    specs: dict[Kind, dict[str, Any]] = {}
    for kind in Kind:
        schema = document_schema(kind)
        parts |= schema["$defs"]
        specs[kind] = parts.pop(_name(schema["properties"]["spec"]["$ref"]))
    lines = [HEAD]
    for kind, spec in specs.items():
        lines += [f"## {kind.value}", *_part(spec)]
    lines += ["# What they are made of", ""]
    for name in sorted(parts):
        if "properties" in parts[name]:
            lines += [f"## {title(name)}", *_part(parts[name])]
    lines += ["# Words of which one is chosen", ""]
    for name in sorted(parts):
        if "enum" in parts[name]:
            lines += [f"## {title(name)}", *_told(parts[name]), _words(parts[name]["enum"]), ""]
    lines += [
        "# Words that are known and refused",
        "",
        "Nothing that is not enforced is taken. Each is refused by `check` and `apply` with its reason.",
    ]
    for place, refused in REFUSED.items():
        lines += ["", f"## {place}", "| word | why |", "|---|---|"]
        lines += [f"| `{word}` | {why} |" for word, why in sorted(refused.items())]
    return "\n".join(lines).rstrip() + "\n"


def title(name: str) -> str:
    """Name a part as people do."""
    return name.removesuffix("Spec")


def _part(part: dict[str, Any]) -> Iterator[str]:
    yield from _told(part)
    if part["properties"]:
        yield "| field | form | left out | meaning |"
        yield "|---|---|---|---|"
    for field, written in part["properties"].items():
        yield f"| `{field}` | {_form(written)} | {_default(field, written, part)} | {written['description']} |"
    yield ""


def _told(part: dict[str, Any]) -> Iterator[str]:
    text = " ".join(part.get("description", "").replace("``", "`").split())
    if text:
        yield from (text, "")


def _form(written: dict[str, Any]) -> str:
    if "$ref" in written:
        name = title(_name(written["$ref"]))
        return f"[{name}](#{name.lower()})"
    if "anyOf" in written:
        return " or ".join(_form(each) for each in written["anyOf"] if each != {"type": "null"})
    if written.get("type") == "array":
        return f"list of {_form(written['items'])}" if "items" in written else "list"
    if written.get("type") == "object":
        return "mapping of texts"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}[written["type"]]


def _default(field: str, written: dict[str, Any], part: dict[str, Any]) -> str:
    if field in part.get("required", ()):
        return "**required**"
    given = written.get("default")
    if not isinstance(given, str | int) or given == "":
        return ""
    return f"`{str(given).lower() if isinstance(given, bool) else given}`"


def _words(values: list[str]) -> str:
    return ", ".join(f"`{each}`" if each else "nothing" for each in values)


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]


def main() -> None:
    """Write the page, or compare it."""
    text = reference()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() != text:
            sys.exit("docs/reference/language.md is stale: run tools/reference_language.py")
        return
    TARGET.write_text(text)


if __name__ == "__main__":
    main()
