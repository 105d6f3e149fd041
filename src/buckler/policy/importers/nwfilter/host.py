"""libvirt's domains and network filters → inventory and policies. Owns the order in which an interface's rules ask.

Rules on frames stand in tier ``security`` and deny or pass; what they say of answers stands before, in ``platform``; rules that
follow connections stand in ``tenant``; what none of them decides passes, as in libvirt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from buckler.policy.importers.addressed import (
    Blocks,
    card_selector,
    is_held,
    resolve_blocks,
)
from buckler.policy.importers.linklocal import NONE_HERE, find_gaps, is_of_ipv4_only
from buckler.policy.importers.naming import document_name, network_document, policy_document
from buckler.policy.importers.nwfilter.answers import OTHER, Spelt, answered, is_all_clients, mirror, surplus
from buckler.policy.importers.nwfilter.chains import PRIORITY, ROOT, Chain, Framed, Step, flatten, read_chain
from buckler.policy.importers.nwfilter.domains import Card, cards_of, text_of, vm_documents
from buckler.policy.importers.nwfilter.rules import FilterRule, Unclear, is_about_frames_only, layer_of, read_rule
from buckler.policy.importers.nwfilter.standard import NO_GROUPS, STANDARD, is_shipped, shipped
from buckler.policy.importers.nwfilter.tree import Node, read_tree
from buckler.policy.importers.outcome import Effect, Import, Loss, LossBook, unreadable
from buckler.policy.language import Action, Document, EgressRule, IngressRule, Peer, Port, Tier
from buckler.policy.problem import Problem
from buckler.policy.source import Source

SOURCE = "nwfilter"
_ANYONE = (Peer(any=True), Peer(group=True))
_DENIES = {"drop", "reject"}
_SIDES = {"in": ("in",), "out": ("out",), "inout": ("in", "out")}
_MAX_DEPTH = 16
_MAX_REFERENCES = 1000
_NEVER = (2, 9999)
_FIRST = -1001
"""A priority before all of libvirt's."""


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
    cards = {id(domain): cards_of(domain) for domain in domains}
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
    severed: set[str] = set()
    made = [_Interface(card, every, filters, book, severed).documents(review) for card in every]
    policies = [document for group in made for document in group]
    inventory = [
        *(network_document(each, severed=severed) for each in sorted({card.network for card in every})),
        *vm_documents(domains, cards),
    ]
    return Import(SOURCE, tuple(inventory), tuple(policies), book.told())


def _sort_in(node: Node, domains: list[Node], filters: dict[str, Node], book: LossBook) -> list[Problem]:
    name = node.attributes.get("name", "")
    if node.tag == "domain" and text_of(node, "name"):
        if any(text_of(each, "name") == text_of(node, "name") for each in domains):
            return [Problem(node.file, node.line, "", f"domain {text_of(node, 'name')} is given twice")]
        domains.append(node)
    elif node.tag == "filter" and name:
        if name in filters:
            return [Problem(node.file, node.line, "", f"filter {name} is given twice")]
        filters[name] = node
    else:
        _tell(book, node, "input", f"a {node.tag!r} is not read", "not carried over", Effect.OMITTED)
    return []


def _tell(book: LossBook, node: Node, subject: str, what: str, means: str, effect: Effect = Effect.TIGHTENED) -> None:
    book.add(Loss(node.file, node.line, node.tag, subject, what, means, effect))


class _Interface:
    """One interface's filter, with all that it refers to."""

    def __init__(
        self, card: Card, every: Sequence[Card], filters: Mapping[str, Node], book: LossBook, severed: set[str]
    ) -> None:
        self.card, self.filters, self.book, self.severed = card, filters, book, severed
        self.others = [each.holder for each in every if each is not card]
        self.frames: dict[str, list[Framed]] = {"in": [], "out": []}
        self.connections: list[Spelt] = []
        self.beginning: list[tuple[Node, Spelt]] = []
        """Rules that let through what begins only, with what is spelt of them."""
        self.standing: dict[tuple[str, str], tuple[int, int]] = {}
        """By tag and side: where all connections of that tag that stand are first let go on."""
        self.seen: set[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]] = set()

    def documents(self, review: str) -> list[Document]:
        """Write the interface's policies."""
        if self.card.reference is not None:
            self._refer(self.card.reference, {}, 0, known=False)
        self._leave_out_beginnings()
        sides = {side: list(self._in_order(side)) for side in OTHER}
        answers = [spelt for side in sides for spelt in self._answers(side, sides)]
        frames = [spelt for side in sides.values() for spelt in side]
        self.connections += [Spelt(_NEVER, side, Action.ALLOW, _ANYONE) for side in ("in", "out")]
        name = document_name("filter", self.card.holder.name, self.card.holder.card or "nic0")
        made = [(Tier.PLATFORM, f"{name}.answers", answers), (Tier.SECURITY, f"{name}.frames", frames)]
        made.append((Tier.TENANT, name, self.connections))
        return [self._document(tier, document_name(word), spelt, review) for tier, word, spelt in made if spelt]

    def _leave_out_beginnings(self) -> None:
        """Allow no connection of which only the first packet is let through there."""
        for node, spelt in self.beginning:
            tag = node.children[0].tag
            every = f"all{tag[tag.find('-') :]}" if "-" in tag else "all"
            goes_on = [min(self.standing.get((each, side), _NEVER) for each in (tag, every)) for side in OTHER]
            if max(goes_on) > spelt.place:  # what drops it may stand between
                what = "packets that begin a connection are accepted, and no rule before accepts what follows"
                self._tell(node, what, "the rule allows nothing")
                self.connections.remove(spelt)

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

    def _refer(self, reference: Node, variables: Mapping[str, tuple[str, ...]], depth: int, *, known: bool) -> None:
        """Take a filter with all that it refers to; the same one with the same variables says nothing new."""
        name = reference.attributes.get("filter", "")
        mine: dict[str, tuple[str, ...]] = dict(variables)
        for key in {each.attributes.get("name", "") for each in reference.all("parameter")}:
            mine[key] = tuple(
                each.attributes.get("value", "")
                for each in reference.all("parameter")
                if each.attributes.get("name") == key
            )
        visit = (name, tuple(sorted(mine.items())))
        if visit in self.seen:
            return
        self.seen.add(visit)
        node = self.filters.get(name)
        own = name in STANDARD and (node is None or is_shipped(node))
        if own:
            node = shipped(name, reference)
            if not known:
                self._tell(reference, f"libvirt's filter {name}", STANDARD[name], Effect.NOTE)
        if node is None or depth > _MAX_DEPTH or len(self.seen) > _MAX_REFERENCES:
            much = (
                f"filters are referred to deeper than {_MAX_DEPTH} times, or more than {_MAX_REFERENCES} times in all"
            )
            what = f"the filter {name!r} is not in the input" if node is None else much
            self._deny_all(reference, what)
            return
        chain = read_chain(node.attributes.get("chain", ROOT), node.attributes.get("priority"))
        if chain is None:
            self._deny_all(node, "the chain or its priority is none that libvirt knows")
            return
        for each in node.children:
            if each.tag == "rule":
                self._add(each, mine, chain, name if own else "")
            elif each.tag == "filterref":
                self._refer(each, mine, depth + 1, known=own)
            elif each.tag != "uuid":
                self._deny_all(each, f"a {each.tag!r} in a filter is not known")

    def _deny_all(self, node: Node, what: str) -> None:
        self._tell(node, what, "everything is denied")
        for side in ("in", "out"):
            rule = FilterRule(node, "drop", side, _FIRST, frames=True)
            self.frames[side].append(Framed(Chain(ROOT), _FIRST, "drop", rule, whole=True))

    def _add(self, node: Node, variables: Mapping[str, tuple[str, ...]], chain: Chain, own: str) -> None:
        """Take one rule; ``own``: of this filter of libvirt's."""
        if own in NO_GROUPS:
            self._tell(node, "some groups are denied by it", "all multicast and broadcast outward is")
            rule = FilterRule(node, "drop", "out", 500, frames=True)
            self.frames["out"].append(Framed(chain, 500, "drop", rule, group=True))
            return
        if is_about_frames_only(node) or not (chain.families or not layer_of(node)):
            if not own:
                what = "a rule on ARP, RARP, STP or VLAN tags"
                self._tell(node, what, "a shield judges ARP by itself and carries nothing but IP", Effect.NOTE)
            return
        try:
            rule = read_rule(node, variables)
        except Unclear as unclear:
            if not own.startswith("allow-dhcp"):
                self._add_unclear(node, chain, str(unclear))
            return
        if rule.own_source and not own:
            self._tell(node, "a rule against spoofing", "every shield does this by itself", Effect.NOTE)
        if rule.own_source and rule.family == 6:
            self._tell(node, "the rule does not take IPv6 link-local addresses for the guest's own", NONE_HERE)
            self.severed.add(self.card.network)
        if rule.answers:
            if rule.action == "accept" and rule.stands and node.children[0].attributes.keys() <= {"state", "comment"}:
                for side in _SIDES[rule.direction]:
                    key, place = (node.children[0].tag, side), (int(chain.name != ROOT), rule.priority)
                    self.standing[key] = min(self.standing.get(key, place), place)
            self._tell(node, "a rule on connections that stand", "answers follow their connection", Effect.NOTE)
        elif rule.action != "continue" and not (rule.own_source and rule.action == "drop"):
            self._spell(rule, chain)

    def _add_unclear(self, node: Node, chain: Chain, what: str) -> None:
        denies = node.attributes.get("action", "") not in {"accept", "return", "continue"}
        self._tell(node, what, "from here on all is denied" if denies else "the rule allows nothing")
        if not denies:
            return
        place = _priority(node)
        for side in OTHER:  # it may drop answers too
            if layer_of(node):
                rule = FilterRule(node, "drop", side, place, frames=True)
                self.frames[side].append(Framed(chain, place, "drop", rule, whole=True))
            else:
                self.connections.append(Spelt((int(chain.name != ROOT), place), side, Action.DENY))

    def _spell(self, rule: FilterRule, chain: Chain) -> None:
        denies = rule.action in _DENIES
        if rule.stateless and not denies and not rule.frames:
            self._tell(
                rule.node, "the rule does not look at connections", "the rule allows nothing: here answers follow"
            )
            return
        if rule.frames:
            for side in _SIDES[rule.direction]:
                if self._never(rule, side):
                    continue
                framed = Framed(chain, rule.priority, rule.action, rule, rule.families, whole=rule.is_whole)
                self.frames[side].append(framed)
            return
        action = Action.REJECT if rule.action == "reject" else Action.DENY if denies else Action.ALLOW
        place = (int(chain.name != ROOT), rule.priority)
        for side in _SIDES[rule.direction]:
            self._tell_link_local(rule, side, action)
            peers = self._peers(rule, side, denies)
            if peers is not None:
                self._add_connections(rule, Spelt(place, side, action, peers, rule.ports))

    def _add_connections(self, rule: FilterRule, spelt: Spelt) -> None:
        self.connections.append(spelt)
        if rule.begins and rule.action == "accept":
            self.beginning.append((rule.node, spelt))
        back = answered(spelt) if spelt.denies and not rule.begins and rule.direction != "inout" else None
        if back is not None:
            self.connections.append(back)
        if back is not None and is_all_clients(spelt):
            what = "the rule drops answers to connections of the other direction, from the ports that clients choose"
            self._tell(rule.node, what, "here it denies those connections from every port")

    def _never(self, rule: FilterRule, side: str) -> bool:
        """Say whether what a rule lets through has an end that the guest cannot have: none but DHCP's is unspecified."""
        near = rule.dest if side == "in" else rule.source
        if near is None or rule.own_source or rule.action in _DENIES:
            return False
        unspecified = {"0.0.0.0/32", "::/128"}
        return set(near.within) <= unspecified or is_held(near, self.card.holder.addresses) is False

    def _in_order(self, side: str) -> Iterable[Spelt]:
        """Spell the rules on frames of one side; libvirt's ebtables drops what is to be rejected."""
        steps, stricter = flatten(self.frames[side])
        for each in stricter:
            what = "what the rule spares cannot be named here, or which chain comes first is not said"
            self._tell(each.rule.node, what, "neither it nor what follows in its chain lets anything through")
        for index, step in enumerate(steps):
            for peers, ports in self._matches(step, side):
                action = Action.DENY if step.denies else Action.PASS
                yield Spelt((0, index), side, action, peers, ports, step.framed.rule.node)

    def _answers(self, side: str, sides: Mapping[str, Sequence[Spelt]]) -> Sequence[Spelt]:
        """Give what the other side's frames say of this side's connections, where it is stricter than this side itself."""
        mirrored = mirror(sides[OTHER[side]])
        stricter = list(surplus(mirrored, sides[side]))
        for each in stricter:
            if each.node is not None:
                what = "a rule on frames drops answers to connections of the other direction too"
                self._tell(each.node, what, "here such connections are denied, so nothing of them passes one way")
        return mirrored if stricter else ()

    def _matches(self, step: Step, side: str) -> Iterable[tuple[tuple[Peer, ...], tuple[Port, ...]]]:
        rule = step.framed.rule
        if step.framed.group:
            yield (Peer(group=True),), ()
            return
        if len(step.families) == 1:
            rule = msgspec.structs.replace(rule, family=min(step.families))
        if step.framed.whole and step.denies and rule.family == 6:
            yield (), (Port("ICMPv6"),)
            if self.card.holder.addresses and not any(":" in each for each in self.card.holder.addresses):
                self._tell(rule.node, "IPv6 between guests cannot be denied by itself", NONE_HERE)
                self.severed.add(self.card.network)
                yield (Peer(cidr="::/0"),), ()
                return
        self._tell_link_local(rule, side, Action.DENY if step.denies else Action.PASS)
        peers = self._peers(rule, side, step.denies)
        if peers is not None:
            yield peers, rule.ports

    def _tell_link_local(self, rule: FilterRule, side: str, action: Action) -> None:
        if is_of_ipv4_only(rule.ports):
            return
        near, far = (rule.dest, rule.source) if side == "in" else (rule.source, rule.dest)
        if far is None and rule.family and not _is_icmp(rule):
            far = Blocks(("0.0.0.0/0",) if rule.family == 4 else ("::/0",))
        for gap in find_gaps(action, self.card.holder, near, far, self.others):
            self._tell(rule.node, gap.what, gap.means)
            self.severed.update({self.card.network} if gap.severs else ())

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


def _is_icmp(rule: FilterRule) -> bool:
    """ICMP shows its family by itself."""
    return bool(rule.ports) and rule.ports[0].protocol.startswith("ICMP")


def _priority(node: Node) -> int:
    """Give the place of a rule that is unclear: its own, or the first where that is none."""
    word = node.attributes.get("priority", "500")
    place = int(word) if PRIORITY.match(word) else _FIRST
    return place if -1000 <= place <= 1000 else _FIRST


def _doubt(denies: bool) -> str:
    return "it denies them" if denies else "it does not allow them"
