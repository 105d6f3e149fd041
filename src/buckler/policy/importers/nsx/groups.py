"""NSX groups → who is a member: by tags, names, addresses, other groups. Owns membership; None where it is not known.

Each group is a label of VMs, ``member`` or ``maybe``: who may be a member is not allowed as one, and is denied as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.addressed import Blocks, is_held, read_blocks
from buckler.policy.importers.naming import document_name, label_key, made_mac
from buckler.policy.importers.nsx.known import check_fields
from buckler.policy.importers.nsx.objects import Item, Objects, by_path
from buckler.policy.importers.unclear import Unclear, items, mapping, text

MEMBER, MAYBE = "member", "maybe"
_OF_VMS = {
    "VirtualMachine",
    "VirtualNetworkInterface",
    "Segment",
    "SegmentPort",
    "LogicalSwitch",
    "LogicalPort",
    "DVPG",
}
_PATHS_OF_VMS = ("/groups/", "/segments/", "/virtual-machines/", "/dvpgs/")
_MAX_DEPTH = 8
Vote = bool | None


class Machine(msgspec.Struct, frozen=True):
    """One VM."""

    id: str
    name: str
    title: str
    tags: tuple[tuple[str, str], ...]
    facts: Mapping[str, str]
    macs: tuple[str, ...]
    addresses: tuple[str, ...]
    place: Place
    has_cards: bool = False
    """Its interfaces are in the input: its MACs are its own, not made up."""


class Membership(msgspec.Struct, frozen=True):
    """Who is in a group: VMs by id, and addresses outside. ``fault``: why nobody knows."""

    votes: Mapping[str, Vote]
    blocks: tuple[str, ...]
    fault: Unclear | None = None


def read_machines(objects: Objects) -> list[Machine]:
    """List the VMs with the addresses of their interfaces. Raises Unclear."""
    cards: dict[str, list[Item]] = {}
    for item in objects.all("VirtualNetworkInterface"):
        cards.setdefault(text(item.fields.get("owner_vm_id"), ""), []).append(item)
    names = [document_name(each.name) for each in objects.all("VirtualMachine")]
    found = []
    for item, name in zip(objects.all("VirtualMachine"), names, strict=True):
        own = cards.get(item.id, [])
        found.append(
            Machine(
                item.id,
                name if names.count(name) == 1 else document_name(item.id),
                item.name,
                tuple(_tag(mapping(each)) for each in items(item.fields.get("tags"))),
                _facts(item),
                tuple(text(each.fields.get("mac_address"), "").lower() for each in own) or (made_mac(item.id),),
                tuple(dict.fromkeys(address for each in own for address in _addresses(each))),
                item.place,
                bool(own),
            )
        )
    return found


def group_key(path: str) -> str:
    """Give the label key of a group's members: by its id in the default domain, else by its path."""
    return label_key(path.removeprefix("/infra/domains/default/groups/"), scope="nsx.group")


class Groups:
    """All groups of an export, worked out on demand."""

    def __init__(self, objects: Objects, machines: Sequence[Machine]) -> None:
        self.machines = tuple(machines)
        self._items = by_path(objects.all("Group"), "/infra/domains/default/groups/")
        self._macs = {mac for each in machines if each.has_cards for mac in each.macs}
        self._known: dict[str, Membership] = {}

    def paths(self) -> list[str]:
        """List the groups that were asked for and are known."""
        return sorted(path for path, each in self._known.items() if each.fault is None)

    def membership(self, path: str, depth: int = 0) -> Membership:
        """Work one group out."""
        if path not in self._known:
            self._known[path] = self._work_out(path, depth)
        return self._known[path]

    def of_addresses(self, words: Sequence[str], place: Place) -> str:
        """Make a group of addresses that a rule names itself; give its path."""
        blocks = read_blocks(words, lambda what: Unclear(place, what))
        path = f"addresses/{','.join(words)}"
        votes = {each.id: is_held(blocks, each.addresses) for each in self.machines}
        self._known[path] = Membership(votes, blocks.within)
        return path

    def _work_out(self, path: str, depth: int) -> Membership:
        item = self._items.get(path)
        if item is None or depth > _MAX_DEPTH:
            raise LookupError(path)
        try:
            check_fields("Group", item.fields)
            places = items(item.fields.get("expression"))
            extended = items(item.fields.get("extended_expression"))
            if extended:
                raise Unclear(extended[0], "groups of users are not carried over")
            votes = {each.id: _vote(places, each, self, depth) for each in self.machines}
            return Membership(votes, self._blocks(places, depth))
        except Unclear as unclear:
            return Membership({}, (), unclear)

    def _blocks(self, places: list[Place], depth: int) -> tuple[str, ...]:
        """List the addresses that a group names; joined with AND they would mean fewer, so that is unclear.

        So is whatever may have addresses outside that nobody lists.
        """
        found: list[str] = []
        for place in places:
            taken = mapping(place)
            kind = text(taken.get("resource_type"), "")
            check_fields(kind, taken)
            self._check_inside(kind, taken, place)
            if kind == "NestedExpression":
                found += self._blocks(items(taken.get("expressions")), depth)
            elif kind == "IPAddressExpression":
                found += _read_addresses(taken, place).within
            elif kind == "PathExpression":
                for each in items(taken.get("paths")):
                    if "/groups/" in text(each):
                        found += self._inner(each, depth).blocks
        joined = any(text(mapping(each).get("conjunction_operator"), "") == "AND" for each in places)
        if found and joined:
            raise Unclear(places[0], "addresses joined with AND")
        return tuple(dict.fromkeys(found))

    def _check_inside(self, kind: str, taken: Mapping[str, Place], place: Place) -> None:
        """Refuse members that need not be VMs: their addresses are outside, and not in the input."""
        member = text(taken.get("member_type"), "")
        if kind in {"Condition", "ExternalIDExpression"} and member not in _OF_VMS:
            raise Unclear(place, f"members of the kind {member!r} may be addresses outside")
        if kind == "MACAddressExpression":
            for each in items(taken.get("mac_addresses")):
                if text(each).lower() not in self._macs:
                    raise Unclear(each, "no VM's interface in the input has this MAC")
        if kind == "PathExpression":
            for each in items(taken.get("paths")):
                if not any(word in text(each) for word in _PATHS_OF_VMS):
                    raise Unclear(each, f"{text(each)} may be addresses outside")

    def _inner(self, place: Place, depth: int) -> Membership:
        try:
            inner = self.membership(text(place), depth + 1)
        except LookupError:
            raise Unclear(place, f"the group {text(place)} is not in the input") from None
        if inner.fault is not None:
            raise inner.fault
        return inner

    def path_vote(self, place: Place, machine: Machine, depth: int) -> Vote:
        """Say whether a VM is in what a path names: another group; of anything else nobody knows."""
        if "/groups/" not in text(place):
            return None
        return self._inner(place, depth).votes.get(machine.id)


def _vote(places: list[Place], machine: Machine, groups: Groups, depth: int) -> Vote:
    """Judge a list of expressions with conjunctions between them; where the order of binding matters, nobody knows."""
    if not places:
        return False
    if len(places) % 2 == 0:
        raise Unclear(places[-1], "expressions and conjunctions do not alternate")
    votes = [_single(each, machine, groups, depth) for each in places[::2]]
    words = [text(mapping(each).get("conjunction_operator"), "") for each in places[1::2]]
    if not set(words) <= {"AND", "OR"}:
        raise Unclear(places[1], "the conjunction is not known")
    in_order = votes[0]
    for word, vote in zip(words, votes[1:], strict=True):
        in_order = _both(in_order, vote) if word == "AND" else _either(in_order, vote)
    terms = [votes[0]]
    for word, vote in zip(words, votes[1:], strict=True):
        if word == "AND":
            terms[-1] = _both(terms[-1], vote)
        else:
            terms.append(vote)
    by_binding: Vote = False
    for term in terms:
        by_binding = _either(by_binding, term)
    return in_order if in_order == by_binding else None


def _single(place: Place, machine: Machine, groups: Groups, depth: int) -> Vote:
    taken = mapping(place)
    kind = text(taken.get("resource_type"), "")
    check_fields(kind, taken)
    if kind == "Condition":
        return _condition(taken, place, machine)
    if kind == "NestedExpression":
        return _vote(items(taken.get("expressions")), machine, groups, depth + 1)
    if kind == "IPAddressExpression":
        return is_held(_read_addresses(taken, place), machine.addresses)
    if kind == "MACAddressExpression":
        held = bool({text(each).lower() for each in items(taken.get("mac_addresses"))} & set(machine.macs))
        return held if machine.has_cards else None
    if kind == "ExternalIDExpression":
        if text(taken.get("member_type"), "") != "VirtualMachine":
            return None
        return machine.id in {text(each) for each in items(taken.get("external_ids"))}
    if kind == "PathExpression":
        found: Vote = False
        for each in items(taken.get("paths")):
            found = _either(found, groups.path_vote(each, machine, depth))
        return found
    raise Unclear(place, f"an expression {kind or 'of no kind'} is not known")


def _condition(taken: dict[str, Place], place: Place, machine: Machine) -> Vote:
    kind, key = text(taken.get("member_type"), ""), text(taken.get("key"), "")
    operator, value = text(taken.get("operator"), ""), text(taken.get("value"), "")
    if text(taken.get("scope_operator"), "EQUALS") != "EQUALS":
        raise Unclear(taken["scope_operator"], "a scope that must not be is not carried over")
    if kind != "VirtualMachine":
        return None
    if key == "Tag":
        scope, bar, tag = value.partition("|")
        wanted = (scope, tag) if bar else (None, value)
        found = any(each[1] == wanted[1] and wanted[0] in {None, "", each[0]} for each in machine.tags)
        if operator not in {"EQUALS", "NOTEQUALS"}:
            raise Unclear(place, f"the operator {operator!r} on tags is not carried over")
        return found == (operator == "EQUALS")
    if key not in {"Name", "OSName", "ComputerName"}:
        raise Unclear(place, f"the key {key!r} is not known")
    if key not in machine.facts:
        return None
    have, want = machine.facts[key].lower(), value.lower()
    answers = {
        "EQUALS": have == want,
        "NOTEQUALS": have != want,
        "CONTAINS": want in have,
        "STARTSWITH": have.startswith(want),
        "ENDSWITH": have.endswith(want),
    }
    if operator not in answers:
        raise Unclear(place, f"the operator {operator!r} is not known")
    if machine.facts[key].lower() != machine.facts[key] or value != want:
        return answers[operator] if _same_cased(operator, machine.facts[key], value) == answers[operator] else None
    return answers[operator]


def _same_cased(operator: str, have: str, want: str) -> bool:
    return {
        "EQUALS": have == want,
        "NOTEQUALS": have != want,
        "CONTAINS": want in have,
        "STARTSWITH": have.startswith(want),
        "ENDSWITH": have.endswith(want),
    }[operator]


def _both(one: Vote, other: Vote) -> Vote:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _either(one: Vote, other: Vote) -> Vote:
    if one is True or other is True:
        return True
    return None if one is None or other is None else False


def _tag(taken: Mapping[str, Place]) -> tuple[str, str]:
    return text(taken.get("scope"), ""), text(taken.get("tag"), "")


def _facts(item: Item) -> dict[str, str]:
    guest = mapping(item.fields["guest_info"]) if "guest_info" in item.fields else {}
    given = {
        "Name": item.name,
        "OSName": text(guest.get("os_name"), ""),
        "ComputerName": text(guest.get("computer_name"), ""),
    }
    return {key: value for key, value in given.items() if value}


def _addresses(item: Item) -> list[str]:
    words = [
        text(each)
        for info in items(item.fields.get("ip_address_info"))
        for each in items(mapping(info).get("ip_addresses"))
    ]
    blocks = read_blocks(words, lambda what: Unclear(item.place, what))
    return [each.partition("/")[0] for each in blocks.within]


def _read_addresses(taken: Mapping[str, Place], place: Place) -> Blocks:
    return read_blocks([text(each) for each in items(taken.get("ip_addresses"))], lambda what: Unclear(place, what))
