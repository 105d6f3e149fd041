"""The shipped policies: what each asks for, and its documents with the answers in place. Owns no meaning of them.

A file begins with comments: its purpose, then one line for each parameter, ``name: what`` or ``name = default: what``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template

import msgspec

from buckler.policy.documents import Reading, read_documents
from buckler.policy.source import Source

_PARAMETER = re.compile(r"# (?P<name>[a-z_]+)( = (?P<default>\S+))?: (?P<text>.+)\Z")
_VALUE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_./]{0,62}\Z")


class Parameter(msgspec.Struct, frozen=True):
    """What to say for a policy. ``default`` None: it must be said."""

    name: str
    text: str
    default: str | None = None


class Shipped(msgspec.Struct, frozen=True):
    """A policy of the library."""

    name: str
    purpose: str
    parameters: tuple[Parameter, ...]
    text: str


class BadParameters(ValueError):
    """Parameters that are missing, unknown or malformed, all of them named."""


def list_shipped() -> dict[str, Shipped]:
    """Read the whole library, by name."""
    folder = files("buckler.policy").joinpath("library")
    found = [
        _shipped(each.name.removesuffix(".yaml"), each.read_text())
        for each in folder.iterdir()
        if each.name.endswith(".yaml")
    ]
    return {each.name: each for each in sorted(found, key=lambda each: each.name)}


def write_shipped(shipped: Shipped, given: Mapping[str, str]) -> str:
    """Put parameters in place. A value is a word: nothing that is YAML. Raises BadParameters."""
    known = {each.name: each for each in shipped.parameters}
    problems = [f"{name} is no parameter of {shipped.name}" for name in given if name not in known]
    problems += [f"{name}: {value!r} is no plain word" for name, value in given.items() if not _VALUE.match(value)]
    problems += [
        f"{each.name} must be said: {each.text}"
        for each in known.values()
        if each.default is None and each.name not in given
    ]
    if problems:
        raise BadParameters(*problems)
    values = {each.name: given.get(each.name, each.default or "") for each in known.values()}
    body = "".join(line for line in shipped.text.splitlines(keepends=True) if not line.startswith("# "))
    instance = json.dumps({"library": shipped.name, "parameters": values})
    body = Template(body).substitute(values).replace("\nspec:\n", f"\nspec:\n  instance: {instance}\n")
    return f"# {shipped.purpose} From the library: {shipped.name}\n{body}"


def check_shipped(name: str, text: str) -> Reading:
    """Read what was written as documents."""
    return read_documents([Source(name, text)])


def _shipped(name: str, text: str) -> Shipped:
    purpose, *rest = [line for line in text.splitlines() if line.startswith("# ")]
    found = [_PARAMETER.match(line) for line in rest]
    parameters = tuple(Parameter(each["name"], each["text"], each["default"]) for each in found if each)
    return Shipped(name, purpose.removeprefix("# "), parameters, text)
