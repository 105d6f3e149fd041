"""Addresses in the rules of administrators: of nodes, of networks, and which workloads have them. Owns no rule.

Their ``networks`` mean traffic within the cluster too, so here they are resolved to workloads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from buckler.model.label import LABEL_NAME, Expression, Operator, Selector
from buckler.policy.field import Place
from buckler.policy.importers.addressed import Blocks
from buckler.policy.importers.kubernetes.objects import Item
from buckler.policy.importers.kubernetes.selectors import namespace_key, read_selector
from buckler.policy.importers.kubernetes.workloads import Workload
from buckler.policy.importers.linklocal import holds_link_local
from buckler.policy.importers.naming import document_name
from buckler.policy.importers.outcome import Effect
from buckler.policy.importers.unclear import Teller, Unclear, items, mapping, text
from buckler.policy.language import Action, Peer

Networks = list[ipaddress.IPv4Network | ipaddress.IPv6Network]
_INWARD = [
    ipaddress.ip_network(each)
    for each in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
"""Where addresses of pods are, when nobody says."""


class Outside:
    """What the input says of addresses."""

    def __init__(self, nodes: Sequence[Item], workloads: Sequence[Workload]) -> None:
        self._nodes, self._workloads = nodes, workloads
        known = {ipaddress.ip_address(one).version for each in workloads for one in each.addresses}
        self._families = known or {4}
        self.severs = False
        """Whether workloads are named whole by addresses that are not link-local ones, or the other way round."""

    def networks(
        self, cidrs: tuple[str, ...], place: Place, action: Action, tell: Teller
    ) -> tuple[tuple[Peer, ...], tuple[Peer, ...]]:
        """Give the peers that are surely in these prefixes, and the workloads that may be."""
        if not cidrs:
            raise Unclear(place, "networks without a prefix")
        outside = tuple(Peer(cidr=each) for each in cidrs)
        blocks: Networks = [ipaddress.ip_network(each) for each in cidrs]
        inside = [each for each in self._workloads if self._is_within(each, blocks) is True]
        unsure = [each for each in self._workloads if self._is_within(each, blocks) is None]
        if unsure:
            names = ", ".join(each.title for each in unsure[:5]) + (" …" if len(unsure) > 5 else "")
            means = "not allowed by this rule" if action is Action.ALLOW else "denied by it"
            tell.tell(place, f"whether {', '.join(cidrs)} covers {names} is not known", f"these workloads are {means}")
        elif not inside and any(not each.addresses for each in self._workloads):
            tell.tell(
                place, "addresses of workloads are not known", "they count as outside these prefixes", Effect.NOTE
            )
        held = holds_link_local(Blocks(cidrs))
        if (inside and held is not True) or (held is not False and len(inside) < len(self._workloads)):
            self.severs = True
            means = "here workloads have none, as the API knows no addresses of pods but those in their status"
            tell.tell(place, "the prefixes differ on IPv6 link-local addresses of workloads", means, Effect.NOTE)
        return (*outside, *self._named(inside)), self._named(unsure)

    def nodes(self, place: Place) -> tuple[Peer, ...]:
        """Give the addresses of the nodes that a selector means (core/v1 NodeAddress)."""
        selector = read_selector(place, of_namespaces=True)
        if not self._nodes:
            raise Unclear(place, "no Node is in the input, so the addresses of nodes are not known")
        found: dict[str, None] = {}
        for item in self._nodes:
            labels = {namespace_key(key): text(value, "") for key, value in _labels(item).items()}
            if not selector.matches(labels):
                continue
            status = mapping(item.fields["status"]) if "status" in item.fields else {}
            for each in items(status.get("addresses")):
                fields = mapping(each)
                if text(fields.get("type"), "") in {"InternalIP", "ExternalIP"}:
                    found.setdefault(_host(fields.get("address"), each))
        return tuple(Peer(cidr=each) for each in found)

    def _is_within(self, workload: Workload, blocks: Networks) -> bool | None:
        """Say whether a workload's addresses are in the prefixes; None: some, or nobody knows."""
        if not workload.addresses:
            whole = {each.version for each in blocks if each.prefixlen == 0}
            if whole >= self._families:
                return True
            return None if any(self._may_hold_pods(each) for each in blocks) else False
        covered = {any(_inside(one, each) for each in blocks) for one in workload.addresses}
        if workload.replicas > len(workload.addresses):
            covered.add(False)
        return covered.pop() if len(covered) == 1 else None

    def _may_hold_pods(self, block: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
        if block.version not in self._families:
            return False
        return any(block.version == each.version and block.overlaps(each) for each in _INWARD)

    def _named(self, workloads: Sequence[Workload]) -> tuple[Peer, ...]:
        if not workloads:
            return ()
        if len(workloads) == len(self._workloads):
            return (Peer(vm=Selector()),)
        names = tuple(document_name(each.namespace, each.name) for each in workloads)
        return (Peer(vm=Selector(match_expressions=(Expression(LABEL_NAME, Operator.IN, names),))),)


def _labels(item: Item) -> dict[str, Place]:
    return mapping(item.metadata["labels"]) if "labels" in item.metadata else {}


def _inside(address: str, block: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return ipaddress.ip_address(address) in block


def _host(place: Place | None, node: Place) -> str:
    try:
        return str(ipaddress.ip_network(text(place, "")))
    except ValueError:
        raise Unclear(node, "a node's address cannot be read") from None
