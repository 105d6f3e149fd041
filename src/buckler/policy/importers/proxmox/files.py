"""Proxmox VE's firewall files → sections and lines (pve-firewall(8), "Configuration Files"). Owns the form, not the meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from buckler.policy.importers.outcome import Effect, Loss, LossBook
from buckler.policy.source import Source

_SECTION = re.compile(r"\[\s*(options|rules|aliases|ipset|group)(?:\s+([^\s\]]+))?\s*\]\s*(?:#.*)?\Z", re.IGNORECASE)


class Line(msgspec.Struct, frozen=True):
    """One line with its place."""

    file: str
    number: int
    text: str


class FirewallFile(msgspec.Struct, frozen=True):
    """What one file holds."""

    options: dict[str, tuple[str, Line]]
    rules: list[Line]
    aliases: dict[str, tuple[str, Line]]
    sets: dict[str, list[Line]]
    groups: dict[str, list[Line]]


class Teller:
    """Writes losses about lines."""

    def __init__(self, book: LossBook, subject: str) -> None:
        self._book, self._subject = book, subject

    def tell(self, line: Line, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
        """Write one down."""
        self._book.add(Loss(line.file, line.number, line.text.strip()[:120], self._subject, what, means, effect))


def read_file(source: Source, tell: Teller) -> FirewallFile:
    """Read one file. A line in no section that is known is told."""
    found = FirewallFile({}, [], {}, {}, {})
    section: str | None = None
    name = ""
    for line in _lines(source):
        head = _SECTION.match(line.text)
        if head:
            section, name = head[1].lower(), (head[2] or "").lower()
            if section in {"ipset", "group"}:
                (found.sets if section == "ipset" else found.groups).setdefault(name, [])
        elif line.text.startswith("["):
            section = None
            tell.tell(line, "this section is not known", "nothing of it is carried over", Effect.OMITTED)
        elif section is None:
            tell.tell(line, "a line in no section that is known", "not carried over", Effect.OMITTED)
        else:
            _sort_in(line, section, name, found, tell)
    return found


def is_on(file: FirewallFile) -> bool:
    """Say whether a file's firewall is on; it is off unless the file says so."""
    return file.options.get("enable", ("0", None))[0] not in {"", "0"}


def _sort_in(line: Line, section: str, name: str, found: FirewallFile, tell: Teller) -> None:
    if section == "options":
        key, colon, value = line.text.partition(":")
        if not colon:
            tell.tell(line, "an option without a value", "not carried over", Effect.OMITTED)
        found.options[key.strip().lower()] = (value.partition("#")[0].strip(), line)
    elif section == "aliases":
        words = line.text.partition("#")[0].split()
        if len(words) == 2:
            found.aliases[words[0].lower()] = (words[1], line)
        else:
            tell.tell(line, "an alias is a name and an address", "not carried over", Effect.OMITTED)
    elif section == "rules":
        found.rules.append(line)
    else:
        (found.sets if section == "ipset" else found.groups)[name].append(line)


def _lines(source: Source) -> Iterable[Line]:
    for number, text in enumerate(source.text.splitlines(), start=1):
        bare = text.strip()
        if bare and not bare.startswith("#"):
            yield Line(source.name, number, bare)
