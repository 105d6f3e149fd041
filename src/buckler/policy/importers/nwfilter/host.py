"""libvirt's domains and network filters → inventory and policies. Owns the order in which an interface's rules ask.

Rules on frames stand in tier ``security`` and deny or pass; rules that follow connections stand in ``tenant``; what none of
them decides passes, as in libvirt.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.policy.importers.addressed import (
    CARD,
    Blocks,
    Holder,
    card_selector,
    is_held,
    resolve_blocks,
    shared_addresses,
)
from buckler.policy.importers.linklocal import find_gaps, is_of_ipv4_only
from buckler.policy.importers.naming import document_name, made_mac, network_document, policy_document, vm_document
from buckler.policy.importers.nwfilter.rules import FilterRule, Unclear, is_about_frames_only, layer_of, read_rule
from buckler.policy.importers.nwfilter.standard import ALLOWS_IPV6, GATEWAY_ONLY, NO_GROUPS, NO_IPV6, STANDARD
from buckler.policy.importers.nwfilter.tree import Node, read_tree
from buckler.policy.importers.outcome import Effect, Import, Loss, LossBook, unreadable
from buckler.policy.language import Action, Document, EgressRule, IngressRule, InterfaceSpec, Peer, Port, Tier
from buckler.policy.problem import Problem
from buckler.policy.source import Source

SOURCE = "nwfilter"
_ANYONE = (Peer(any=True), Peer(group=True))
_DENIES = {"drop", "reject"}
_SIDES = {"in": ("in",), "out": ("out",), "inout": ("in", "out")}
_MAX_DEPTH = 16


class Card(msgspec.Struct, frozen=True):
    """One interface of one domain."""

    holder: Holder
    network: str
    mac: str
    reference: Node | None
    node: Node


class Spelt(msgspec.Struct, frozen=True):
    """One rule in our words, in its place."""

    place: tuple[int, int]
    side: str
    action: Action
    peers: tuple[Peer, ...] = ()
    ports: tuple[Port, ...] = ()


def import_nwfilter(sources: Iterable[Source], review: str) -> Import:
    """Carry domains and filters over, as ``virsh dumpxml`` and ``virsh nwfilter-dumpxml`` write them."""
    book = LossBook()
    problems: list[Problem] = []
    domains: list[Node] = []
    filters: dict[str, Node] = {}
    for source in sources:
        node, noted = read_tree(source)
        problems += noted
        if node is not None:
            problems += _sort_in(node, domains, filters, book)
    if not problems and not domains and not filters:
        problems = [Problem("", 0, "", "neither a domain nor a filter is in the input")]
    if problems:
        return unreadable(SOURCE, problems)
    cards = {id(domain): _cards(domain) for domain in domains}
    every = [card for group in cards.values() for card in group]
    if not every:
        _tell(
            book,
            next(iter(filters.values())),
            "input",
            "no domain with an interface is in the input",
            "the inventory is empty",
            Effect.OMITTED,
        )
    policies = [document for card in every for document in _Interface(card, every, filters, book).documents(review)]
    inventory = [*(network_document(each) for each in sorted({card.network for card in every})), *_vms(domains, cards)]
    return Import(SOURCE, tuple(inventory), tuple(policies), book.told())


def _sort_in(node: Node, domains: list[Node], filters: dict[str, Node], book: LossBook) -> list[Problem]:
    name = node.attributes.get("name", "")
    if node.tag == "domain" and _text(node, "name"):
        if any(_text(each, "name") == _text(node, "name") for each in domains):
            return [Problem(node.file, node.line, "", f"domain {_text(node, 'name')} is given twice")]
        domains.append(node)
    elif node.tag == "filter" and name:
        if name in filters:
            return [Problem(node.file, node.line, "", f"filter {name} is given twice")]
        filters[name] = node
    else:
        _tell(book, node, "input", f"a {node.tag!r} is not read", "not carried over", Effect.OMITTED)
    return []


def _text(node: Node, *path: str) -> str:
    found = node.first(*path)
    return found.text.strip() if found is not None else ""


def _tell(book: LossBook, node: Node, subject: str, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
    book.add(Loss(node.file, node.line, node.tag, subject, what, means, effect))


def _cards(domain: Node) -> list[Card]:
    devices = domain.first("devices")
    nodes = devices.all("interface") if devices is not None else []
    name = document_name(_text(domain, "name"))
    found = []
    for index, node in enumerate(nodes):
        mac = node.first("mac")
        source = node.first("source")
        own = source.attributes if source is not None else {}
        reference = node.first("filterref")
        network = document_name(own.get("network") or own.get("bridge") or "default")
        holder = Holder(
            f"{name} {index}" if len(nodes) > 1 else name,
            name,
            _addresses(reference),
            f"nic{index}" if len(nodes) > 1 else "",
            network,
        )
        address = mac.attributes.get("address", "").lower() if mac is not None else ""
        found.append(Card(holder, network, address or made_mac(f"{name} {index}"), reference, node))
    return found


def _addresses(reference: Node | None) -> tuple[str, ...]:
    """The parameter IP of a filter holds an interface's addresses."""
    found = []
    for each in reference.all("parameter") if reference is not None else []:
        if each.attributes.get("name") in {"IP", "IPV6"}:
            try:
                found.append(str(ipaddress.ip_address(each.attributes.get("value", ""))))
            except ValueError:
                return ()
    return tuple(dict.fromkeys(found))


def _vms(domains: Sequence[Node], cards: Mapping[int, list[Card]]) -> Iterable[Document]:
    shared = shared_addresses((card.network, card.holder.addresses) for group in cards.values() for card in group)
    for domain in domains:
        specs = [
            InterfaceSpec(
                card.mac,
                card.network,
                tuple(each for each in card.holder.addresses if (card.network, each) not in shared),
                {CARD: card.holder.card} if card.holder.card else {},
            )
            for card in cards[id(domain)]
        ]
        name = document_name(_text(domain, "name"))
        yield vm_document(name, {}, specs, file=domain.file, line=domain.line, uuid=_text(domain, "uuid").lower())


class _Interface:
    """One interface's filter, with all that it refers to."""

    def __init__(self, card: Card, every: Sequence[Card], filters: Mapping[str, Node], book: LossBook) -> None:
        self.card, self.filters, self.book = card, filters, book
        self.others = [each.holder for each in every if each is not card]
        self.frames: list[Spelt] = []
        self.connections: list[Spelt] = []
        self.names: set[str] = set()

    def documents(self, review: str) -> list[Document]:
        """Write the interface's policies."""
        if self.card.reference is not None:
            self._refer(self.card.reference, {}, 0)
        self._add_standard()
        self.connections += [Spelt((2, 9999), side, Action.ALLOW, _ANYONE) for side in ("in", "out")]
        name = document_name("filter", self.card.holder.name, self.card.holder.card or "nic0")
        made = [(Tier.SECURITY, f"{name}.frames", self.frames), (Tier.TENANT, name, self.connections)]
        return [self._document(tier, document_name(word), spelt, review) for tier, word, spelt in made if spelt]

    def _document(self, tier: Tier, name: str, spelt: list[Spelt], review: str) -> Document:
        ordered = sorted(spelt, key=lambda each: each.place)
        sides = {side: [each for each in ordered if each.side == side] for side in ("in", "out")}
        return policy_document(
            name,
            review=review,
            description=f"Network filter of {self.card.holder.title}",
            tier=tier,
            subject=card_selector(self.card.holder),
            ingress=[
                IngressRule(f"in-{n}", each.action, ports=each.ports, peers=each.peers)
                for n, each in enumerate(sides["in"], 1)
            ],
            egress=[
                EgressRule(f"out-{n}", each.action, ports=each.ports, peers=each.peers)
                for n, each in enumerate(sides["out"], 1)
            ],
            file=self.card.node.file,
            line=self.card.node.line,
        )

    def _tell(self, node: Node, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
        _tell(self.book, node, f"interface {self.card.holder.title}", what, means, effect)

    def _refer(self, reference: Node, variables: Mapping[str, tuple[str, ...]], depth: int) -> None:
        name = reference.attributes.get("filter", "")
        mine: dict[str, tuple[str, ...]] = dict(variables)
        for key in {each.attributes.get("name", "") for each in reference.all("parameter")}:
            mine[key] = tuple(
                each.attributes.get("value", "")
                for each in reference.all("parameter")
                if each.attributes.get("name") == key
            )
        node = self.filters.get(name)
        if name in STANDARD and (node is None or not _follows_connections(node)):
            self.names.add(name)
            self._tell(reference, f"libvirt's filter {name}", STANDARD[name], Effect.NOTE)
        elif node is None or depth > _MAX_DEPTH:
            self._tell(reference, f"the filter {name!r} is not in the input", "everything is denied")
            self._deny_all((-1, -1001))
        else:
            for each in node.children:
                if each.tag == "rule":
                    self._add(each, mine, 0 if node.attributes.get("chain", "root") == "root" else 1)
                elif each.tag == "filterref":
                    self._refer(each, mine, depth + 1)
                elif each.tag != "uuid":
                    self._tell(each, f"a {each.tag!r} in a filter is not known", "everything is denied")
                    self._deny_all((-1, -1001))

    def _deny_all(self, place: tuple[int, int]) -> None:
        self.frames += [Spelt(place, side, Action.DENY) for side in ("in", "out")]

    def _add(self, node: Node, variables: Mapping[str, tuple[str, ...]], chain: int) -> None:
        if is_about_frames_only(node):
            self._tell(
                node,
                "a rule on ARP, RARP or STP",
                "a shield judges ARP by itself and carries nothing but IP",
                Effect.NOTE,
            )
            return
        denies = node.attributes.get("action", "") not in {"accept", "return", "continue"}
        try:
            rule = read_rule(node, variables)
        except Unclear as unclear:
            self._tell(node, str(unclear), "from here on all is denied" if denies else "the rule allows nothing")
            place = (chain, _priority(node))
            if denies:
                for side in _SIDES.get(node.attributes.get("direction", ""), ("in", "out")):
                    (self.frames if layer_of(node) else self.connections).append(Spelt(place, side, Action.DENY))
            return
        if rule.own_source:
            self._tell(node, "a rule against spoofing", "every shield does this by itself", Effect.NOTE)
        elif rule.answers:
            self._tell(node, "a rule on connections that stand", "answers follow their connection", Effect.NOTE)
        elif rule.action != "continue":
            self._spell(rule, chain)

    def _spell(self, rule: FilterRule, chain: int) -> None:
        denies = rule.action in _DENIES
        stateless = rule.node.attributes.get("statematch", "true") in {"false", "0"}
        if stateless and not denies:
            self._tell(
                rule.node, "the rule does not look at connections", "the rule allows nothing: here answers follow"
            )
            return
        action = _denial(rule) if denies else (Action.PASS if rule.frames else Action.ALLOW)
        self._tell_link_local(rule, action)
        for side in _SIDES[rule.direction]:
            peers = self._peers(rule, side, denies)
            if peers is not None:
                place = (chain, rule.priority)
                (self.frames if rule.frames else self.connections).append(Spelt(place, side, action, peers, rule.ports))

    def _tell_link_local(self, rule: FilterRule, action: Action) -> None:
        if is_of_ipv4_only(rule.ports):
            return
        for side in _SIDES[rule.direction]:
            near, far = (rule.dest, rule.source) if side == "in" else (rule.source, rule.dest)
            if far is None and rule.family and not _is_icmp(rule):
                far = Blocks(("0.0.0.0/0",) if rule.family == 4 else ("::/0",))
            for gap in find_gaps(action, self.card.holder, near, far, self.others):
                self._tell(rule.node, gap.what, gap.means, gap.effect)

    def _peers(self, rule: FilterRule, side: str, denies: bool) -> tuple[Peer, ...] | None:
        near, far = (rule.dest, rule.source) if side == "in" else (rule.source, rule.dest)
        if near is not None:
            held = is_held(near, self.card.holder.addresses)
            if held is False:
                return None
            if held is None:
                self._tell(rule.node, "whether the rule is about the guest's addresses is not known", _doubt(denies))
                if not denies:
                    return None
        if far is None and (rule.family == 0 or _is_icmp(rule)):
            return () if denies else _ANYONE if rule.family == 0 else (Peer(any=True),)
        if far is None:
            far = Blocks(("0.0.0.0/0",) if rule.family == 4 else ("::/0",))
        resolved = resolve_blocks(far, self.others)
        if resolved.doubtful:
            self._tell(
                rule.node, f"whether the rule is about {', '.join(resolved.doubtful[:5])} is not known", _doubt(denies)
            )
        return resolved.for_action(Action.DENY if denies else Action.ALLOW) or None

    def _add_standard(self) -> None:
        where = self.card.reference or self.card.node
        if self.names & NO_GROUPS:
            self.frames.append(Spelt((-1, -1000), "out", Action.DENY, (Peer(group=True),)))
        if self.names & GATEWAY_ONLY:
            self._tell(where, "frames from the gateway only", "everything inward is denied")
            self.frames.append(Spelt((-1, -1000), "in", Action.DENY))
        if self.names & NO_IPV6 and not self.names & ALLOWS_IPV6:
            six = (Peer(cidr="::/0"),)
            for side in ("in", "out"):
                self.frames.append(Spelt((3, 0), side, Action.DENY, six))
                self.frames.append(Spelt((3, 1), side, Action.DENY, (), (Port("ICMPv6"),)))
            what = "IPv6 between guests cannot be denied by itself"
            self._tell(
                where,
                what,
                "it is denied with the outside; between guests of one network it passes by link-local addresses",
                Effect.LOOSENED,
            )


def _follows_connections(node: Node) -> bool:
    """A filter of a standard name with rules of another kind is none of libvirt's."""
    return any(not layer_of(each) for each in node.all("rule") if each.children)


def _denial(rule: FilterRule) -> Action:
    """Rules on frames stand in ebtables, which knows no answer: libvirt drops there what is to be rejected."""
    return Action.REJECT if rule.action == "reject" and not rule.frames else Action.DENY


def _is_icmp(rule: FilterRule) -> bool:
    """ICMP shows its family by itself."""
    return bool(rule.ports) and rule.ports[0].protocol.startswith("ICMP")


def _priority(node: Node) -> int:
    word = node.attributes.get("priority", "500").lstrip("-")
    return int(node.attributes.get("priority", "500")) if word.isdigit() and len(word) < 5 else -1000


def _doubt(denies: bool) -> str:
    return "it denies them" if denies else "it does not allow them"
