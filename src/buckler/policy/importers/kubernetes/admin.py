"""AdminNetworkPolicy, BaselineAdminNetworkPolicy (v1alpha1), ClusterNetworkPolicy (v1alpha2) → security and baseline tier.

Owns their fields and the published way to fail closed: what is unclear in a rule that allows matches nothing, in one
that denies or passes it makes the rule deny everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from buckler.model.label import Selector
from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.objects import Item
from buckler.policy.importers.kubernetes.outside import Outside
from buckler.policy.importers.kubernetes.ports import AnyPort, named, read_admin_port, read_cluster_protocol
from buckler.policy.importers.kubernetes.rules import SourcePolicy, SourceRule
from buckler.policy.importers.kubernetes.selectors import both, read_selector
from buckler.policy.importers.naming import rule_name
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, fields, items, need, number, one_of, prefix, text
from buckler.policy.language import Action, Peer, Tier

T = TypeVar("T")
BASELINE_ORDER = 2000
"""Of the one BaselineAdminNetworkPolicy: behind every ClusterNetworkPolicy of the baseline tier."""
_SIDES = {"ingress": "from", "egress": "to"}
_ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_DENIED = "the rule denies everything to and from everyone"
_UNMATCHED = "the rule does not allow it"


class _Form(msgspec.Struct, frozen=True):
    """What differs between the kinds."""

    actions: dict[str, Action]
    ports: str
    read_port: Callable[[Place], AnyPort]


_FORMS = {
    "AdminNetworkPolicy": _Form(_ACTIONS, "ports", read_admin_port),
    "BaselineAdminNetworkPolicy": _Form({"Allow": Action.ALLOW, "Deny": Action.DENY}, "ports", read_admin_port),
    "ClusterNetworkPolicy": _Form(
        {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}, "protocols", read_cluster_protocol
    ),
}
_SHORT = {"AdminNetworkPolicy": "anp", "BaselineAdminNetworkPolicy": "banp", "ClusterNetworkPolicy": "cnp"}


class AdminPolicy(msgspec.Struct, frozen=True):
    """One policy as read, and where it stands."""

    item: Item
    tier: Tier
    order: int
    policy: SourcePolicy


def read_admin_policy(item: Item, outside: Outside, book: LossBook) -> AdminPolicy:
    """Read one policy. One whose head is unclear denies everything, first."""
    tell = Teller(book, item.title)
    name = f"{_SHORT[item.kind]}.{item.name}"
    try:
        return _Reader(item, name, outside, tell).read()
    except Unclear as unclear:
        tell.tell_unclear(unclear, "every workload is denied everything")
        closed = SourceRule("unclear", Action.DENY)
        return AdminPolicy(item, Tier.SECURITY, 0, SourcePolicy(name, Selector(), (closed,), (closed,)))


class _Reader:
    """Reads one policy and tells what it cannot take over."""

    def __init__(self, item: Item, name: str, outside: Outside, tell: Teller) -> None:
        self.item, self.name, self.outside, self.tell = item, name, outside, tell
        self.form = _FORMS[item.kind]

    def read(self) -> AdminPolicy:
        place = need(self.item.fields, "spec", self.item.place)
        known = {"subject", "ingress", "egress"}
        if self.item.kind != "BaselineAdminNetworkPolicy":
            known.add("priority")
        if self.item.kind == "ClusterNetworkPolicy":
            known.add("tier")
        spec = fields(place, known)
        tier, order = self._standing(spec, place)
        subject = self._subject(need(spec, "subject", place))
        rules = {side: tuple(self._rules(side, items(spec.get(side)))) for side in _SIDES}
        return AdminPolicy(self.item, tier, order, SourcePolicy(self.name, subject, rules["ingress"], rules["egress"]))

    def _standing(self, spec: dict[str, Place], place: Place) -> tuple[Tier, int]:
        if self.item.kind == "BaselineAdminNetworkPolicy":
            return Tier.BASELINE, BASELINE_ORDER
        order = number(need(spec, "priority", place), 0, 1000)
        if self.item.kind == "AdminNetworkPolicy":
            return Tier.SECURITY, order
        word = need(spec, "tier", place)
        if text(word) not in {"Admin", "Baseline"}:
            raise Unclear(word, f"the tier {text(word)!r} is not known")
        return (Tier.SECURITY if text(word) == "Admin" else Tier.BASELINE), order

    def _subject(self, place: Place) -> Selector:
        taken = fields(place, ("namespaces", "pods"))
        kind = one_of(taken, ("namespaces", "pods"), place)
        return self._namespaces(taken[kind]) if kind == "namespaces" else self._pods(taken[kind])

    def _namespaces(self, place: Place) -> Selector:
        return read_selector(place, of_namespaces=True)

    def _pods(self, place: Place) -> Selector:
        taken = fields(place, ("namespaceSelector", "podSelector"))
        spaces = (
            read_selector(taken["namespaceSelector"], of_namespaces=True)
            if "namespaceSelector" in taken
            else Selector()
        )
        pods = read_selector(taken["podSelector"], of_namespaces=False) if "podSelector" in taken else Selector()
        return both(spaces, pods)

    def _rules(self, side: str, places: list[Place]) -> list[SourceRule]:
        found: list[SourceRule] = []
        for index, place in enumerate(places, start=1):
            name = rule_name(side, str(index))
            try:
                taken = fields(place, ("name", "action", _SIDES[side], self.form.ports))
                word = need(taken, "action", place)
                if text(word) not in self.form.actions:
                    raise Unclear(word, f"the action {text(word)!r} is not known")
                action = self.form.actions[text(word)]
            except Unclear as unclear:
                allows = _allows(place)
                self.tell.tell_unclear(unclear, "the rule allows nothing" if allows else _DENIED)
                found += [] if allows else [SourceRule(name, Action.DENY)]
                continue
            found += self._rule(name, side, place, action, taken)
        return found

    def _rule(self, name: str, side: str, place: Place, action: Action, taken: dict[str, Place]) -> list[SourceRule]:
        allows = action is Action.ALLOW
        try:
            peers_at = need(taken, _SIDES[side], place)
            peers = self._each(peers_at, lambda each: self._peers(each, side, action), allows)
            ports = self._each(taken[self.form.ports], self._port, allows) if self.form.ports in taken else None
        except Unclear as unclear:
            self.tell.tell_unclear(unclear, "the rule allows nothing" if allows else _DENIED)
            return [] if allows else [SourceRule(name, Action.DENY)]
        sure = tuple(peer for group, _doubt in peers for peer in group)
        doubt = tuple(peer for _group, group in peers for peer in group)
        if named(ports) and any(each.cidr for each in sure):
            self.tell.tell(place, "a named port and addresses in one rule", "only workloads match", Effect.NOTE)
        unsure = [SourceRule(rule_name(name, "unclear"), Action.DENY, doubt, ports)] if doubt and not allows else []
        return [*unsure, SourceRule(name, action, sure, ports)]

    def _port(self, place: Place) -> AnyPort:
        return self.form.read_port(place)

    def _each(self, place: Place, take: Callable[[Place], T], allows: bool) -> tuple[T, ...]:
        """Take a list of alternatives; in a rule that allows, an unclear one is left out."""
        places = items(place)
        if not places:
            raise Unclear(place, "a list without items")
        found = []
        for each in places:
            try:
                found.append(take(each))
            except Unclear as unclear:
                if not allows:
                    raise
                self.tell.tell_unclear(unclear, _UNMATCHED)
        return tuple(found)

    def _peers(self, place: Place, side: str, action: Action) -> tuple[tuple[Peer, ...], tuple[Peer, ...]]:
        """Give what one peer surely means, and what it may mean beside."""
        outward = ("nodes", "networks", "domainNames") if side == "egress" else ()
        taken = fields(place, ("namespaces", "pods", *outward))
        kind = one_of(taken, ("namespaces", "pods", *outward), place)
        if kind == "namespaces":
            return (Peer(vm=self._namespaces(taken[kind])),), ()
        if kind == "pods":
            return (Peer(vm=self._pods(taken[kind])),), ()
        if kind == "networks":
            cidrs = tuple(prefix(each) for each in items(taken[kind]))
            return self.outside.networks(cidrs, taken[kind], action, self.tell)
        if kind == "nodes":
            return self.outside.nodes(taken[kind]), ()
        raise Unclear(taken[kind], "names of domains are not carried over")


def _allows(place: Place) -> bool:
    """Say whether a rule that cannot be read says at least that it allows."""
    value = place.raw.value
    word = value["action"].value if isinstance(value, dict) and "action" in value else None
    return isinstance(word, str) and word in {"Allow", "Accept"}


def settle_passes(policies: Sequence[AdminPolicy], book: LossBook) -> list[AdminPolicy]:
    """Settle what a pass means in the baseline tier. Behind it stands only that everything else is open: it allows.

    No specification says whether it passes a BaselineAdminNetworkPolicy too: beside one it denies.
    """
    beside = next((each for each in policies if each.order == BASELINE_ORDER), None)
    settled = []
    for one in policies:
        rules = (*one.policy.ingress, *one.policy.egress)
        if one.tier is not Tier.BASELINE or not any(rule.action is Action.PASS for rule in rules):
            settled.append(one)
            continue
        if beside is not None:
            what = f"whether Pass in the tier Baseline passes {beside.item.title} is not defined"
            Teller(book, one.item.title).tell(one.item.place, what, "such rules deny")
        settled.append(_with_actions(one, {Action.PASS: Action.DENY if beside else Action.ALLOW}))
    return settled


def settle_equals(
    policies: Sequence[AdminPolicy], chosen: Sequence[dict[str, str]], book: LossBook
) -> list[AdminPolicy]:
    """Tell where policies of one tier and priority meet at a workload: which of them is asked first is not defined.

    Of one level the strictest verdict holds. A pass may be stricter than an allowance and would be beaten by it, so
    there an allowance becomes a pass.
    """
    settled = []
    for one in policies:
        rivals = [each for each in policies if each is not one and (each.tier, each.order) == (one.tier, one.order)]
        meeting = [each for each in rivals if _meet(one, each, chosen)]
        if not meeting:
            settled.append(one)
            continue
        names = ", ".join(each.item.title for each in meeting)
        passes = any(
            rule.action is Action.PASS for each in meeting for rule in (*each.policy.ingress, *each.policy.egress)
        )
        means = "where both match the stricter holds" + ("; its allowances leave it to the next tier" if passes else "")
        tell = Teller(book, one.item.title)
        tell.tell(one.item.place, f"{names} has the same priority and selects the same workloads", means)
        settled.append(_with_actions(one, {Action.ALLOW: Action.PASS}) if passes else one)
    return settled


def _meet(one: AdminPolicy, other: AdminPolicy, chosen: Sequence[dict[str, str]]) -> bool:
    sides = (one.policy.ingress and other.policy.ingress) or (one.policy.egress and other.policy.egress)
    return bool(sides) and any(
        one.policy.subject.matches(each) and other.policy.subject.matches(each) for each in chosen
    )


def _with_actions(one: AdminPolicy, spelt: dict[Action, Action]) -> AdminPolicy:
    def respelt(rules: tuple[SourceRule, ...]) -> tuple[SourceRule, ...]:
        return tuple(msgspec.structs.replace(each, action=spelt.get(each.action, each.action)) for each in rules)

    policy = msgspec.structs.replace(one.policy, ingress=respelt(one.policy.ingress), egress=respelt(one.policy.egress))
    return msgspec.structs.replace(one, policy=policy)
