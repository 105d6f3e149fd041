"""What all bodies of the operator API have in common, and how problems are told. Knows no resource."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A body from outside: unknown fields are refused, never ignored."""


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """A body from the controller: a newer one may say more."""


class Issue(Answer, frozen=True):
    """One problem or warning in something that a person wrote. ``path`` is like ``spec.ingress[0].ports[1].port``."""

    message: str
    file: str = ""
    line: int = 0
    path: str = ""
    hint: str = ""


class Problem(Answer, frozen=True):
    """RFC 9457. ``problems`` is our extension: all of them at once."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    instance: str = ""
    problems: tuple[Issue, ...] = ()


class HostWait(Answer, frozen=True):
    """A host that does not yet enforce what is wanted, and why as far as known."""

    host: str
    wanted: int
    enforced: int
    reason: str = ""
