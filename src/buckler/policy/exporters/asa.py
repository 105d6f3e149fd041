"""Permits → object groups and one global access list of a Cisco ASA (9.5 and later). Owns its words and what it cannot say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from buckler.policy.exporters.permits import Permit, Permits
from buckler.policy.importers.outcome import Effect, Loss
from buckler.policy.language import Document
from buckler.policy.matrix import Connection

LIST = "BUCKLER"
_PORTED = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}


def asa_configuration(permits: Permits) -> tuple[str, tuple[Loss, ...]]:
    """Write the configuration, and what it could not take over beside the losses that permits have already."""
    groups = _Groups()
    losses: dict[Loss, None] = dict.fromkeys(permits.losses)
    rules = []
    for permit in permits.between:
        rules += list(_rules(permit, groups, losses))
    members = [
        part for version in (4, 6) if (part := tuple(each for each in permits.members if _version(each) == version))
    ]
    pool = [groups.name(part) for part in members]
    rules += [f"deny ip {one} {other}" for one in pool for other in pool]
    for version in (4, 6):
        if closed := tuple(each for each in permits.closed if _version(each.partition("/")[0]) == version):
            name = groups.name(closed)
            rules += [f"deny ip {name} any", f"deny ip any {name}"]
    for permit in permits.outside:
        rules += list(_rules(permit, groups, losses))
    rules += [f"deny ip {one}" for each in pool for one in (f"{each} any", f"any {each}")]
    rules.append("permit ip any any")
    if permits.refused_between or permits.refused_outside:
        for each in permits.networks:
            losses.setdefault(_loss(each, "reject answers", "the ASA denies without an answer", Effect.NOTE))
    for each in permits.networks:
        losses.setdefault(_loss(each, "answers to ICMP", "pass only where the ASA inspects icmp", Effect.NOTE))
    lines = [
        *groups.lines(),
        *(f"access-list {LIST} {_extended(each)}" for each in rules),
        f"access-group {LIST} global",
    ]
    return "\n".join(lines) + "\n", tuple(losses)


def _extended(rule: str) -> str:
    return rule if rule.startswith("remark ") else f"extended {rule}"


class _Groups:
    """Object groups by what is in them."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, ...], str] = {}

    def name(self, blocks: tuple[str, ...]) -> str:
        """Give the words for these addresses."""
        if blocks in {("0.0.0.0/0",), ("::/0",)}:
            return "any4" if blocks == ("0.0.0.0/0",) else "any6"
        return f"object-group {self._names.setdefault(blocks, f'{LIST}-{len(self._names) + 1}')}"

    def lines(self) -> Iterator[str]:
        """Define the groups."""
        for blocks, name in self._names.items():
            yield f"object-group network {name}"
            for each in blocks:
                network = ipaddress.ip_network(each)
                if network.num_addresses == 1:
                    yield f" network-object host {network.network_address}"
                elif network.version == 4:
                    yield f" network-object {network.network_address} {network.netmask}"
                else:
                    yield f" network-object {network}"


def _rules(permit: Permit, groups: _Groups, losses: dict[Loss, None]) -> Iterator[str]:
    ends = f"{groups.name(permit.sources)} {groups.name(permit.destinations)}"
    version = _version(permit.sources[0].partition("/")[0])
    yield f"remark {permit.words.replace('…', '...')}"
    if isinstance(permit.connections, str):
        yield f"permit ip {ends}"
        return
    for each in permit.connections:
        if each.protocol == "other":
            what = f"{permit.words}: every protocol but TCP, UDP, SCTP and ICMP"
            means = "is not permitted: the list cannot say it"
            losses.setdefault(_loss(permit.source, what, means, Effect.TIGHTENED))
        else:
            yield from _connection(each, ends, version)


def _connection(each: Connection, ends: str, version: int) -> Iterable[str]:
    if each.protocol in _PORTED:
        word = _PORTED[each.protocol]
        if each.ports == ((0, 65535),):
            return [f"permit {word} {ends}"]
        return [f"permit {word} {ends} {_span(low, high)}" for low, high in each.ports]
    if (each.protocol == "ICMP") != (version == 4):
        return []
    word = "icmp" if version == 4 else "icmp6"
    if each.types == ((0, 255),):
        return [f"permit {word} {ends}"]
    types = [kind for low, high in each.types for kind in range(low, high + 1)]
    codes = [f" {code}" for low, high in each.codes for code in range(low, high + 1)] or [""]
    return [f"permit {word} {ends} {kind}{code}" for kind in types for code in codes]


def _span(low: int, high: int) -> str:
    return f"eq {low}" if low == high else f"range {low} {high}"


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def _loss(document: Document, what: str, means: str, effect: Effect) -> Loss:
    subject = f"{document.kind} {document.tenant}/{document.name}"
    return Loss(document.file, document.line, "", subject, what, means, effect)
