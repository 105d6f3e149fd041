"""Take typed values out of raw ones, noting every problem and going on. Owns shapes and syntax, no meaning of fields."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import TypeVar

from buckler.model.label import RESERVED_PREFIX
from buckler.policy.problem import Problem, Severity, guess
from buckler.policy.source import Raw

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_DEVICE = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,14}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_LONG = re.compile(r"[-+]?[0-9]{19,}\Z")
"""A number of more digits than are read as one."""
_TYPES = {str: "a text", int: "a whole number", bool: "true or false", dict: "a mapping", tuple: "a list"}


class Place:
    """One raw value at its path in one file, with the list where problems go."""

    def __init__(self, raw: Raw, path: str, file: str, problems: list[Problem]) -> None:
        self.raw, self.path, self.file, self.problems = raw, path, file, problems

    @property
    def line(self) -> int:
        return self.raw.line

    def note(self, message: str, hint: str = "", severity: Severity = Severity.ERROR) -> None:
        """Note a problem here."""
        self.problems.append(Problem(self.file, self.line, self.path, message, hint, severity))

    def at(self, step: str, raw: Raw) -> Place:
        """Go one step down."""
        joined = step if not self.path or step.startswith("[") else f".{step}"
        return Place(raw, self.path + joined, self.file, self.problems)

    def fields(
        self, known: Collection[str], required: Collection[str] = (), later: Mapping[str, str] | None = None
    ) -> dict[str, Place]:
        """Take a mapping's fields: unknown, missing and not yet implemented ones are problems."""
        if not isinstance(self.raw.value, dict):
            self.expected(dict)
            return {}
        taken = {}
        for key, raw in self.raw.value.items():
            place = self.at(key, raw)
            if key in known:
                taken[key] = place
            elif later and key in later:
                is_said = later[key].startswith(("say ", "write "))  # in another way
                place.note(f"{key} is {'no word here' if is_said else 'not implemented yet'}", later[key])
            else:
                place.note(f"unknown field {key!r}", guess(key, known))
        for key in required:
            if key not in self.raw.value:
                whole = self.path in {"", "metadata", "spec"}
                self.note(
                    f"{key} is missing",
                    f"every document of this kind states its {key}" if whole else "it is required here",
                )
        return taken

    def items(self) -> list[Place]:
        """Take a list's items."""
        if not isinstance(self.raw.value, tuple):
            self.expected(tuple)
            return []
        return [self.at(f"[{index}]", raw) for index, raw in enumerate(self.raw.value)]

    def expected(self, kind: type) -> None:
        """Note that the value is of another type."""
        given = type(self.raw.value)
        hint = "put it in quotes" if kind is str and given in {int, bool} else ""
        self.note(f"must be {_TYPES[kind]}, not {_TYPES.get(given, 'empty')}", hint)

    def text(self, limit: int = 1024) -> str:
        if not isinstance(self.raw.value, str):
            self.expected(str)
            return ""
        if not self.raw.value.strip() or len(self.raw.value) > limit or not self.raw.value.isprintable():
            if not self.raw.value.strip():
                self.note("must not be empty")
            elif len(self.raw.value) > limit:
                self.note(f"longer than {limit} characters")
            elif set(self.raw.value) - set("\n\t") and not self.raw.value.replace("\n", " ").isprintable():
                self.note("holds characters that cannot be shown")
        return self.raw.value

    def integer(self, low: int, high: int) -> int | None:
        value = self.raw.value
        if isinstance(value, str) and _LONG.match(value):
            self.note(f"{value[:24]} is out of range", f"{low} to {high}")
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self.expected(int)
            return None
        if not low <= value <= high:
            self.note(f"{value} is out of range", f"{low} to {high}")
            return None
        return value

    def flag(self) -> bool:
        if not isinstance(self.raw.value, bool):
            self.expected(bool)
            return False
        return self.raw.value

    def choice(self, kind: type[E], default: E, later: Mapping[str, str] | None = None) -> E:
        """Take one word of an enum."""
        value = self.raw.value
        if isinstance(value, str) and value in kind._value2member_map_:
            return kind(value)
        if isinstance(value, str) and later and value in later:
            self.note(f"{value} is not implemented yet", later[value])
        elif isinstance(value, str):
            self.note(f"{value!r} is not known", guess(value, [each.value for each in kind]))
        else:
            self.expected(str)
        return default

    def name(self) -> str:
        return self._shaped(_NAME, "lower-case letters, digits, - and . (at most 63)")

    def device(self) -> str:
        """Take the name of a network interface as the kernel would, less what filters and files read as more than it."""
        return self._shaped(_DEVICE, "letters, digits, - _ . (at most 15, beginning with a letter or digit)")

    def mac(self) -> str:
        value = self._shaped(_MAC, "six pairs of hexadecimal digits, like 52:54:00:50:00:01", lower=True)
        if value and int(value[:2], 16) & 1:
            self.note("a group address is no interface's", "the first octet of a MAC must be even")
        elif value == "00:00:00:00:00:00":
            self.note("the null address is no interface's")
        return value

    def uuid(self) -> str:
        return self._shaped(_UUID, "libvirt's uuid of the domain, as virsh domuuid shows it", lower=True)

    def address(self) -> str:
        """Take one address, in its canonical form."""
        parsed = self._parsed(ipaddress.ip_address, "an IPv4 or IPv6 address without prefix length")
        if parsed is None:
            return ""
        if parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or str(parsed) == "255.255.255.255":
            self.note(f"{parsed} cannot be an interface's address")
        elif isinstance(parsed, ipaddress.IPv6Address) and (parsed.ipv4_mapped or parsed.scope_id):
            self.note(f"{parsed} is not taken", "write IPv4 addresses as IPv4, and no zone behind %")
        return str(parsed)

    def cidr(self) -> str:
        """Take one prefix, in its canonical form. Host bits are refused, as they show a slip."""
        parsed = self._parsed(ipaddress.ip_network, "a prefix like 10.0.0.0/8 or fd00::/8 without bits set behind it")
        if parsed is None:
            return ""
        if "%" in str(parsed):
            self.note("a zone is not taken", "leave out what stands behind %")
        elif isinstance(parsed, ipaddress.IPv6Network) and parsed.subnet_of(ipaddress.IPv6Network("::ffff:0:0/96")):
            self.note("IPv4-mapped prefixes are not taken", "write it as IPv4")
        elif parsed.is_multicast:
            self.note("multicast is no prefix of peers", "use the peer {group: true}")
        return str(parsed)

    def labels(self, *, users: bool = True) -> dict[str, str]:
        """Take a mapping of labels. ``users``: refuse reserved keys, which only Buckler sets."""
        if not isinstance(self.raw.value, dict):
            self.expected(dict)
            return {}
        taken = {}
        for key, raw in self.raw.value.items():
            place = self.at(key, raw)
            place.check_label_key(key, users=users)
            taken[key] = place.label_value()
        return taken

    def label_value(self) -> str:
        if not isinstance(self.raw.value, str):
            self.expected(str)
            return ""
        if not _LABEL_VALUE.match(self.raw.value):
            self.note(f"{self.raw.value!r} is no label value", "at most 63 letters, digits, - _ .")
        return self.raw.value

    def check_label_key(self, key: str, *, users: bool) -> None:
        """Note a key that is malformed, or reserved where users write."""
        prefix, slash, name = key.rpartition("/")
        if not _LABEL_NAME.match(name) or (slash and not _NAME.match(prefix)):
            self.note(f"{key!r} is no label key", "[prefix/]name of letters, digits, - _ .")
        elif users and (prefix + slash).endswith(RESERVED_PREFIX):
            self.note(f"labels under {RESERVED_PREFIX} are Buckler's own", "choose another prefix")

    def _shaped(self, pattern: re.Pattern[str], hint: str, *, lower: bool = False) -> str:
        value = self.raw.value
        if not isinstance(value, str):
            self.expected(str)
            return ""
        value = value.lower() if lower else value
        if not pattern.match(value):
            self.note(f"{value!r} has not the right form", hint)
            return ""
        return value

    def _parsed(self, parse: Callable[[str], T], hint: str) -> T | None:
        if not isinstance(self.raw.value, str):
            self.expected(str)
            return None
        try:
            return parse(self.raw.value)
        except ValueError:
            self.note(f"{self.raw.value!r} has not the right form", hint)
            return None


def each(place: Place | None, take: Callable[[Place], T]) -> tuple[T, ...]:
    """Take every item of a list that may be absent."""
    return tuple(take(item) for item in place.items()) if place else ()
