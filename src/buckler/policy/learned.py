"""DNS names as peers: which may stand in a policy, which names a pattern means, and the group of addresses learned for one.

A pattern's group is an address group whose members come and go, each for one network only. Owns no learning (``naming``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from buckler.policy.language import DEFAULT_TENANT, AddressGroupSpec, Document, FlowSpec, Kind, Peer, PolicySpec

GROUP_PREFIX = "dns:"
"""Begins the name of a pattern's group; no document that somebody wrote may have such a name."""
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
_MOST = 253
MOST_RESOLVERS = 8


class Learned(msgspec.Struct, frozen=True):
    """An address that a VM was told for a name. Holds in ``network`` alone, ``until`` (Unix seconds); 0: no end is known."""

    name: str
    network: str
    address: str
    until: int = 0
    vm: str = ""
    resolver: str = ""
    at: float = 0.0

    @property
    def cidr(self) -> str:
        return f"{self.address}/{128 if ':' in self.address else 32}"


class LearnedGroup(AddressGroupSpec, frozen=True):
    """What a pattern stands for now. ``cidrs`` is empty: no answer holds everywhere."""

    answers: tuple[Learned, ...] = ()


class PatternPeer(Peer, frozen=True):
    """A pattern in a composed policy: what stands for it stands behind. Itself it means nobody, so no rule comes to mean everyone."""

    pattern: str = ""


class LearnedPeer(Peer, frozen=True):
    """One answer as a peer: its ``cidr`` in the rows of ``network`` alone."""

    network: str = ""
    until: int = 0


def refuse_pattern(text: str) -> str:
    """Say why a text is no name that a policy may mean; empty: it is one, as ``a.example.org`` or ``*.example.org``."""
    name = text.removeprefix("*.")
    labels = name.split(".")
    if text == "*" or not name:
        return "it would mean every name: write {world: true}"
    if not name.isascii():
        return "write an internationalised name in its ASCII form (xn--…)"
    if name != name.lower():
        return "write it in lower case"
    if name.endswith("."):
        return "leave the last dot out"
    if "*" in name:
        return "a * may only stand for whole labels in front, as in *.example.org"
    if len(name) > _MOST or not all(_LABEL.match(label) for label in labels):
        return "labels are of letters, digits and inner hyphens (1 to 63), 253 characters in all"
    if len(labels) < 2:
        return "at least two labels, as in example.org: one alone would mean a whole top-level domain"
    if labels[-1].isdecimal():
        return "it reads as an address: write {cidr: …}"
    wrong = next((label for label in labels if label[2:4] == "--" and not _is_punycode(label)), "")
    return f"{wrong} is no internationalised label" if wrong else ""


def _is_punycode(label: str) -> bool:
    """Say whether an A-label stands for something, and for nothing else (RFC 5890, 2.3.2.1)."""
    if not label.startswith("xn--"):
        return False
    try:
        word = label[4:].encode().decode("punycode")
        return not word.isascii() and word.lower() == word and word.encode("punycode").decode() == label[4:]
    except (UnicodeError, ValueError, OverflowError, IndexError):
        return False


def is_meant(pattern: str, name: str) -> bool:
    """Say whether a pattern means a name in lower case. ``*.example.org`` means what is below, at any depth, not itself."""
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def patterns_of(document: Document) -> frozenset[str]:
    """Name the patterns that a policy or flow has as peers."""
    spec = document.spec
    if isinstance(spec, PolicySpec):
        return frozenset(peer.dns for rule in spec.egress for peer in rule.peers if peer.dns)
    return frozenset(peer.dns for peer in spec.destinations if peer.dns) if isinstance(spec, FlowSpec) else frozenset()


def name_group(pattern: str) -> str:
    """Name the group of a pattern, as groups are named."""
    return f"{GROUP_PREFIX}{pattern}"


def learned_groups(documents: Iterable[Document], answers: Iterable[Learned]) -> tuple[Document, ...]:
    """Give each pattern that policies name, and that has an answer, its group."""
    found: list[Document] = []
    answers = tuple(sorted(answers, key=lambda each: (each.network, each.name, each.address)))
    for pattern in sorted(frozenset[str]().union(*map(patterns_of, documents))):
        meant = tuple(each for each in answers if is_meant(pattern, each.name))
        if meant:
            found.append(Document(Kind.ADDRESS_GROUP, name_group(pattern), LearnedGroup((), answers=meant)))
    return tuple(found)


def group_of(pattern: str, named: Mapping[str, Document]) -> tuple[Learned, ...]:
    """Give what a pattern stands for; nothing was learned: nothing."""
    document = named.get(f"{Kind.ADDRESS_GROUP}/{DEFAULT_TENANT}/{name_group(pattern)}")
    return document.spec.answers if document is not None and isinstance(document.spec, LearnedGroup) else ()


def learned_peers(pattern: str, named: Mapping[str, Document]) -> Iterator[Peer]:
    """Write a pattern out."""
    yield PatternPeer(pattern=pattern)
    latest: dict[tuple[str, str], int] = {}
    for each in group_of(pattern, named):
        place = (each.cidr, each.network)
        known = latest.get(place)
        latest[place] = each.until if known is None else max(known, each.until) if known and each.until else 0
    yield from (LearnedPeer(cidr=cidr, network=network, until=until) for (cidr, network), until in latest.items())
