"""Does one set of policies allow anything that another does not? Decided for every pool there could be. Owns no policy.

Whatever labels a VM may have, to these policies it is one of finitely many: each key that a selector names is absent, one of
the named values, or another. Each of these is resolved, alone and against each other; so the answer holds for pools to come.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, product

import msgspec

from buckler.model.ids import (
    FIRST_CIDR_IDENTITY,
    IDENTITY_GROUP,
    IDENTITY_HOST,
    IDENTITY_WORLD,
    IdentityNumber,
    RuleNumber,
    Zone,
)
from buckler.model.label import LABEL_ENDPOINT, LABEL_NETWORK, LABEL_TENANT, Selector
from buckler.model.program import Direction, Verdict
from buckler.policy.compile import ResolvedProgram, expand_row
from buckler.policy.compose import compose_documents
from buckler.policy.identity import named_prefixes
from buckler.policy.language import DEFAULT_TENANT, Document
from buckler.policy.learned import patterns_of
from buckler.policy.meet import is_covered, meet, overlay
from buckler.policy.phases import TooMany, list_states
from buckler.policy.pool import selectors_of
from buckler.policy.prefix import longest
from buckler.policy.quarantine import QUARANTINE_POLICIES
from buckler.policy.resolve import Table
from buckler.policy.rows import Rows
from buckler.policy.rules import list_rules
from buckler.policy.space import outside_ranges

OTHER = "other"
LIMIT = 600
"""Label sets in one network beyond which the question is not answered: nothing is called tighter then."""


class Undecided(ValueError):
    """The policies tell too many kinds of VMs apart."""


_End = dict[str, str] | str
GROUP = "group"


class Loosening(msgspec.Struct, frozen=True):
    """A first packet that the new policies allow and the old ones do not. Ends: labels, an address, ``host`` or ``group``."""

    origin: dict[str, str] | str
    to: dict[str, str] | str
    protocol: int
    port: int


class _Kinds(msgspec.Struct, frozen=True):
    """The kinds of label sets in one network, by number."""

    vms: dict[IdentityNumber, dict[str, str]]
    endpoints: dict[IdentityNumber, dict[str, str]]


def find_loosening(before: Iterable[Document], after: Iterable[Document]) -> Loosening | None:
    """Give a packet that only ``after`` allows, or oftener, None when there is none in any pool at any time. Raises Undecided.

    Both are judged as if every shield enforced. Policies in ``observe`` mode, or staged, decide nothing in either.
    """
    before, after = tuple(before), tuple(after)
    if len(before) == len(after) and {each.key: each.spec for each in before} == {
        each.key: each.spec for each in after
    }:
        return None
    try:
        found = (_find_loosening(*states) for states in list_states(before, after))
        return next((each for each in found if each is not None), None)
    except TooMany as many:
        raise Undecided(str(many)) from many


def _find_loosening(before: Iterable[Document], after: Iterable[Document]) -> Loosening | None:
    after = tuple(after)
    if named := sorted(frozenset[str]().union(*map(patterns_of, after))):
        raise Undecided(f"what {named[0]} will be the addresses of is not known")
    old, new = compose_documents(before), compose_documents(after)
    prefixes = sorted({*named_prefixes(old), *named_prefixes(new)})
    numbers = {prefix: IdentityNumber(FIRST_CIDR_IDENTITY + place) for place, prefix in enumerate(prefixes)}
    for zone, kinds in enumerate(_zones((*old, *new)), 1):
        one, other = (_Side(documents, kinds, Zone(zone), numbers) for documents in (old, new))
        found = next(_loosened(one, other, kinds, _outside(prefixes)), None)
        if found is not None:
            return found
    return None


class _Side:
    """One set of policies, resolved for one network's kinds."""

    def __init__(
        self, documents: Sequence[Document], kinds: _Kinds, zone: Zone, numbers: Mapping[str, IdentityNumber]
    ) -> None:
        rules = {rule.key: RuleNumber(place) for place, rule in enumerate(list_rules(documents), 1)}
        rows = Rows(rules.__getitem__)
        for number, labels in chain(kinds.vms.items(), kinds.endpoints.items()):
            rows.put_labels(number, labels, zone)
        for document in (*documents, *QUARANTINE_POLICIES):
            rows.put_document(document, numbers.__getitem__)
        rows.settle()
        self.programs: dict[IdentityNumber, ResolvedProgram] = {}
        for members, row in rows.rows():
            self.programs |= dict.fromkeys(members, expand_row(rows, row))
        self._known = tuple(rows.postings.prefixes())
        self._numbers = numbers

    def table(self, number: IdentityNumber, peer: IdentityNumber, side: Direction) -> Table:
        return self.programs[number].table(peer, side)

    def outside(self, number: IdentityNumber, prefix: str, side: Direction) -> Table:
        """Give the table towards the addresses of a prefix that no longer prefix names, here as these policies see them."""
        named = prefix if prefix in self._known or not prefix else longest(prefix, self._known)
        return self.table(number, self._numbers[named] if named else IDENTITY_WORLD, side)


def _loosened(old: _Side, new: _Side, kinds: _Kinds, outside: Sequence[tuple[str, str]]) -> Iterator[Loosening]:
    seen: set[tuple[int, ...]] = set()

    def widens(before: tuple[Table, ...], after: tuple[Table, ...]) -> tuple[int, int] | None:
        """Compare what all tables of each side allow together; equal tables are compared once."""
        key = tuple(map(id, (*before, *after)))
        if key in seen:
            return None
        seen.add(key)
        return _widening(before, after)

    out, into = Direction.EGRESS, Direction.INGRESS
    alike = _alike(old, new, kinds.vms)
    for (sender, senders), (receiver, receivers) in product(alike, repeat=2):
        sent, taken = _apart(old, new, sender, receivers, out), _apart(old, new, receiver, senders, into)
        for (there, *sends), (here, *takes) in product(sent, taken):
            found = widens((sends[0], takes[0]), (sends[1], takes[1]))
            if found:
                yield Loosening(kinds.vms[here], kinds.vms[there], *found)
        ends = ((sender, IDENTITY_GROUP, out), (receiver, IDENTITY_GROUP, into))
        before, after = (tuple(each.table(*end) for end in ends) for each in (old, new))
        found = widens(before, after)
        if found:
            yield Loosening(kinds.vms[sender], GROUP, *found)
    single: list[tuple[IdentityNumber, _End]] = [(IDENTITY_HOST, "host"), *kinds.endpoints.items()]
    for (one, _), side in product(alike, Direction):
        for peer, name in single:
            found = widens((old.table(one, peer, side),), (new.table(one, peer, side),))
            if found:
                yield _loosening(side, kinds.vms[one], name, found)
        for prefix, address in outside:
            found = widens((old.outside(one, prefix, side),), (new.outside(one, prefix, side),))
            if found:
                yield _loosening(side, kinds.vms[one], address, found)


def _alike(old: _Side, new: _Side, vms: Iterable[IdentityNumber]) -> list[tuple[IdentityNumber, list[IdentityNumber]]]:
    """Put together who has one program before and one after; the first of them speaks for all."""
    found: dict[tuple[int, int], list[IdentityNumber]] = {}
    for number in vms:
        found.setdefault((id(old.programs[number]), id(new.programs[number])), []).append(number)
    return [(each[0], each) for each in found.values()]


def _apart(
    old: _Side, new: _Side, one: IdentityNumber, peers: Iterable[IdentityNumber], side: Direction
) -> list[tuple[IdentityNumber, Table, Table]]:
    """Give the tables that ``one`` has towards some peers, before and after, each pair once with a peer that has it."""
    found: dict[tuple[int, int], tuple[IdentityNumber, Table, Table]] = {}
    for peer in peers:
        before, after = old.table(one, peer, side), new.table(one, peer, side)
        found.setdefault((id(before), id(after)), (peer, before, after))
    return list(found.values())


def _loosening(side: Direction, here: _End, there: _End, what: tuple[int, int]) -> Loosening:
    return Loosening(here, there, *what) if side is Direction.EGRESS else Loosening(there, here, *what)


def _outside(prefixes: Sequence[str]) -> list[tuple[str, str]]:
    """Give each class of outside addresses that has any: the prefix (empty: none), and an address of it."""
    numbers = {prefix: IdentityNumber(FIRST_CIDR_IDENTITY + place) for place, prefix in enumerate(prefixes)}
    named = {number: prefix for prefix, number in numbers.items()} | {IDENTITY_WORLD: ""}
    found = []
    for number, ranges in outside_ranges(numbers).items():
        for version in (4, 6):
            mine = [each for each in ranges if each[0] == version]
            if mine:
                _, first, last = max(mine, key=lambda each: each[2] - each[1])
                make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
                found.append((named[number], str(make(min(first + 1, last)))))
    return found


def _together(tables: tuple[Table, ...]) -> Table:
    return tables[0] if len(tables) == 1 else meet(tables[0], tables[1])


def _widening(before: tuple[Table, ...], after: tuple[Table, ...]) -> tuple[int, int] | None:
    """Find what only ``after`` allows, or allows oftener at one end; ends are compared each with itself."""
    becomes = _together(after)
    for one, other, low, _ in overlay(_together(before), becomes):
        if other.verdict is Verdict.ALLOW and one.verdict is not Verdict.ALLOW:
            return one.protocol, low
    for was, now in zip(before, after, strict=True):
        for one, other, low, high in overlay(was, now):
            if one.verdict is Verdict.ALLOW and other.verdict is Verdict.ALLOW and not is_covered(other, one):
                for each in becomes:
                    if each.verdict is Verdict.ALLOW and each.protocol == one.protocol:
                        first, last = max(low, each.low), min(high, each.high)
                        if first <= last:
                            return one.protocol, first
    return None


def _zones(documents: Sequence[Document]) -> Iterator[_Kinds]:
    """Give the kinds of VMs of each kind of network: one tenant, one network's name."""
    values = _mentioned(documents)
    tenants = {each.tenant for each in documents} | values.pop(LABEL_TENANT, set()) | {DEFAULT_TENANT}
    networks = values.pop(LABEL_NETWORK, set())
    values.pop(LABEL_ENDPOINT, None)
    choices = [[(key, value) for value in (None, OTHER, *sorted(values[key]))] for key in sorted(values)]
    size = 1
    for each in choices:
        size *= len(each)
    if size > LIMIT:
        raise Undecided(f"the policies tell {size} kinds of VMs apart, and {LIMIT} can be compared")
    for tenant, network in product((*sorted(tenants), OTHER), (*sorted(networks), OTHER)):
        sets = [
            {key: value for key, value in chosen if value is not None} | {LABEL_TENANT: tenant, LABEL_NETWORK: network}
            for chosen in product(*choices)
        ]
        first = IdentityNumber(0x2000_0000)
        vms = {IdentityNumber(first + place): labels for place, labels in enumerate(sets)}
        things = {
            IdentityNumber(first + len(sets) + place): {**each, LABEL_ENDPOINT: "true"}
            for place, each in enumerate(sets)
        }
        yield _Kinds(vms, things)


def _mentioned(documents: Sequence[Document]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for selector in chain.from_iterable(map(selectors_of, documents)):
        for key, mentioned in _asked(selector):
            values.setdefault(key, set()).update(mentioned)
    return values


def _asked(selector: Selector) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from ((key, (value,)) for key, value in selector.match_labels.items())
    yield from ((each.key, each.values) for each in selector.match_expressions)
