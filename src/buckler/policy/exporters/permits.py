"""Policies over identities → what may pass between addresses, for a firewall in the middle. Owns the list, no system's words.

Read from the resolved form, both ends considered: what is not in the list and has a VM at an end is denied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import product

import msgspec

from buckler.model.ids import IdentityNumber, Zone
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.importers.outcome import Effect, Loss, LossBook
from buckler.policy.language import FlowSpec, PolicyMode, PolicySpec
from buckler.policy.matrix import Connection, write_connections
from buckler.policy.meet import meet
from buckler.policy.pool import identity_key, singled_out, stations
from buckler.policy.reach import ALLOW_ALL, allowed_ranges
from buckler.policy.resolve import Interval, Table
from buckler.policy.space import Range, outside_ranges, write_ranges


class Permit(msgspec.Struct, frozen=True):
    """What some addresses may send to others, of one family. ``connections`` is ``all`` or a list."""

    words: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    connections: str | tuple[Connection, ...]


class Permits(msgspec.Struct, frozen=True):
    """``between`` holds among ``members`` and is asked first; between members nothing else passes. Then ``outside``.

    ``refused_between`` and ``refused_outside``: what of the rest is to be answered. Nothing is in a permit and there too.
    """

    members: tuple[str, ...]
    between: tuple[Permit, ...]
    outside: tuple[Permit, ...]
    losses: tuple[Loss, ...]
    refused_between: tuple[Permit, ...] = ()
    refused_outside: tuple[Permit, ...] = ()


class _Class(msgspec.Struct, frozen=True):
    """Interfaces that policies cannot tell apart, with their addresses."""

    zone: Zone
    number: IdentityNumber
    mode: ShieldMode
    names: tuple[str, ...]
    addresses: tuple[str, ...]

    def family(self, version: int) -> tuple[str, ...]:
        """Give the addresses of one family."""
        return tuple(each for each in self.addresses if ipaddress.ip_address(each).version == version)


def list_permits(draft: Draft) -> Permits:
    """Work out everything that may pass."""
    book = LossBook()
    resolved = resolve_pool(draft.pool, draft.documents, draft.numbers)
    classes = _classes(draft, book)
    ranges = outside_ranges({prefix: draft.numbers.cidrs[prefix] for prefix in resolved.prefixes})
    view = _View(resolved, ranges)
    _tell_documents(draft, book)
    between = [each for one, other in product(classes, classes) for each in view.between(one, other)]
    outside = [each for one in classes for each in view.with_world(one)]
    if view.is_bounded:
        _tell(
            book,
            "rules",
            "what is allowed until a time, or so often only",
            "the firewall knows neither end nor rate: it is not permitted",
        )
    members = tuple(sorted({each for group in classes for each in group.addresses}, key=_order))
    return Permits(
        members,
        tuple(permit for each in between if (permit := _permit(each, _lasting(each.table)))),
        tuple(permit for each in outside if (permit := _permit(each, _lasting(each.table)))),
        book.told(),
        tuple(permit for each in between if (permit := _permit(each, _rejected(each.table)))),
        tuple(permit for each in outside if (permit := _permit(each, _rejected(each.table)))),
    )


def _classes(draft: Draft, book: LossBook) -> list[_Class]:
    """Group interfaces. Addresses that are not known, or are in two networks, cannot stand in a rule."""
    found: dict[tuple[Zone, IdentityNumber, ShieldMode], tuple[list[str], list[str]]] = {}
    zones: dict[str, set[Zone]] = {}
    singled = singled_out(draft.documents)
    for station in stations(draft.pool, singled):
        for each in station.interface.addresses:
            zones.setdefault(each, set()).add(station.network.zone)
    for station in stations(draft.pool, singled):
        name = f"{station.vm.tenant}/{station.vm.name}"
        own = [each for each in station.interface.addresses if len(zones[each]) == 1]
        if len(own) < len(station.interface.addresses):
            _tell(book, name, "an address that another network has too", "nothing is permitted to or from it")
        if not station.interface.addresses:
            _tell(
                book,
                name,
                f"no address is declared in network {station.network.name}",
                "nothing is permitted to or from it",
            )
        key = (station.network.zone, draft.numbers.identities[identity_key(station.labels)], station.vm.mode)
        names, addresses = found.setdefault(key, ([], []))
        names.append(name)
        addresses += own
    return [
        _Class(*key, tuple(sorted(set(names))), tuple(sorted(addresses, key=_order)))
        for key, (names, addresses) in found.items()
    ]


def _tell_documents(draft: Draft, book: LossBook) -> None:
    if draft.pool.outsiders:
        names = ", ".join(f"{each.tenant}/{each.name}" for each in draft.pool.outsiders[:5])
        _tell(book, names, "endpoints are not exported", "their addresses count as any others outside")
    if any(network.gateway for network in draft.pool.networks):
        _tell(
            book,
            "networks",
            "rules with the host as a peer",
            "the host's own addresses are not on the way",
            Effect.OMITTED,
        )
    for document in draft.documents:
        spec = document.spec
        if isinstance(spec, PolicySpec | FlowSpec) and spec.mode is not PolicyMode.ENFORCE:
            _tell(book, document.name, f"mode {spec.mode} only records", "the firewall records nothing", Effect.NOTE)
    if any(vm.mode is ShieldMode.OBSERVE for vm in draft.pool.vms):
        _tell(book, "VMs", "mode observe lets everything pass", "their own end is permitted everything", Effect.NOTE)
    _tell(
        book,
        "addresses",
        "identities become the addresses they have now",
        "claimed and link-local ones are not permitted",
        Effect.NOTE,
    )
    _tell(book, "groups", "multicast and broadcast", "do not pass a router", Effect.NOTE)


def _tell(book: LossBook, subject: str, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
    book.add(Loss("", 0, "", subject, what, means, effect))


class _Way(msgspec.Struct, frozen=True):
    """What is said of some addresses towards others, of one family."""

    words: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    table: Table


class _View:
    """What the resolved form says of classes and of the world's addresses."""

    def __init__(self, resolved: Resolved, ranges: dict[IdentityNumber, tuple[Range, ...]]) -> None:
        self._resolved, self._ranges = resolved, ranges
        self.is_bounded = False

    def between(self, one: _Class, other: _Class) -> Iterator[_Way]:
        """Two classes of one network know each other; of two networks each sees the other as the world's addresses."""
        if one.zone == other.zone:
            table = meet(
                self._table(one, other.number, Direction.EGRESS), self._table(other, one.number, Direction.INGRESS)
            )
            for version in (4, 6):
                yield _Way(_words(one, other), one.family(version), other.family(version), table)
            return
        for version in (4, 6):
            for here, there in product(one.family(version), other.family(version)):
                out = self._table(one, self._class_of(there), Direction.EGRESS)
                back = self._table(other, self._class_of(here), Direction.INGRESS)
                yield _Way(_words(one, other), (here,), (there,), meet(out, back))

    def with_world(self, one: _Class) -> Iterator[_Way]:
        """What a class may send out and be sent."""
        name = one.names[0] + (" …" if len(one.names) > 1 else "")
        for direction in Direction:
            blocks: dict[Table, list[Range]] = {}
            for number, parts in self._ranges.items():
                blocks.setdefault(self._table(one, number, direction), []).extend(parts)
            for table, found in blocks.items():
                for version in (4, 6):
                    far = write_ranges([each for each in found if each[0] == version])
                    ends = (one.family(version), far) if direction is Direction.EGRESS else (far, one.family(version))
                    words = f"{name} to outside" if direction is Direction.EGRESS else f"outside to {name}"
                    yield _Way(words, *ends, table)

    def _table(self, one: _Class, peer: IdentityNumber, direction: Direction) -> Table:
        if one.mode is not ShieldMode.ENFORCE:
            return ALLOW_ALL
        table = self._resolved.programs[one.number].table(peer, direction)
        self.is_bounded = self.is_bounded or any(_is_bounded(each) for each in table)
        return table

    def _class_of(self, address: str) -> IdentityNumber:
        parsed = ipaddress.ip_address(address)
        for number, parts in self._ranges.items():
            if any(version == parsed.version and low <= int(parsed) <= high for version, low, high in parts):
                return number
        raise LookupError(address)


def _permit(way: _Way, table: Table) -> Permit | None:
    allowed = allowed_ranges(table)
    if not (allowed and way.sources and way.destinations):
        return None
    return Permit(way.words, way.sources, way.destinations, write_connections(allowed))


def _is_bounded(each: Interval) -> bool:
    terms = each.terms
    return each.verdict is Verdict.ALLOW and terms is not None and bool(terms.until or terms.connections)


def _lasting(table: Table) -> Table:
    """Leave out what ends by itself, or holds so often only."""
    return tuple(msgspec.structs.replace(each, verdict=Verdict.DENY) if _is_bounded(each) else each for each in table)


def _rejected(table: Table) -> Table:
    """Keep what is answered, as if it were allowed."""
    verdicts = {Verdict.REJECT: Verdict.ALLOW}
    return tuple(msgspec.structs.replace(each, verdict=verdicts.get(each.verdict, Verdict.DENY)) for each in table)


def _words(one: _Class, other: _Class) -> str:
    ends = (each.names[0] + (" …" if len(each.names) > 1 else "") for each in (one, other))
    return " to ".join(ends)


def _order(address: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)
