"""What Kubernetes says of a connection, written from the API's documentation on plain dictionaries.

networking.k8s.io/v1 NetworkPolicy; policy.networking.k8s.io v1alpha1 (Admin, Baseline) and v1alpha2 (Cluster).
Shares nothing with the importer. A pod is a dict: namespace, name, labels, ports (list of ContainerPort), ips.
"""

from __future__ import annotations

import ipaddress
from typing import Any

Obj = dict[str, Any]
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def selects(selector: Obj, labels: dict[str, str]) -> bool:
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for each in selector.get("matchExpressions") or []:
        key, values = each["key"], each.get("values") or []
        ok = {
            "In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[each["operator"]]
        if not ok:
            return False
    return True


class Cluster:
    """``spaces``: name → labels. An end of a connection is a pod (dict) or an address outside (str)."""

    def __init__(self, spaces: dict[str, dict[str, str]], pods: list[Obj], policies: list[Obj]) -> None:
        self.spaces = {name: {**labels, "kubernetes.io/metadata.name": name} for name, labels in spaces.items()}
        self.pods, self.policies = pods, policies

    def allows(self, source: Obj | str, target: Obj | str, protocol: str, port: int) -> bool:
        out = isinstance(source, str) or self.side("egress", source, target, target, protocol, port)
        return out and (isinstance(target, str) or self.side("ingress", target, source, target, protocol, port))

    def side(self, way: str, pod: Obj, peer: Obj | str, target: Obj | str, protocol: str, port: int) -> bool:
        verdict = self.cluster_wide("Admin", way, pod, peer, target, protocol, port)
        if verdict in ("Allow", "Deny"):
            return verdict == "Allow"
        isolating = [
            each for each in self.policies if each["kind"] == "NetworkPolicy" and self.isolates(each, way, pod)
        ]
        if isolating:
            return any(self.permits(each, way, peer, target, protocol, port) for each in isolating)
        return self.cluster_wide("Baseline", way, pod, peer, target, protocol, port) != "Deny"

    def isolates(self, policy: Obj, way: str, pod: Obj) -> bool:
        spec = policy["spec"]
        types = spec.get("policyTypes") or ["Ingress"] + (["Egress"] if spec.get("egress") else [])
        if way.capitalize() not in types or policy["metadata"]["namespace"] != pod["namespace"]:
            return False
        return selects(spec.get("podSelector") or {}, pod["labels"])

    def permits(self, policy: Obj, way: str, peer: Obj | str, target: Obj | str, protocol: str, port: int) -> bool:
        for rule in policy["spec"].get(way) or []:
            peers = rule.get("from" if way == "ingress" else "to") or []
            ports = rule.get("ports") or []
            if peers and not any(self.is_peer(each, policy["metadata"]["namespace"], peer) for each in peers):
                continue
            if ports and not any(self.is_port(each, target, protocol, port) for each in ports):
                continue
            return True
        return False

    def is_peer(self, peer: Obj, namespace: str, end: Obj | str) -> bool:
        if peer.get("ipBlock") is not None:
            if not isinstance(end, str):
                return False  # blocks are of addresses outside the cluster
            block = peer["ipBlock"]
            return within(end, block["cidr"]) and not any(within(end, each) for each in block.get("except") or [])
        if isinstance(end, str):
            return False
        spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
        if spaces is None:
            if end["namespace"] != namespace:
                return False
        elif not selects(spaces, self.spaces[end["namespace"]]):
            return False
        return pods is None or selects(pods, end["labels"])

    def is_port(self, port: Obj, target: Obj | str, protocol: str, number: int) -> bool:
        if port.get("protocol", "TCP") != protocol:
            return False
        wanted = port.get("port")
        if wanted is None:
            return True
        if isinstance(wanted, str):
            return number in numbers_of(target, wanted, protocol)
        return wanted <= number <= port.get("endPort", wanted)

    def cluster_wide(
        self, tier: str, way: str, pod: Obj, peer: Obj | str, target: Obj | str, protocol: str, port: int
    ) -> str:
        """Give the action of the first rule that matches, by priority; pass and no match are nothing."""
        mine = [each for each in self.policies if place(each) and place(each)[0] == tier]
        for policy in sorted(mine, key=lambda each: place(each)[1]):
            spec = policy["spec"]
            if not self.in_scope(spec["subject"], pod):
                continue
            for rule in spec.get(way) or []:
                if not any(self.is_wide_peer(each, peer) for each in rule["from" if way == "ingress" else "to"]):
                    continue
                ports = rule.get("ports") if "ports" in rule else rule.get("protocols")
                if ports is not None and not any(is_wide_port(each, target, protocol, port) for each in ports):
                    continue
                if rule["action"] == "Pass" and any(place(each) == ("Baseline", 2000) for each in mine):
                    return "Deny"  # whether that passes the baseline policy nobody says: the stricter is asked for
                return {"Accept": "Allow"}.get(rule["action"], rule["action"])
        return ""

    def in_scope(self, scope: Obj, pod: Obj) -> bool:
        labels = self.spaces[pod["namespace"]]
        if scope.get("namespaces") is not None:
            return selects(scope["namespaces"], labels)
        return selects(scope["pods"].get("namespaceSelector") or {}, labels) and selects(
            scope["pods"].get("podSelector") or {}, pod["labels"]
        )

    def is_wide_peer(self, peer: Obj, end: Obj | str) -> bool:
        if peer.get("networks") is not None:
            addresses = [end] if isinstance(end, str) else end["ips"]
            return any(within(address, each) for address in addresses for each in peer["networks"])
        return not isinstance(end, str) and self.in_scope(peer, end)


def place(policy: Obj) -> tuple[str, int] | None:
    kind, spec = policy["kind"], policy["spec"]
    if kind == "AdminNetworkPolicy":
        return "Admin", spec["priority"]
    if kind == "ClusterNetworkPolicy":
        return spec["tier"], spec["priority"]
    return ("Baseline", 2000) if kind == "BaselineAdminNetworkPolicy" else None


def is_wide_port(port: Obj, target: Obj | str, protocol: str, number: int) -> bool:
    if "namedPort" in port or "destinationNamedPort" in port:
        name = port.get("namedPort") or port["destinationNamedPort"]
        return number in numbers_of(target, name, protocol)
    if "portNumber" in port:
        return port["portNumber"].get("protocol", "TCP") == protocol and port["portNumber"]["port"] == number
    if "portRange" in port:
        span = port["portRange"]
        return span.get("protocol", "TCP") == protocol and span["start"] <= number <= span["end"]
    inner = port.get(protocol.lower())
    if inner is None:
        return False
    wanted = inner["destinationPort"]
    return (
        wanted["number"] == number
        if "number" in wanted
        else wanted["range"]["start"] <= number <= wanted["range"]["end"]
    )


def numbers_of(target: Obj | str, name: str, protocol: str) -> list[int]:
    if isinstance(target, str):
        return []
    return [
        each["containerPort"]
        for each in target["ports"]
        if each.get("name") == name and each.get("protocol", "TCP") == protocol
    ]


def within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
