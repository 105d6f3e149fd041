"""Policies over identities → what may pass between addresses, for a firewall in the middle. Owns the list, no system's words.

Read from the resolved form, both ends considered: what is not in the list and has a VM at an end is denied.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import product

import msgspec

from buckler.model.ids import IdentityNumber, RuleNumber, Zone
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import Resolved, resolve_pool
from buckler.policy.draft import Draft
from buckler.policy.importers.outcome import Effect, Loss, LossBook
from buckler.policy.language import (
    Document,
    ExceptionSpec,
    FlowSpec,
    Kind,
    NetworkSpec,
    PolicyMode,
    PolicySpec,
    ServiceSpec,
    VmSpec,
)
from buckler.policy.matrix import Connection, write_connections
from buckler.policy.meet import meet
from buckler.policy.pool import identity_key, singled_out, stations, visitors
from buckler.policy.reach import ALLOW_ALL, allowed_ranges
from buckler.policy.resolve import Interval, Table
from buckler.policy.space import WHOLE, Range, outside_ranges, range_of, without, write_ranges


class Permit(msgspec.Struct, frozen=True):
    """What some addresses may send to others, of one family. ``connections`` is ``all`` or a list."""

    words: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    connections: str | tuple[Connection, ...]
    source: Document
    """Of the VM or endpoint that the words name first."""


class Permits(msgspec.Struct, frozen=True):
    """``between`` holds among ``members`` and is asked first; between members nothing else passes. Then ``closed``, then ``outside``.

    ``closed``: addresses of no member that a VM may have which declares none: nothing passes from or to them. ``members`` are all addresses that anything declares: what no permit names of them is denied, and never outside.
    ``networks`` are where the losses of everything are told. ``refused_between`` and ``refused_outside``: what of the rest is to be answered. Nothing is in a permit and there too.
    """

    members: tuple[str, ...]
    between: tuple[Permit, ...]
    outside: tuple[Permit, ...]
    closed: tuple[str, ...]
    losses: tuple[Loss, ...]
    networks: tuple[Document, ...]
    refused_between: tuple[Permit, ...] = ()
    refused_outside: tuple[Permit, ...] = ()


class _Class(msgspec.Struct, frozen=True):
    """Interfaces, or endpoints, that policies cannot tell apart, with their addresses. At an endpoint no shield judges."""

    zone: Zone
    number: IdentityNumber
    mode: ShieldMode
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    source: Document

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
    _tell_rules(resolved, view.bounded, book)
    declared = [card.addresses for vm in draft.pool.vms for card in vm.interfaces]
    declared += [each.addresses for each in draft.pool.outsiders]
    members = tuple(sorted({each for group in declared for each in group}, key=_order))
    return Permits(
        members,
        tuple(permit for each in between if (permit := _permit(each, _lasting(each.table)))),
        tuple(permit for each in outside if (permit := _permit(each, _lasting(each.table)))),
        _closed(draft, members),
        book.told(),
        tuple(each for each in draft.documents if each.kind is Kind.NETWORK),
        tuple(permit for each in between if (permit := _permit(each, _rejected(each.table)))),
        tuple(permit for each in outside if (permit := _permit(each, _rejected(each.table)))),
    )


class _Seat(msgspec.Struct, frozen=True):
    """One interface or endpoint in its network."""

    zone: Zone
    number: IdentityNumber
    mode: ShieldMode
    name: str
    network: str
    addresses: tuple[str, ...]
    source: Document


def _seats(draft: Draft) -> list[_Seat]:
    """List who has addresses. An endpoint has no shield, which is as if its own would let everything pass."""
    singled = singled_out(draft.documents)
    written = {each.key: each for each in draft.documents}
    numbers = draft.numbers.identities
    found = []
    for one in stations(draft.pool, singled):
        vm, zone, number = one.vm, one.network.zone, numbers[identity_key(one.labels)]
        source, addresses = written[f"{Kind.VM}/{vm.tenant}/{vm.name}"], one.interface.addresses
        found.append(_Seat(zone, number, vm.mode, f"{vm.tenant}/{vm.name}", one.network.name, addresses, source))
    for each in visitors(draft.pool, singled):
        thing, zone, number = each.outsider, each.network.zone, numbers[identity_key(each.labels)]
        source, name = written[f"{Kind.ENDPOINT}/{thing.tenant}/{thing.name}"], f"{thing.tenant}/{thing.name}"
        found.append(_Seat(zone, number, ShieldMode.OBSERVE, name, each.network.name, thing.addresses, source))
    return found


def _classes(draft: Draft, book: LossBook) -> list[_Class]:
    """Group seats. An address in two networks says of nobody who it is."""
    found: dict[tuple[Zone, IdentityNumber, ShieldMode], list[tuple[_Seat, tuple[str, ...]]]] = {}
    zones: dict[str, set[Zone]] = {}
    seats = _seats(draft)
    for seat in seats:
        for each in seat.addresses:
            zones.setdefault(each, set()).add(seat.zone)
    for seat in seats:
        own = tuple(each for each in seat.addresses if len(zones[each]) == 1)
        for each in seat.addresses:
            if each not in own:
                _tell(book, seat.source, f"another network has the address {each} too", "nothing passes to or from it")
        if not seat.addresses:
            what = f"no address is declared in network {seat.network}"
            _tell(book, seat.source, what, _means_closed(draft, seat.network))
        found.setdefault((seat.zone, seat.number, seat.mode), []).append((seat, own))
    return [
        _Class(
            *key,
            tuple(sorted({seat.name for seat, _own in group})),
            tuple(sorted((each for _seat, own in group for each in own), key=_order)),
            min((seat for seat, _own in group), key=lambda each: each.name).source,
        )
        for key, group in found.items()
    ]


def _closed(draft: Draft, members: Sequence[str]) -> tuple[str, ...]:
    """List where VMs may be whose addresses nobody declares: in their network's prefixes; without any, anywhere."""
    nowhere = {card.network for vm in draft.pool.vms for card in vm.interfaces if not card.addresses}
    rooms = [each for each in draft.pool.networks if each.detected or each.name in nowhere]
    found = [part for each in rooms for part in (map(range_of, each.cidrs) if each.cidrs else WHOLE)]
    return write_ranges(without(found, [range_of(each) for each in members]))


def _means_closed(draft: Draft, network: str) -> str:
    cidrs = next((each.cidrs for each in draft.pool.networks if each.name == network), ())
    where = f"from and to the other addresses of {', '.join(cidrs)}" if cidrs else "but between declared addresses"
    return f"the firewall does not know it: nothing passes {where}"


def _tell_documents(draft: Draft, book: LossBook) -> None:
    for each in draft.documents:
        spec = each.spec
        if isinstance(spec, NetworkSpec):
            _tell_network(draft, each, spec, book)
        if isinstance(spec, PolicySpec | FlowSpec) and spec.mode is not PolicyMode.ENFORCE:
            _tell(book, each, f"mode {spec.mode} only records", "the firewall records nothing", Effect.NOTE)
        if _names(spec):
            _tell(book, each, "names of DNS", "the firewall knows no addresses of names: they are not permitted")
        if isinstance(spec, ServiceSpec) and spec.virtual_address:
            _tell(book, each, "a virtual address", "the firewall translates none: nobody answers there")
        if isinstance(spec, VmSpec) and spec.mode is ShieldMode.OBSERVE:
            _tell(book, each, "mode observe lets everything pass", "its own end is permitted everything", Effect.NOTE)


def _tell_network(draft: Draft, document: Document, spec: NetworkSpec, book: LossBook) -> None:
    if spec.gateway:
        means = "the host's own addresses are not on the way"
        _tell(book, document, "rules with the host as a peer", means, Effect.OMITTED)
    if spec.address_claims.limit:
        _tell(book, document, "interfaces may claim addresses", _means_closed(draft, document.name))
    means = "link-local ones do not pass a router"
    _tell(book, document, "identities become the addresses they have now", means, Effect.NOTE)
    _tell(book, document, "multicast and broadcast", "do not pass a router", Effect.NOTE)


def _tell_rules(resolved: Resolved, bounded: set[RuleNumber], book: LossBook) -> None:
    for number, rule in resolved.rules.items():
        if number in bounded:
            what = "what is allowed until a time, or so often only"
            means = "the firewall knows neither end nor rate: it is not permitted"
            book.add(Loss(rule.file, rule.line, "", f"{rule.policy} {rule.name}", what, means, Effect.TIGHTENED))


def _names(spec: object) -> bool:
    """Say whether a policy, flow or exception means addresses by their names."""
    if isinstance(spec, PolicySpec):
        return any(peer.dns for rule in spec.egress for peer in rule.peers)
    return isinstance(spec, FlowSpec | ExceptionSpec) and any(peer.dns for peer in spec.destinations)


def _tell(book: LossBook, document: Document, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
    subject = f"{document.kind} {document.tenant}/{document.name}"
    book.add(Loss(document.file, document.line, "", subject, what, means, effect))


class _Way(msgspec.Struct, frozen=True):
    """What is said of some addresses towards others, of one family."""

    words: str
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    table: Table
    source: Document


class _View:
    """What the resolved form says of classes and of the world's addresses."""

    def __init__(self, resolved: Resolved, ranges: dict[IdentityNumber, tuple[Range, ...]]) -> None:
        self._resolved, self._ranges = resolved, ranges
        self.bounded: set[RuleNumber] = set()

    def between(self, one: _Class, other: _Class) -> Iterator[_Way]:
        """Two classes of one network know each other; of two networks each sees the other as the world's addresses."""
        if one.zone == other.zone:
            table = meet(
                self._table(one, other.number, Direction.EGRESS), self._table(other, one.number, Direction.INGRESS)
            )
            for version in (4, 6):
                yield _Way(_words(one, other), one.family(version), other.family(version), table, one.source)
            return
        for version in (4, 6):
            for here, there in product(one.family(version), other.family(version)):
                out = self._table(one, self._class_of(there), Direction.EGRESS)
                back = self._table(other, self._class_of(here), Direction.INGRESS)
                yield _Way(_words(one, other), (here,), (there,), meet(out, back), one.source)

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
                    yield _Way(words, *ends, table, one.source)

    def _table(self, one: _Class, peer: IdentityNumber, direction: Direction) -> Table:
        if one.mode is not ShieldMode.ENFORCE:
            return ALLOW_ALL
        table = self._resolved.programs[one.number].table(peer, direction)
        self.bounded |= {each.rule for each in table if _is_bounded(each)}
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
    return Permit(way.words, way.sources, way.destinations, write_connections(allowed), way.source)


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
