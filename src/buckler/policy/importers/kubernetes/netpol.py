"""NetworkPolicy (networking.k8s.io/v1) → policies of the tenant tier. Owns its defaults; knows no other policy.

A workload that some policy selects for a direction is closed there but for what any of them allows: the allowing
rules of all policies form one level, and a closing denial per policy stands below it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from buckler.model.label import Selector
from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.objects import Item
from buckler.policy.importers.kubernetes.ports import VmLabels, named, read_policy_port
from buckler.policy.importers.kubernetes.rules import SourcePolicy, SourceRule, spell_policy
from buckler.policy.importers.kubernetes.selectors import both, in_namespace, read_selector
from buckler.policy.importers.kubernetes.workloads import Workload
from buckler.policy.importers.naming import document_name, policy_document, rule_name
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, fields, items, prefix, text
from buckler.policy.language import Action, Document, EgressRule, IngressRule, Peer, Tier

ALLOWING, CLOSING = 1000, 2000
_SIDES = {"ingress": ("Ingress", "from"), "egress": ("Egress", "to")}
T = TypeVar("T")
_CLOSED = "the rule is left out: what it alone allows is denied"


def network_policy(
    item: Item, workloads: Sequence[Workload], vms: VmLabels, review: str, book: LossBook
) -> list[Document]:
    """Carry one NetworkPolicy over."""
    reader = _Reader(item, workloads, Teller(book, item.title))
    policy, directions = reader.read()
    words: dict[str, Any] = {"review": review, "tier": Tier.TENANT, "file": item.place.file, "line": item.place.line}
    description = f"What {item.title} allows"
    found = spell_policy(policy, vms, description=description, order=ALLOWING, **words)
    closing = policy_document(
        document_name(f"{policy.name}.closing"),
        subject=policy.subject,
        order=CLOSING,
        description=f"{item.title} selects these workloads: what no policy allows is denied",
        ingress=[IngressRule("closing", Action.DENY)] if "ingress" in directions else [],
        egress=[EgressRule("closing", Action.DENY)] if "egress" in directions else [],
        **words,
    )
    return [*found, closing] if directions else found


class _Reader:
    """Reads one policy and tells what it cannot take over."""

    def __init__(self, item: Item, workloads: Sequence[Workload], tell: Teller) -> None:
        self.item, self.workloads, self.tell = item, workloads, tell
        self.name = f"np.{item.namespace}.{item.name}"

    def read(self) -> tuple[SourcePolicy, set[str]]:
        """Give the policy and the directions that it isolates."""
        mine = in_namespace(self.item.namespace)
        try:
            place = self.item.fields.get("spec", self.item.place)
            spec = (
                fields(place, ("podSelector", "policyTypes", "ingress", "egress")) if "spec" in self.item.fields else {}
            )
            subject = both(mine, self._selector(spec.get("podSelector"), of_namespaces=False))
            rules = {side: items(spec.get(side)) for side in _SIDES}
        except Unclear as unclear:
            means = f"every workload of namespace {self.item.namespace} is closed, and nothing of this policy opens it"
            self.tell.tell_unclear(unclear, means)
            return SourcePolicy(self.name, mine, (), ()), {*_SIDES}
        directions = self._directions(spec.get("policyTypes"), rules)
        read = {side: tuple(self._rules(side, rules[side])) if side in directions else () for side in _SIDES}
        return SourcePolicy(self.name, subject, read["ingress"], read["egress"]), directions

    def _selector(self, place: Place | None, *, of_namespaces: bool) -> Selector:
        return read_selector(place, of_namespaces=of_namespaces) if place is not None else Selector()

    def _directions(self, place: Place | None, rules: dict[str, list[Place]]) -> set[str]:
        """Ingress always and egress if it has rules, unless policyTypes says."""
        try:
            given = [(each, text(each)) for each in items(place)]
            for each, word in given:
                if word not in {"Ingress", "Egress"}:
                    raise Unclear(each, f"the policy type {word!r} is not known")
        except Unclear as unclear:
            self.tell.tell_unclear(unclear, "both directions are closed but for what rules allow")
            return {*_SIDES}
        chosen = {word.lower() for _place, word in given} or {"ingress", *(["egress"] if rules["egress"] else [])}
        for side in _SIDES:
            if side not in chosen and rules[side]:
                what = f"{side} rules stand beside policyTypes without {_SIDES[side][0]}"
                self.tell.tell(rules[side][0], what, "they mean nothing, as in the source", Effect.NOTE)
        return chosen

    def _rules(self, side: str, places: list[Place]) -> list[SourceRule]:
        found = []
        for index, place in enumerate(places, start=1):
            try:
                taken = fields(place, (_SIDES[side][1], "ports"))
                peers = self._each(
                    taken.get(_SIDES[side][1]), self._peer, "the peer is left out: what it allows is denied"
                )
                ports = self._each(taken.get("ports"), read_policy_port, "the port is left out: it stays closed")
            except Unclear as unclear:
                self.tell.tell_unclear(unclear, _CLOSED)
                continue
            if named(ports) and any(each.cidr for each in peers or ()):
                what = "a named port and an ipBlock in one rule"
                self.tell.tell(place, what, "addresses have no named ports: only the workloads match", Effect.NOTE)
            found.append(SourceRule(rule_name(side, str(index)), Action.ALLOW, peers, ports))
        return found

    def _each(self, place: Place | None, take: Callable[[Place], T], means: str) -> tuple[T, ...] | None:
        """Take a list in which nothing means everything; what is unclear in it never makes it empty."""
        found = []
        for each in items(place):
            try:
                found.append(take(each))
            except Unclear as unclear:
                self.tell.tell_unclear(unclear, means)
        return tuple(found) if items(place) else None

    def _peer(self, place: Place) -> Peer:
        taken = fields(place, ("podSelector", "namespaceSelector", "ipBlock"))
        if "ipBlock" in taken:
            if len(taken) > 1:
                raise Unclear(place, "ipBlock stands beside a selector")
            return self._block(taken["ipBlock"])
        if not taken:
            raise Unclear(place, "a peer that names nothing")
        spaces = in_namespace(self.item.namespace)
        if "namespaceSelector" in taken:
            spaces = self._selector(taken["namespaceSelector"], of_namespaces=True)
        return Peer(vm=both(spaces, self._selector(taken.get("podSelector"), of_namespaces=False)))

    def _block(self, place: Place) -> Peer:
        taken = fields(place, ("cidr", "except"))
        if "cidr" not in taken:
            raise Unclear(place, "an ipBlock without cidr")
        block = prefix(taken["cidr"])
        excluded = tuple(prefix(each) for each in items(taken.get("except")))
        whole = ipaddress.ip_network(block)
        for each, part in zip(items(taken.get("except")), excluded, strict=True):
            inner = ipaddress.ip_network(part)
            if inner.version != whole.version or not inner.subnet_of(whole):  # type: ignore[arg-type]  # one version
                raise Unclear(each, f"{part} does not lie in {block}")
        self._tell_covered(taken["cidr"], Peer(cidr=block, excluded=excluded))
        return Peer(cidr=block, excluded=excluded)

    def _tell_covered(self, place: Place, block: Peer) -> None:
        """An ipBlock should be of addresses outside the cluster; whether it covers pods is left to implementations."""
        inside = [each.title for each in self.workloads if any(_covers(block, one) for one in each.addresses)]
        if inside:
            what = f"{block.cidr} covers addresses of {', '.join(inside[:5])}" + (" …" if len(inside) > 5 else "")
            self.tell.tell(place, what, "it is carried over as addresses outside; these workloads are not opened by it")
        elif any(not each.addresses for each in self.workloads) and ipaddress.ip_network(block.cidr).prefixlen == 0:
            what = f"{block.cidr} may cover workloads, whose addresses are not known"
            self.tell.tell(place, what, "it is carried over as addresses outside the cluster", Effect.NOTE)


def _covers(block: Peer, address: str) -> bool:
    def inside(cidr: str) -> bool:
        return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)

    return inside(block.cidr) and not any(inside(each) for each in block.excluded)
