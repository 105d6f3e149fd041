"""Proxmox VE's firewall files → inventory and policies. Owns the order in which a guest's chain asks.

An interface is one policy of the tenant tier: the cluster's blacklist, the guest's rules in order with groups in their
place, then ``policy_in`` and ``policy_out``. What the firewall is off for is open, as there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
from buckler.policy.importers.outcome import Effect, Import, LossBook, unreadable
from buckler.policy.importers.proxmox.files import FirewallFile, Line, Teller, is_on, read_file
from buckler.policy.importers.proxmox.forward import Closing, find_closings
from buckler.policy.importers.proxmox.guests import Card, read_cards
from buckler.policy.importers.proxmox.rules import ACTIONS, NO_LOG, FirewallRule, Names, Unclear, read_rule
from buckler.policy.language import Action, Document, EgressRule, IngressRule, InterfaceSpec, Peer, Port
from buckler.policy.problem import Problem
from buckler.policy.source import Source

SOURCE = "proxmox"
_GUEST = re.compile(r"(?:.*/)?([1-9][0-9]{0,8})\.(fw|conf)\Z")
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}\Z")
_QUIET = {
    "dhcp",
    "ndp",
    "radv",
    "macfilter",
    "ipfilter",
    "log_level_in",
    "log_level_out",
    "enable",
    "policy_in",
    "policy_out",
}
_ANYONE = (Peer(any=True), Peer(group=True))
_OWN_WAY = {
    "macfilter": "a shield lets no other MAC through, whatever is said here",
    "ipfilter": "a shield lets no other address through, whatever is said here",
    "dhcp": "a shield decides on DHCP by the network's dhcpServers",
    "ndp": "a shield judges neighbour discovery by itself",
    "radv": "a shield lets router advertisements come from the network's routers only",
}


class Guest(msgspec.Struct, frozen=True):
    """One guest: what its files say."""

    number: str
    firewall: FirewallFile | None
    cards: tuple[Card, ...]
    names: Names
    file: str
    is_missing: bool = False
    """Its firewall's file may be missing from the input."""


class Spelt(msgspec.Struct, frozen=True):
    """One rule in our words."""

    action: Action
    peers: tuple[Peer, ...]
    ports: tuple[Port, ...]
    name: str
    log: bool = False


def import_proxmox(sources: Iterable[Source], review: str) -> Import:
    """Carry firewall files over: cluster.fw, host.fw, VMID.fw, and guests' VMID.conf where they are there."""
    book = LossBook()
    files = {source.name: source for source in sources}
    cluster = _cluster(files, book)
    numbers = {match[1] for name in files if (match := _GUEST.match(name))}
    if cluster is None:
        what = "cluster.fw is not in the input, so whether the firewall is on is not known"
        hint = "a cluster without one has it off: then put an empty cluster.fw there"
        return unreadable(SOURCE, [Problem(min(files, default=""), 0, "", what, hint)])
    twice = _twice(files)
    if twice:
        return unreadable(SOURCE, twice)
    guests = [_guest(number, files, cluster, book) for number in sorted(numbers, key=int)]
    _tell_others(files, book)
    closings = find_closings(cluster, [each for each in files.values() if _is_others(each.name)], book)
    bridges = {"", *(card.bridge for guest in guests for card in guest.cards)}
    for each in closings:
        if each.bridge not in bridges:
            means = f"no guest in the input is on {each.bridge}"
            Teller(book, "cluster").tell(each.line, "what is forwarded may be dropped by this", means, Effect.NOTE)
    holders = {(guest.number, card.name): _holder(guest, card) for guest in guests for card in guest.cards}
    shared = shared_addresses(
        (_network_name(each.bridge, each.vlan), each.addresses) for guest in guests for each in guest.cards
    )
    policies: list[Document] = []
    severed: set[str] = set()
    for guest in guests:
        for card in guest.cards:
            chain = _Chain(guest, cluster, closings, card, holders, Teller(book, f"guest {guest.number}"), severed)
            policies.append(chain.document(review))
    inventory = [*_networks(guests, severed), *(_vm(guest, shared) for guest in guests if guest.cards)]
    return Import(SOURCE, tuple(inventory), tuple(policies), book.told())


def _cluster(files: dict[str, Source], book: LossBook) -> FirewallFile | None:
    found = [name for name in files if name.rpartition("/")[2] == "cluster.fw"]
    return read_file(files[found[0]], Teller(book, "cluster"), has_groups=True) if found else None


def _twice(files: dict[str, Source]) -> list[Problem]:
    seen: dict[str, str] = {}
    found = []
    for name in files:
        base = name.rpartition("/")[2]
        if (_GUEST.match(base) or base == "cluster.fw") and seen.setdefault(base, name) != name:
            found.append(Problem(name, 0, "", f"{base} is given twice", f"first as {seen[base]}"))
    return found


def _guest(number: str, files: dict[str, Source], cluster: FirewallFile, book: LossBook) -> Guest:
    tell = Teller(book, f"guest {number}")
    own = {
        name.rpartition(".")[2]: files[name]
        for name in files
        if name.rpartition("/")[2].partition(".")[0] == number and _GUEST.match(name)
    }
    firewall = read_file(own["fw"], tell) if "fw" in own else None
    names = Names(firewall, cluster)
    cards = read_cards(own.get("conf"), firewall, names, tell)
    if "conf" not in own and firewall is not None:
        line = Line(own["fw"].name, 1, "")
        tell.tell(
            line,
            "the guest's configuration is not in the input",
            "its interfaces count as filtered, on vmbr0",
            Effect.NOTE,
        )
    is_missing = firewall is None and is_on(cluster) and any(card.is_filtered for card in cards)
    if is_missing:
        line, what = Line(own["conf"].name, 1, ""), f"{number}.fw is not in the input"
        if _is_copy(files, own["conf"].name):
            tell.tell(line, what, "its firewall is off, as Proxmox VE has it of a guest without one", Effect.NOTE)
            is_missing = False
        else:
            tell.tell(line, what, "whether there is one is not known: the guest is denied everything")
    return Guest(number, firewall, tuple(cards), names, own["conf" if "conf" in own else "fw"].name, is_missing)


def _is_copy(files: dict[str, Source], config: str) -> bool:
    """Say whether the input is laid out as /etc/pve: then firewall/ is there as a whole, and what it has not is not.

    pve-firewall makes no chain for a guest without VMID.fw, whatever its interfaces say.
    """
    return config.rpartition("/")[0].rpartition("/")[2] in {"qemu-server", "lxc"} and any(
        name == "firewall/cluster.fw" or name.endswith("/firewall/cluster.fw") for name in files
    )


def _is_others(name: str) -> bool:
    """Say whether a file is a host's or a virtual network's."""
    return name.endswith(".fw") and not _GUEST.match(name) and name.rpartition("/")[2] != "cluster.fw"


def _tell_others(files: dict[str, Source], book: LossBook) -> None:
    for name in files:
        if not name.endswith(".fw") and not _GUEST.match(name):
            line = Line(name, 1, "")
            Teller(book, name).tell(line, "this is no file of a firewall or guest", "not carried over", Effect.OMITTED)


def _networks(guests: Sequence[Guest], severed: set[str]) -> Iterable[Document]:
    for bridge, vlan in sorted({(card.bridge, card.vlan) for guest in guests for card in guest.cards}):
        proper = bridge if _BRIDGE.match(bridge) else ""
        yield network_document(_network_name(bridge, vlan), bridge=proper, vlan=vlan, severed=severed)


def _network_name(bridge: str, vlan: int) -> str:
    return document_name(bridge, *([str(vlan)] if vlan else []))


def _vm(guest: Guest, shared: set[tuple[str, str]]) -> Document:
    cards = [
        InterfaceSpec(
            mac=card.mac or made_mac(f"{guest.number}.{card.name}"),
            network=_network_name(card.bridge, card.vlan),
            addresses=tuple(
                one for one in card.addresses if (_network_name(card.bridge, card.vlan), one) not in shared
            ),
            labels={CARD: card.name} if len(guest.cards) > 1 else {},
        )
        for card in guest.cards
    ]
    return vm_document(guest.number, {}, cards, file=guest.file, line=1, purpose=f"Proxmox VE guest {guest.number}")


def _holder(guest: Guest, card: Card) -> Holder:
    single = len(guest.cards) == 1
    title = guest.number if single else f"{guest.number} {card.name}"
    network = _network_name(card.bridge, card.vlan)
    return Holder(title, guest.number, card.addresses, "" if single else card.name, network)


class _Chain:
    """One interface's chain."""

    def __init__(
        self,
        guest: Guest,
        cluster: FirewallFile,
        closings: Sequence[Closing],
        card: Card,
        holders: dict[tuple[str, str], Holder],
        tell: Teller,
        severed: set[str],
    ) -> None:
        self.guest, self.cluster, self.card, self.tell, self.severed = guest, cluster, card, tell, severed
        # Nobody says on which bridge an interface is that no configuration lists.
        bridges = {each.bridge for each in closings} if card.is_filtered is None else {"", card.bridge}
        self.closings = [each for each in closings if each.bridge in bridges]
        self.own = holders[guest.number, card.name]
        self.others = [each for each in holders.values() if each is not self.own]

    def document(self, review: str) -> Document:
        """Write the chain as a policy."""
        if self._is_unclear():
            spelt = {side: [Spelt(Action.DENY, (), (), "unclear")] for side in ("in", "out")}
        elif self._is_off():
            spelt = {"in": [Spelt(Action.ALLOW, _ANYONE, (), "off")], "out": [Spelt(Action.ALLOW, _ANYONE, (), "off")]}
        else:
            spelt = {"in": self._blacklist(), "out": []}
            for line in self.guest.firewall.rules if self.guest.firewall else []:
                self._add_line(line, self.guest.names, spelt, in_group=False)
            for side in spelt:
                spelt[side].append(self._last(side))
            self._add_options(spelt)
        self._add_forward(spelt)
        return policy_document(
            document_name("guest", self.guest.number, self.card.name),
            review=review,
            file=self.guest.file,
            line=1,
            description=f"Firewall of guest {self.guest.number}, interface {self.card.name}",
            subject=card_selector(self.own),
            ingress=[
                IngressRule(f"in-{n}-{each.name}", each.action, ports=each.ports, peers=each.peers, log=each.log)
                for n, each in enumerate(spelt["in"], 1)
            ],
            egress=[
                EgressRule(f"out-{n}-{each.name}", each.action, ports=each.ports, peers=each.peers, log=each.log)
                for n, each in enumerate(spelt["out"], 1)
            ],
        )

    def _is_unclear(self) -> bool:
        """Say whether nobody knows what binds the interface: then nothing may be allowed to it."""
        files = [each for each in (self.cluster, self.guest.firewall) if each]
        return self.card.is_unclear or self.guest.is_missing or any(each.unclear for each in files)

    def _is_off(self) -> bool:
        """The firewall acts where it is on for the cluster, the guest and the interface; each is off unless said."""
        firewall = self.guest.firewall
        return not (is_on(self.cluster) and firewall and is_on(firewall) and self.card.is_filtered is not False)

    def _blacklist(self) -> list[Spelt]:
        if not self.cluster.sets.get("blacklist") and ("ipset", "blacklist") not in self.cluster.twice:
            return []
        place = next(iter(self.cluster.sets["blacklist"]), Line(self.guest.file, 1, ""))
        try:
            blocks = Names(None, self.cluster).blocks("+blacklist")
        except Unclear as unclear:
            self.tell.tell(place, str(unclear), "everything towards guests is denied")
            return [Spelt(Action.DENY, (), (), "blacklist")]
        self._tell_link_local(place, Action.DENY, None, blocks)
        resolved = resolve_blocks(blocks, self.others)
        if resolved.doubtful:
            self._tell_doubt(place, resolved.doubtful, Action.DENY)
        return [Spelt(Action.DENY, peers, (), "blacklist")] if (peers := resolved.for_action(Action.DENY)) else []

    def _last(self, side: str) -> Spelt:
        options = self.guest.firewall.options if self.guest.firewall else {}
        word, line = options.get(f"policy_{side}", ("", None))
        if word and word.upper() not in ACTIONS and line:
            self.tell.tell(line, f"the policy {word!r} is not known", "what no rule allows is denied")
        action = ACTIONS.get(word.upper(), Action.DENY) if word else (Action.ALLOW if side == "out" else Action.DENY)
        is_logged = options.get(f"log_level_{side}", (NO_LOG, None))[0] != NO_LOG
        return Spelt(action, _ANYONE if action is Action.ALLOW else (), (), "policy", is_logged)

    def _add_options(self, spelt: dict[str, list[Spelt]]) -> None:
        """An option that is not known may drop whatever it likes (an inspection, a list of protocols), unless it is off."""
        for key, (value, line) in (self.guest.firewall.options if self.guest.firewall else {}).items():
            if key in _OWN_WAY:
                self.tell.tell(line, f"the option {key}: {value}", _OWN_WAY[key], Effect.NOTE)
            elif key not in _QUIET and value != "0":
                self.tell.tell(line, f"the option {key} is not known", "the guest is denied everything")
                for side in spelt:
                    spelt[side].insert(0, Spelt(Action.DENY, (), (), "unclear"))

    def _add_forward(self, spelt: dict[str, list[Spelt]]) -> None:
        """What may be dropped on the way is denied here."""
        for closing in self.closings:
            what = "what is forwarded may be dropped by this"
            self.tell.tell(closing.line, what, "the guest is denied everything")
        for side in spelt if self.closings else ():
            spelt[side].insert(0, Spelt(Action.DENY, (), (), "forward"))

    def _add_line(self, line: Line, names: Names, spelt: dict[str, list[Spelt]], *, in_group: bool) -> None:
        try:
            rule = read_rule(line, names)
        except Unclear as unclear:
            self.tell.tell(
                line, str(unclear), "the rule allows nothing" if unclear.allows else "from here on all is denied"
            )
            for side in () if unclear.allows else _sides(line):
                spelt[side].append(Spelt(Action.DENY, (), (), "unclear"))
            return
        if rule is None or (rule.iface and rule.iface != self.card.name):
            return
        if rule.direction == "group":
            self._add_group(rule, spelt, in_group=in_group)
        elif rule.direction == "forward":
            self.tell.tell(line, "a guest forwards nothing", "not carried over", Effect.OMITTED)
        else:
            spelt[rule.direction] += self._spell(rule)

    def _add_group(self, rule: FirewallRule, spelt: dict[str, list[Spelt]], *, in_group: bool) -> None:
        lines = self.cluster.groups.get(rule.group)
        if lines is None or in_group or ("group", rule.group) in self.cluster.twice:
            self.tell.tell(rule.line, f"the group {rule.group!r} is not known here", "from here on all is denied")
            for side in spelt:
                spelt[side].append(Spelt(Action.DENY, (), (), "unclear"))
            return
        for line in lines:
            self._add_line(line, Names(None, self.cluster), spelt, in_group=True)

    def _spell(self, rule: FirewallRule) -> list[Spelt]:
        near, far = (rule.dest, rule.source) if rule.direction == "in" else (rule.source, rule.dest)
        allows = rule.action is Action.ALLOW
        if not all(is_of_ipv4_only(each.ports or ()) for each in rule.matched):
            self._tell_link_local(rule.line, rule.action, near, far)
        if near is not None:
            held = is_held(near, self.own.addresses)
            if held is False:
                self.tell.tell(
                    rule.line, "the guest has no address that the rule is about", "it never matches", Effect.NOTE
                )
                return []
            if held is None:
                means = "the rule allows nothing" if allows else "it denies all of the guest's addresses"
                self.tell.tell(rule.line, "whether the rule is about the guest's addresses is not known", means)
                if allows:
                    return []
        peers = self._peers(far, rule)
        if peers is None:
            return []
        found = []
        for matched in rule.matched:
            if matched.widened:
                means = "the rule does not allow it" if allows else "the rule denies more than that"
                self.tell.tell(rule.line, f"{matched.widened} cannot be named here", means)
                if allows:
                    continue
            found.append(Spelt(rule.action, peers, matched.ports or (), "rule", rule.log))
        return found

    def _peers(self, far: Blocks | None, rule: FirewallRule) -> tuple[Peer, ...] | None:
        if far is None:
            return _ANYONE if rule.action is Action.ALLOW else ()
        resolved = resolve_blocks(far, self.others)
        if resolved.doubtful:
            self._tell_doubt(rule.line, resolved.doubtful, rule.action)
        return resolved.for_action(rule.action) or None

    def _tell_link_local(self, line: Line, action: Action, near: Blocks | None, far: Blocks | None) -> None:
        for gap in find_gaps(action, self.own, near, far, self.others):
            self.tell.tell(line, gap.what, gap.means)
            self.severed.update({self.own.network} if gap.severs else ())

    def _tell_doubt(self, line: Line, names: Sequence[str], action: Action) -> None:
        more = " …" if len(names) > 5 else ""
        means = "they are not allowed by it" if action is Action.ALLOW else "they are denied by it"
        self.tell.tell(line, f"whether it is about guests {', '.join(names[:5])}{more} is not known", means)


def _sides(line: Line) -> Iterable[str]:
    word = line.text.split()[0].lower()
    return (word,) if word in {"in", "out"} else ("in", "out")
