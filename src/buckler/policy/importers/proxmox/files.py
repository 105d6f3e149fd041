"""Proxmox VE's firewall files → sections and lines (pve-firewall(8), "Configuration Files"). Owns the form, not the meaning.

Read as narrowly as pve-firewall reads them: what it would pass over must allow nothing here, and may have denied something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from buckler.policy.importers.outcome import Effect, Loss, LossBook
from buckler.policy.source import Source

_SECTION = re.compile(r"\[(?:(options|rules|aliases)\]|(ipset|group)\s+([^\s\]]+)\]\s*(?:#.*)?)\Z", re.IGNORECASE)
_ALIAS = re.compile(r"(\S+)\s(\S+)\Z")


class Line(msgspec.Struct, frozen=True):
    """One line with its place."""

    file: str
    number: int
    text: str


class FirewallFile(msgspec.Struct, frozen=True):
    """What one file holds. ``unclear``: lines whose section nobody knows, so that they may say anything of whom the file binds."""

    options: dict[str, tuple[str, Line]]
    rules: list[Line]
    aliases: dict[str, tuple[str, Line]]
    sets: dict[str, list[Line]]
    groups: dict[str, list[Line]]
    unclear: list[Line]
    twice: set[tuple[str, str]]
    """Groups and IP sets that are given twice: releases differ in which of them counts."""


class Teller:
    """Writes losses about lines."""

    def __init__(self, book: LossBook, subject: str) -> None:
        self._book, self._subject = book, subject

    def tell(self, line: Line, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
        """Write one down."""
        self._book.add(Loss(line.file, line.number, line.text.strip()[:120], self._subject, what, means, effect))


def read_file(source: Source, tell: Teller, *, has_groups: bool = False) -> FirewallFile:
    """Read one file; only the cluster's ``has_groups``. A line in no section that is known is told."""
    found = FirewallFile({}, [], {}, {}, {}, [], set())
    section: str | None = None
    name = ""
    for line in _lines(source):
        head = _SECTION.match(line.text)
        if head and (has_groups or (head[2] or "").lower() != "group"):
            section, name = (head[1] or head[2]).lower(), (head[3] or "").lower()
            if section in {"ipset", "group"}:
                known = found.sets if section == "ipset" else found.groups
                found.twice.update({(section, name)} if name in known else ())
                known.setdefault(name, [])
        elif line.text.startswith("[") or section is None:
            section = None
            what = "this section is not known" if line.text.startswith("[") else "a line in no section that is known"
            tell.tell(line, what, "whom this file binds is denied everything")
            found.unclear.append(line)
        else:
            _sort_in(line, section, name, found, tell)
    return found


def is_on(file: FirewallFile) -> bool:
    """Say whether a file's firewall is on: it is off where nothing is said, or 0 and nothing else."""
    return file.options.get("enable", ("0", None))[0] != "0"


def _sort_in(line: Line, section: str, name: str, found: FirewallFile, tell: Teller) -> None:
    if section == "options":
        key, colon, value = line.text.partition(":")
        if not colon:
            tell.tell(line, "an option without a value", "not carried over", Effect.OMITTED)
        found.options[key.strip().lower()] = (value.strip(), line)  # with a comment behind it is no value
    elif section == "aliases":
        alias = _ALIAS.match(line.text.partition("#")[0].rstrip())
        if alias:
            found.aliases[alias[1].lower()] = (alias[2], line)
        else:
            tell.tell(line, "an alias is a name and an address", "not carried over", Effect.OMITTED)
    elif section == "rules":
        found.rules.append(line)
    else:
        (found.sets if section == "ipset" else found.groups)[name].append(line)


def _lines(source: Source) -> Iterable[Line]:
    """List lines that say something; blanks before them are kept, for with them a line is none that is known."""
    for number, text in enumerate(re.split(r"\r?\n", source.text), start=1):
        bare = text.rstrip()
        if bare and not bare.startswith("#"):
            yield Line(source.name, number, bare)
