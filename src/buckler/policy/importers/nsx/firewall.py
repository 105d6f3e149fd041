"""NSX's distributed firewall → inventory and policies. Owns the order of rules and where each is enforced.

Each rule is asked at the vNICs of its scope: outward where the VM is a source, inward where it is a destination; the first
that matches decides. Emergency, Infrastructure and Environment become tier ``security``, Application ``tenant``, so that
JUMP_TO_APPLICATION is ``pass``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import msgspec

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.field import Place
from buckler.policy.importers.addressed import Blocks, shared_addresses
from buckler.policy.importers.linklocal import holds_link_local, is_of_ipv4_only, name_gaps
from buckler.policy.importers.naming import document_name, network_document, policy_document, vm_document
from buckler.policy.importers.nsx.groups import MAYBE, MEMBER, Groups, Machine, Membership, group_key, read_machines
from buckler.policy.importers.nsx.known import check_fields
from buckler.policy.importers.nsx.objects import Item, Objects, read_objects
from buckler.policy.importers.nsx.order import ACTIONS, category_of, in_order
from buckler.policy.importers.nsx.services import Services
from buckler.policy.importers.outcome import Effect, Import, LossBook, unreadable
from buckler.policy.importers.unclear import Teller, Unclear, flag, items, text
from buckler.policy.language import DENIALS, Action, Document, EgressRule, IngressRule, InterfaceSpec, Peer, Port, Tier
from buckler.policy.problem import Problem
from buckler.policy.source import Source

SOURCE = "nsx"
NETWORK = "nsx"
_ANYONE = (Peer(any=True), Peer(group=True))


class Side(msgspec.Struct, frozen=True):
    """Sources, destinations or scope of a rule. ``groups`` None: any."""

    groups: tuple[str, ...] | None = None
    blocks: tuple[str, ...] = ()
    excluded: bool = False
    families: tuple[int, ...] = (4, 6)

    def selectors(self, *, surely: bool) -> list[Selector]:
        """Select the VMs that surely are, or may be, of this side."""
        if self.groups is None:
            return [Selector()]
        if self.excluded:
            return [Selector(match_expressions=tuple(_outside(each, surely) for each in self.groups))]
        return [Selector(match_expressions=(_inside(each, surely),)) for each in self.groups]

    def peers(self, *, surely: bool) -> tuple[Peer, ...] | None:
        """Write it as peers; None: nobody."""
        if self.groups is None and (not surely or len(self.families) == 2):
            return _ANYONE if surely else ()
        vms = tuple(Peer(vm=each) for each in self.selectors(surely=surely))
        if self.groups is not None and not self.excluded:
            return (*vms, *(Peer(cidr=each) for each in self.blocks)) or None
        outside = []
        for family in self.families:
            cut = tuple(each for each in self.blocks if (":" in each) == (family == 6))
            outside.append(Peer(cidr="::/0" if family == 6 else "0.0.0.0/0", excluded=cut))
        return (*vms, *outside)


def _inside(path: str, surely: bool) -> Expression:
    return Expression(group_key(path), Operator.IN, (MEMBER,) if surely else (MEMBER, MAYBE))


def _outside(path: str, surely: bool) -> Expression:
    key = group_key(path)
    return Expression(key, Operator.DOES_NOT_EXIST) if surely else Expression(key, Operator.NOT_IN, (MEMBER,))


class RuleRead(msgspec.Struct, frozen=True):
    """One rule as read."""

    action: Action
    sources: Side
    destinations: Side
    scope: Side
    ports: tuple[Port, ...]
    directions: tuple[str, ...]
    log: bool = False


def import_nsx(sources: Iterable[Source], review: str) -> Import:
    """Carry a distributed firewall over: policies, groups, services, VMs and their interfaces."""
    book = LossBook()
    objects, problems = read_objects(sources, book)
    if not problems and not objects.all("SecurityPolicy"):
        problems = [Problem("", 0, "", "no SecurityPolicy is in the input")]
    if problems:
        return unreadable(SOURCE, problems)
    try:
        machines = read_machines(objects)
        groups = Groups(objects, machines)
        reader = _Reader(
            groups, Services(objects), book, any(":" in one for each in machines for one in each.addresses)
        )
        policies = list(_policies(objects, reader, review, book))
    except Unclear as unclear:
        return unreadable(SOURCE, [Problem(unclear.place.file, unclear.place.line, unclear.place.path, unclear.what)])
    _tell_gaps(objects, machines, book)
    inventory = (network_document(NETWORK, severed=reader.severed), *_inventory(machines, groups))
    return Import(SOURCE, inventory, tuple(policies), book.told())


def _tell_gaps(objects: Objects, machines: Sequence[Machine], book: LossBook) -> None:
    policies = objects.all("SecurityPolicy")
    tell = Teller(book, "input")
    if not machines:
        tell.tell(policies[0].place, "no VirtualMachine is in the input", "the inventory is empty", Effect.OMITTED)
    if not any(flag(each.fields.get("is_default")) for each in policies):
        tell.tell(policies[0].place, "no policy is the default one", "what no rule matches is denied")


def _inventory(machines: Sequence[Machine], groups: Groups) -> Iterable[Document]:
    shared = shared_addresses((NETWORK, each.addresses) for each in machines)
    for each in machines:
        labels = {}
        for path in groups.paths():
            vote = groups.membership(path).votes[each.id]
            if vote is not False:
                labels[group_key(path)] = MEMBER if vote else MAYBE
        addresses = tuple(one for one in each.addresses if (NETWORK, one) not in shared)
        cards = [InterfaceSpec(mac, NETWORK, addresses if index == 0 else ()) for index, mac in enumerate(each.macs)]
        yield vm_document(each.name, labels, cards, file=each.place.file, line=each.place.line)


def _policies(objects: Objects, reader: _Reader, review: str, book: LossBook) -> Iterable[Document]:
    for index, place in enumerate(objects.shutting, start=1):
        words = {"review": review, "tier": Tier.SECURITY, "order": 0, "file": place.file, "line": place.line}
        yield from _spell(_DENY_ALL, f"shut.{index}", {**words, "description": "It may deny anything, and is not read"})
    for order, (policy, rule) in enumerate(in_order(objects, book), start=1):
        if objects.strategies and flag(policy.fields.get("is_default")):
            continue  # what is not decided by then is denied
        tier = Tier.TENANT if category_of(policy) == "Application" else Tier.SECURITY
        for read, at in reader.read(policy, rule) if rule is not policy else reader.close(policy):
            name = document_name(policy.id, rule.id) if rule is not policy else document_name(policy.id, "close")
            words = {
                "review": review,
                "tier": tier,
                "order": 10 * order + at,
                "file": rule.place.file,
                "line": rule.place.line,
            }
            description = f"{policy.name}: {rule.name}"
            yield from _spell(read, f"{name}{'.unclear' if at else ''}", {**words, "description": description})


def _spell(read: RuleRead, name: str, words: dict[str, object]) -> Iterable[Document]:
    """Write one rule: at each pair of a group and a scope it is one policy; all of them are one level."""
    surely = read.action not in DENIALS
    for side, near, far in (("egress", read.sources, read.destinations), ("ingress", read.destinations, read.sources)):
        if side not in read.directions or (near.groups is not None and not near.groups and not near.excluded):
            continue
        peers = far.peers(surely=surely)
        if peers is None:
            continue
        subjects = product(near.selectors(surely=surely), read.scope.selectors(surely=surely))
        for index, (one, other) in enumerate(subjects, start=1):
            subject = Selector(
                match_expressions=tuple(dict.fromkeys((*one.match_expressions, *other.match_expressions)))
            )
            rule = {"name": side, "action": read.action, "peers": peers, "ports": read.ports, "log": read.log}
            yield policy_document(
                document_name(name, side, str(index)),
                subject=subject,
                ingress=[IngressRule(**rule)] if side == "ingress" else [],  # type: ignore[arg-type]  # as above
                egress=[EgressRule(**rule)] if side == "egress" else [],  # type: ignore[arg-type]  # as above
                **words,  # type: ignore[arg-type]  # the words of its caller
            )


class _Reader:
    """Reads rules and tells what it cannot take over."""

    def __init__(self, groups: Groups, services: Services, book: LossBook, both_families: bool) -> None:
        self.groups, self.services, self.book, self.both_families = groups, services, book, both_families
        self.severed: set[str] = set()

    def read(self, policy: Item, rule: Item) -> list[tuple[RuleRead, int]]:
        """Give what one rule becomes, each with its place about the rule's own order. A schedule is taken as always."""
        tell = Teller(self.book, f"{policy.name}: {rule.name}")
        if flag(rule.fields.get("disabled")):
            return []
        word = text(rule.fields.get("action"), "")
        action = ACTIONS.get(word, Action.DENY)
        if word not in ACTIONS:
            tell.tell(rule.place, f"the action {word!r} is not known", "the rule denies everything")
            return [(_DENY_ALL, 0)]
        if category_of(policy) == "Ethernet":
            return self._of_frames(rule, action, tell)
        if action is Action.ALLOW and not flag(policy.fields.get("stateful"), default=True):
            tell.tell(
                rule.place, "the policy is stateless", "the rule allows nothing: here answers follow by themselves"
            )
            return []
        if action in {Action.ALLOW, Action.PASS} and _says(policy, "scheduler_path"):
            means = "the rule allows nothing" if action is Action.ALLOW else "the rule denies everything"
            tell.tell(policy.fields["scheduler_path"], "the policy holds at times only", means)
            return [] if action is Action.ALLOW else [(_DENY_ALL, 0)]
        try:
            check_fields("Rule", rule.fields)
            read = self._rule(policy, rule, action)
        except Unclear as unclear:
            allows = action is Action.ALLOW
            tell.tell_unclear(unclear, "the rule allows nothing" if allows else "the rule denies everything")
            return [] if allows else [(_DENY_ALL, 0)]
        self._tell_doubts(read, rule, tell)
        self._tell_link_local(read, rule, tell)
        if action is Action.PASS and self._doubts(read):
            return [(msgspec.structs.replace(read, action=Action.DENY), 1), (read, 0)]
        return [(read, 0)]

    def close(self, policy: Item) -> list[tuple[RuleRead, int]]:
        """Give what ends a policy: a denial, where it says more than its rules."""
        tell = Teller(self.book, policy.name)
        try:
            check_fields("SecurityPolicy", policy.fields)
            for key in ("connectivity_preference", "connectivity_strategy"):
                if _says(policy, key) and text(policy.fields[key]) != "NONE":
                    raise Unclear(
                        policy.fields[key], f"{key} {text(policy.fields[key])} makes a rule that is not in the input"
                    )
            if _says(policy, "scheduler_path"):
                tell.tell(policy.fields["scheduler_path"], "the policy holds at times only", "its denials always hold")
        except Unclear as unclear:
            tell.tell_unclear(unclear, "what no rule of the policy and before it decides is denied everywhere")
            return [(_DENY_ALL, 0)]
        return []

    def _of_frames(self, rule: Item, action: Action, tell: Teller) -> list[tuple[RuleRead, int]]:
        if action is Action.ALLOW:
            return []
        tell.tell(rule.place, "a rule on Ethernet frames", "everything is denied")
        return [(_DENY_ALL, 0)]

    def _doubts(self, read: RuleRead) -> list[str]:
        named = [path for side in (read.sources, read.destinations, read.scope) for path in side.groups or ()]
        return [path for path in dict.fromkeys(named) if None in self.groups.membership(path).votes.values()]

    def _tell_doubts(self, read: RuleRead, rule: Item, tell: Teller) -> None:
        for path in self._doubts(read):
            means = "not allowed by the rule" if read.action is Action.ALLOW else "denied by it"
            tell.tell(rule.place, f"who is a member of {path} is not known of every VM", f"these VMs are {means}")

    def _tell_link_local(self, read: RuleRead, rule: Item, tell: Teller) -> None:
        """Groups of addresses and rules for IPv4 alone mean no link-local address there; here they mean whole VMs."""
        if is_of_ipv4_only(read.ports):
            return
        for word, side in (("source", read.sources), ("destination", read.destinations)):
            if not side.blocks and len(side.families) == 2:
                continue
            here = {each.title: self._is_named(each.id, side, read.action) for each in self.groups.machines}
            held = holds_link_local(Blocks(side.blocks)) if side.blocks else True
            meant = held if held is None else len(side.families) == 2 and held is not side.excluded
            for gap in name_gaps(read.action, here, dict.fromkeys(here, meant)):
                tell.tell(rule.place, f"as a {word}: {gap.what}", gap.means)
                self.severed.update({NETWORK} if gap.severs else ())

    def _is_named(self, number: str, side: Side, action: Action) -> bool:
        if side.groups is None:
            return True
        votes = [self.groups.membership(path).votes[number] for path in side.groups]
        unsure = action in DENIALS
        if side.excluded:
            return all(each is False or (each is None and unsure) for each in votes)
        return any(each or (each is None and unsure) for each in votes)

    def _rule(self, policy: Item, rule: Item, action: Action) -> RuleRead:
        direction = text(rule.fields.get("direction"), "IN_OUT")
        directions = {"IN": ("ingress",), "OUT": ("egress",), "IN_OUT": ("ingress", "egress")}.get(direction)
        if directions is None:
            raise Unclear(rule.fields["direction"], f"the direction {direction!r} is not known")
        family = text(rule.fields.get("ip_protocol"), "IPV4_IPV6")
        if family != "IPV4_IPV6" and not (family == "IPV4" and not self.both_families):
            raise Unclear(rule.fields["ip_protocol"], f"rules for {family} only cannot be named here")
        if not _is_any(rule.fields.get("profiles")):
            raise Unclear(rule.fields["profiles"], "context profiles are not carried over")
        scope = policy if not _is_any(policy.fields.get("scope")) else rule
        sides = [
            self._side(rule.fields.get(f"{word}_groups"), flag(rule.fields.get(f"{word}s_excluded")), family)
            for word in ("source", "destination")
        ]
        return RuleRead(
            action,
            sides[0],
            sides[1],
            self._side(scope.fields.get("scope"), False, ""),
            self._ports(rule),
            directions,
            flag(rule.fields.get("logged")),
        )

    def _side(self, place: Place | None, excluded: bool, family: str) -> Side:
        families = (4,) if family == "IPV4" else (4, 6)
        if place is None or _is_any(place):
            if excluded and place is not None:
                raise Unclear(place, "everyone is excluded")
            return Side(families=families)
        words = [(each, text(each)) for each in items(place)]
        paths = [(each, word) for each, word in words if word.startswith("/")]
        if plain := [word for _each, word in words if not word.startswith("/")]:
            paths.append((place, self.groups.of_addresses(plain, place)))
        found = [self._membership(each, word) for each, word in paths]
        blocks = tuple(dict.fromkeys(block for each in found for block in each.blocks))
        return Side(tuple(word for _each, word in paths), blocks, excluded, families)

    def _membership(self, place: Place, path: str) -> Membership:
        try:
            membership = self.groups.membership(path)
        except LookupError:
            raise Unclear(place, f"the group {path} is not in the input") from None
        if membership.fault is not None:
            raise membership.fault
        return membership

    def _ports(self, rule: Item) -> tuple[Port, ...]:
        own = items(rule.fields.get("service_entries"))
        found = self.services.entries(own, rule.place) if own else []
        if _is_any(rule.fields.get("services")):
            return tuple(found)
        for each in items(rule.fields.get("services")):
            found += self.services.ports(each)
        return tuple(dict.fromkeys(found))


_DENY_ALL = RuleRead(Action.DENY, Side(), Side(), Side(), (), ("ingress", "egress"))


def _says(item: Item, key: str) -> bool:
    return key in item.fields and item.fields[key].raw.value is not None


def _is_any(place: Place | None) -> bool:
    places = items(place)
    return not places or any(text(each) == "ANY" for each in places)
