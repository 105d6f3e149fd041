"""Security groups and ports of OpenStack Networking → inventory and policies. Owns what membership means here.

A group is a label of its members' interfaces and one policy that allows; nothing else allows, so all the rest is denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.field import Place
from buckler.policy.importers.addressed import (
    CARD,
    Blocks,
    is_held,
    read_blocks,
    resolve_blocks,
    shared_addresses,
    vm_peers,
)
from buckler.policy.importers.linklocal import holds_link_local, is_of_ipv4_only, name_gaps
from buckler.policy.importers.naming import (
    document_name,
    label_key,
    network_document,
    policy_document,
    rule_name,
    vm_document,
)
from buckler.policy.importers.neutron.ports import CloudPort, read_ports
from buckler.policy.importers.neutron.rules import GroupRule, is_stateless, join_families, read_rule
from buckler.policy.importers.outcome import Effect, Import, LossBook, unreadable
from buckler.policy.importers.unclear import Teller, Unclear, items, mapping, root, text
from buckler.policy.language import Action, Document, EgressRule, IngressRule, InterfaceSpec, Peer, Port
from buckler.policy.problem import Problem
from buckler.policy.source import Source, read_source

SOURCE = "neutron"
_LISTS = {
    "security_groups",
    "security_group_rules",
    "ports",
    "networks",
    "subnets",
    "servers",
    "address_groups",
    "routers",
}
_IDLE = {
    "address_scopes", "agents", "availability_zones", "extensions", "flavors", "floatingips", "logs", "metering_labels", "qos_policies",
    "quotas", "rbac_policies", "segments", "service_profiles", "subnetpools", "trunks",
}  # fmt: skip
"""Lists of the API that decide no verdict; any other one that is not known may (firewalls, and what comes later)."""
_OPEN = "neutron/port-security"
_ANYONE = (Peer(any=True), Peer(group=True))


class Group(msgspec.Struct, frozen=True):
    """One security group."""

    id: str
    name: str
    rules: list[GroupRule]
    place: Place


def import_neutron(sources: Iterable[Source], review: str) -> Import:
    """Carry security groups and ports over, as the API's JSON lists them."""
    book = LossBook()
    fields, shutting, problems = _merge(sources, book)
    if not problems and not fields.keys() & {"ports", "security_groups"}:
        problems = [Problem("", 0, "", "neither ports nor security_groups are in the input")]
    if problems:
        return unreadable(SOURCE, problems)
    try:
        ports = read_ports(fields, book)
        groups = _groups(fields, book)
        addresses = _by_id(items(fields.get("address_groups")))
    except Unclear as unclear:
        return unreadable(SOURCE, [Problem(unclear.place.file, unclear.place.line, unclear.place.path, unclear.what)])
    _tell_missing(ports, groups, book)
    cloud = _Cloud(ports, addresses, book)
    policies = [document for group in groups if not shutting for document in cloud.policies(group, review)]
    if any(port.is_open for port in ports) and not shutting:
        policies.append(_open(review))
    return Import(SOURCE, tuple(_inventory(ports, cloud.severed, book)), tuple(policies), book.told())


def _by_id(places: Iterable[Place]) -> dict[str, Place]:
    """Find things by their id. Raises Unclear where two have the same."""
    found: dict[str, Place] = {}
    for place in places:
        number = text(mapping(place).get("id"), "")
        if found.setdefault(number, place) is not place:
            raise Unclear(place, f"{number or 'one without an id'} is given twice")
    return found


def _merge(sources: Iterable[Source], book: LossBook) -> tuple[dict[str, Place], bool, list[Problem]]:
    """Give the lists of all files, and whether one of them may deny whatever it likes."""
    found: dict[str, Place] = {}
    shutting = False
    problems: list[Problem] = []
    for source in sources:
        raws, noted = read_source(source)
        problems += noted
        for raw in raws:
            place = root(raw, source.name)
            try:
                for key, inner in mapping(place).items():
                    if key in _IDLE or key.endswith("_links") or (key not in _LISTS and not inner.raw.value):
                        Teller(book, "input").tell(inner, f"{key} is not read", "not carried over", Effect.OMITTED)
                    elif key not in _LISTS:
                        means = (
                            "it may deny anything: nothing is allowed; leave it out of the input if it denies nothing"
                        )
                        Teller(book, "input").tell(inner, f"{key} is not known", means)
                        shutting = True
                    elif key in found:
                        problems.append(Problem(source.name, inner.line, key, f"{key} is given twice"))
                    found.setdefault(key, inner)
            except Unclear as unclear:
                problems.append(Problem(source.name, unclear.place.line, unclear.place.path, unclear.what))
    return found, shutting, problems


def _groups(fields: dict[str, Place], book: LossBook) -> list[Group]:
    loose: dict[str, list[Place]] = {}
    for place in items(fields.get("security_group_rules")):
        loose.setdefault(text(mapping(place).get("security_group_id"), ""), []).append(place)
    listed = _by_id(items(fields.get("security_groups")))
    for owner in loose.keys() - listed.keys():
        for place in loose[owner]:
            what = f"its group {owner or 'without id'} is not in the input"
            Teller(book, "security group rule").tell(place, what, "it allows nothing")
    found = []
    for place in items(fields.get("security_groups")):
        taken = mapping(place)
        number = text(taken.get("id"), "")
        if not number:
            raise Unclear(place, "a security group without id")
        tell = Teller(book, f"security group {text(taken.get('name'), '') or number}")
        places = [*items(taken.get("security_group_rules")), *loose.get(number, [])]
        if is_stateless(taken):
            tell.tell(
                taken["stateful"],
                "the group is stateless",
                "its rules allow nothing: here answers follow by themselves",
            )
            places = []
        rules = []
        for each in places:
            try:
                rules.append(read_rule(each))
            except Unclear as unclear:
                tell.tell_unclear(unclear, "the rule allows nothing")
        found.append(Group(number, text(taken.get("name"), ""), join_families(rules), place))
    return found


def _tell_missing(ports: Sequence[CloudPort], groups: Sequence[Group], book: LossBook) -> None:
    known = {each.id for each in groups}
    for port in ports:
        for each in sorted(set(port.groups) - known):
            Teller(book, f"port {port.id}").tell(
                port.place, f"its group {each} is not in the input", "it allows nothing"
            )


def _member(group: str) -> Selector:
    return Selector(match_expressions=(Expression(_key(group), Operator.EXISTS),))


def _key(group: str) -> str:
    return label_key(group, scope="neutron.group")


def _inventory(ports: Sequence[CloudPort], severed: set[str], book: LossBook) -> Iterable[Document]:
    shared = shared_addresses((each.network, each.addresses) for each in ports)
    for port in ports:
        for each in sorted(address for address in port.addresses if (port.network, address) in shared):
            what = f"the address {each} is another port's too"
            Teller(book, f"port {port.id}").tell(
                port.place, what, "no VM declares it; rules mean all who have it", Effect.NOTE
            )
    for name in sorted({each.network for each in ports}):
        yield network_document(name, severed=severed)
    for vm in sorted({each.vm for each in ports}):
        cards = [each for each in ports if each.vm == vm]
        uuid = cards[0].uuid if len(cards[0].uuid) == 36 else ""
        place = cards[0].place
        yield vm_document(
            vm, {}, [_card(each, shared) for each in cards], file=place.file, line=place.line, uuid=_uuid(uuid)
        )


def _uuid(word: str) -> str:
    parts = word.lower().split("-")
    shaped = [len(each) for each in parts] == [8, 4, 4, 4, 12] and all(
        set(each) <= set("0123456789abcdef") for each in parts
    )
    return word.lower() if shaped else ""


def _card(port: CloudPort, shared: set[tuple[str, str]]) -> InterfaceSpec:
    labels = {_key(each): "member" for each in port.groups} | ({CARD: port.card} if port.card else {})
    labels |= {_OPEN: "off"} if port.is_open else {}
    addresses = tuple(each for each in port.addresses if (port.network, each) not in shared)
    return InterfaceSpec(mac=port.mac, network=port.network, addresses=addresses, labels=labels)


def _open(review: str) -> Document:
    return policy_document(
        "neutron.no-port-security",
        review=review,
        description="Ports without port security are open, as in OpenStack",
        subject=Selector(match_labels={_OPEN: "off"}),
        order=900,
        ingress=[IngressRule("open", Action.ALLOW, peers=_ANYONE)],
        egress=[EgressRule("open", Action.ALLOW, peers=_ANYONE)],
    )


class _Cloud:
    """Who the rules of groups mean."""

    def __init__(self, ports: Sequence[CloudPort], addresses: dict[str, Place], book: LossBook) -> None:
        self.ports, self.addresses, self.book = ports, addresses, book
        self.severed: set[str] = set()

    def policies(self, group: Group, review: str) -> list[Document]:
        """Write one group; without a rule that allows something there is nothing to write."""
        tell = Teller(self.book, f"security group {group.name or group.id}")
        families: set[int] = set().union(*(each.families for each in self.ports if group.id in each.groups))
        sides: dict[str, list[tuple[str, GroupRule, tuple[Peer, ...]]]] = {"ingress": [], "egress": []}
        for index, rule in enumerate(group.rules, start=1):
            try:
                peers = self._peers(rule, families, group, tell)
            except Unclear as unclear:
                tell.tell_unclear(unclear, "the rule allows nothing")
                continue
            if peers:
                sides[rule.direction].append((rule_name(rule.direction, str(index)), rule, peers))
        if not any(sides.values()):
            return []
        ingress = [
            IngressRule(name, Action.ALLOW, ports=_ports(rule), peers=peers) for name, rule, peers in sides["ingress"]
        ]
        egress = [
            EgressRule(name, Action.ALLOW, ports=_ports(rule), peers=peers) for name, rule, peers in sides["egress"]
        ]
        return [
            policy_document(
                document_name("group", group.name or group.id, group.id),
                review=review,
                description=f"Security group {group.name or group.id}",
                subject=_member(group.id),
                ingress=ingress,
                egress=egress,
                file=group.place.file,
                line=group.place.line,
            )
        ]

    def _peers(self, rule: GroupRule, families: set[int], group: Group, tell: Teller) -> tuple[Peer, ...]:
        if rule.addresses:
            return self._of_addresses(rule, group, tell)
        if rule.prefix:
            return self._of_blocks(Blocks((rule.prefix,)), rule, group, tell)
        whole = len(rule.families) == 2 or rule.names_family
        if not rule.group and whole:
            return _ANYONE if len(rule.families) == 2 else (Peer(any=True),)
        outside = () if rule.group else tuple(Peer(cidr=_everything(each)) for each in rule.families)
        chosen = [each for each in self.ports if not rule.group or rule.group in each.groups]
        fitting = [each for each in chosen if whole or _is_of(each.families, families, rule.families[0])]
        self._tell_families(chosen, fitting, rule, tell)
        self._tell_link_local(None, fitting, chosen, rule, group, tell)
        if rule.group and len(fitting) == len(chosen):
            return (Peer(vm=_member(rule.group)),)
        return (*outside, *vm_peers([each.holder() for each in fitting]))

    def _tell_families(
        self, chosen: Sequence[CloudPort], fitting: Sequence[CloudPort], rule: GroupRule, tell: Teller
    ) -> None:
        family = rule.families[0]
        left = [each.vm for each in chosen if each not in fitting and family in each.families]
        if left:
            what = f"a rule for IPv{family} only, towards {', '.join(left[:5])}, which have both"
            tell.tell(rule.place, what, "it allows nothing towards them: rules here hold for a VM's every address")

    def _tell_link_local(
        self,
        blocks: Blocks | None,
        meant: Sequence[CloudPort],
        chosen: Sequence[CloudPort],
        rule: GroupRule,
        group: Group,
        tell: Teller,
    ) -> None:
        """``meant``: the ports that the rule names here, out of those it is about."""
        if is_of_ipv4_only(_ports(rule)):
            return
        members = [each for each in self.ports if group.id in each.groups]
        near = [each for each in chosen if any(one.network == each.network and one is not each for one in members)]
        here = {each.vm: each in meant for each in near}
        there = holds_link_local(blocks) if 6 in rule.families else False
        for gap in name_gaps(Action.ALLOW, here, dict.fromkeys(here, there)):
            tell.tell(rule.place, f"{rule.direction}: {gap.what}", gap.means)
            self.severed.update(each.network for each in near if gap.severs)

    def _of_addresses(self, rule: GroupRule, group: Group, tell: Teller) -> tuple[Peer, ...]:
        if rule.addresses not in self.addresses:
            raise Unclear(rule.place, f"the address group {rule.addresses} is not in the input")
        place = self.addresses[rule.addresses]
        words = [text(each) for each in items(mapping(place).get("addresses"))]
        blocks = read_blocks(words, lambda what: Unclear(place, what))
        mine = tuple(
            each for each in blocks.within if (":" in each) == (rule.families == (6,)) or len(rule.families) == 2
        )
        return self._of_blocks(Blocks(mine), rule, group, tell)

    def _of_blocks(self, blocks: Blocks, rule: GroupRule, group: Group, tell: Teller) -> tuple[Peer, ...]:
        resolved = resolve_blocks(blocks, [each.holder() for each in self.ports])
        held = [each for each in self.ports if is_held(blocks, each.holder().addresses)]
        self._tell_link_local(blocks, held, self.ports, rule, group, tell)
        if resolved.doubtful:
            what = f"whether {', '.join(blocks.within[:3])} covers all of {', '.join(resolved.doubtful[:5])} is not so or not known"
            tell.tell(rule.place, what, f"{rule.direction} of these is not allowed by it")
        return resolved.sure


def _is_of(theirs: set[int], ours: set[int], family: int) -> bool:
    """Say whether two ends can only meet in one family."""
    return theirs & ours == {family} if ours else theirs == {family}


def _everything(family: int) -> str:
    return "0.0.0.0/0" if family == 4 else "::/0"


def _ports(rule: GroupRule) -> tuple[Port, ...]:
    return (rule.port,) if rule.port is not None else ()
