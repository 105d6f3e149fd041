"""Random clusters: objects as `kubectl` would write them, and the pods that they mean."""

from __future__ import annotations

import json
from typing import Any

import yaml

from buckler.policy.source import Source
from tests.randompolicy import Chooser, flag, pick, several

Obj = dict[str, Any]
SPACES = ("red", "blue", "green")
SPACE_KEYS, KEYS, VALUES = ("team", "example.com/env"), ("app", "example.com/role"), ("a", "b", "c")
PORT_NAMES = ("http", "dns", "data")
NUMBERS = (1, 53, 80, 81, 443, 8080, 9000, 65535)
OUTSIDE = ("203.0.113.7", "203.0.113.200", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1")
BLOCKS = {
    "0.0.0.0/0": ["203.0.113.0/24", "10.0.0.0/8"],
    "203.0.113.0/24": ["203.0.113.128/25", "203.0.113.7/32"],
    "198.51.100.0/24": [],
    "::/0": ["2001:db8:1::/48"],
    "2001:db8::/32": ["2001:db8:2::/48"],
}
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController", "CronJob", "Pod")
VERSIONS = {"Job": "batch/v1", "CronJob": "batch/v1", "ReplicationController": "v1", "Pod": "v1"}


def labels(choose: Chooser, keys: tuple[str, ...]) -> dict[str, str]:
    return {key: pick(choose, VALUES) for key in keys if flag(choose)}


def selector(choose: Chooser, keys: tuple[str, ...], spaces: bool = False) -> Obj:
    kind = choose.number(0, 6)
    if kind <= 1:
        return {}
    if kind <= 3:
        return {"matchLabels": {pick(choose, keys): pick(choose, VALUES)}}
    if kind == 4 and spaces:
        return {"matchLabels": {"kubernetes.io/metadata.name": pick(choose, SPACES)}}
    operator = pick(choose, ("In", "NotIn", "Exists", "DoesNotExist"))
    expression: Obj = {"key": pick(choose, keys), "operator": operator}
    if operator in {"In", "NotIn"}:
        expression["values"] = sorted(set(several(choose, 1, 2, lambda c: pick(c, VALUES))))
    return {"matchExpressions": [expression]}


def namespace_selector(choose: Chooser) -> Obj:
    return selector(choose, SPACE_KEYS, spaces=True)


def ports(choose: Chooser) -> list[Obj]:
    names = [name for name in PORT_NAMES if flag(choose)]
    made = []
    for name in names:
        protocols = ["TCP", "UDP"] if flag(choose, 4) else [pick(choose, ("TCP", "UDP", "SCTP"))]
        for protocol in protocols:
            port: Obj = {"name": name, "containerPort": pick(choose, NUMBERS), "protocol": protocol}
            if protocol == "TCP" and flag(choose):
                del port["protocol"]
            made.append(port)
    return made


def workload(choose: Chooser, index: int) -> tuple[list[Obj], Obj]:
    """One workload as objects, and the pod that it means."""
    kind, namespace, name = pick(choose, KINDS), pick(choose, SPACES), f"w{index}"
    pod = {"namespace": namespace, "name": name, "labels": labels(choose, KEYS), "ports": ports(choose), "ips": []}
    pod["ips"] = [f"10.7.0.{index + 10}"]
    cut = choose.number(0, len(pod["ports"]))
    containers = [{"name": "a", "image": "x", "ports": pod["ports"][:cut]}, {"name": "b", "ports": pod["ports"][cut:]}]
    spec_: Obj = {"containers": containers}
    if flag(choose, 3):  # a sidecar, and one that has ended when the pod speaks
        spec_ = {"containers": containers[:1], "initContainers": [{**containers[1], "restartPolicy": "Always"}]}
        spec_["initContainers"].append({"name": "c", "ports": [{"name": pick(choose, PORT_NAMES), "containerPort": 2}]})
    template = {"metadata": {"labels": pod["labels"]}, "spec": spec_}
    meta = {"name": name, "namespace": namespace}
    status = {"phase": "Running", "podIP": pod["ips"][0], "podIPs": [{"ip": pod["ips"][0]}]}
    if kind == "Pod":
        own = {"metadata": {**meta, "labels": pod["labels"]}, "spec": template["spec"], "status": status}
        return [{"apiVersion": "v1", "kind": "Pod", **own}], pod
    spec: Obj = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}
    version = VERSIONS.get(kind, "apps/v1")
    made = [{"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}]
    owner, middle = (kind, name), None
    if kind in {"Deployment", "CronJob"}:
        middle = ("ReplicaSet", f"{name}-5f") if kind == "Deployment" else ("Job", f"{name}-281")
        step = {"name": middle[1], "namespace": namespace, "ownerReferences": [reference(*owner)]}
        made.append({"apiVersion": VERSIONS.get(middle[0], "apps/v1"), "kind": middle[0], "metadata": step})
        made[-1]["spec"] = {"template": template}
        owner = middle
    marks = {"pod-template-hash": "5f", "controller-revision-hash": "xyz"}
    child = {"name": f"{owner[1]}-abcde", "namespace": namespace, "ownerReferences": [reference(*owner)]}
    child["labels"] = {**pod["labels"], **marks}
    made.append({"apiVersion": "v1", "kind": "Pod", "metadata": child, "spec": template["spec"], "status": status})
    return made, pod


def reference(kind: str, name: str) -> Obj:
    return {"apiVersion": VERSIONS.get(kind, "apps/v1"), "kind": kind, "name": name, "uid": "1", "controller": True}


def policy_port(choose: Chooser) -> Obj:
    port: Obj = {"protocol": pick(choose, ("TCP", "UDP", "SCTP"))}
    if port["protocol"] == "TCP" and flag(choose):
        del port["protocol"]
    kind = choose.number(0, 4)
    if kind == 0:
        return port
    if kind == 1:
        return {**port, "port": pick(choose, PORT_NAMES)}
    low, high = sorted((pick(choose, NUMBERS), pick(choose, NUMBERS)))
    return {**port, "port": low, **({"endPort": high} if flag(choose) else {})}


def peer(choose: Chooser) -> Obj:
    kind = choose.number(0, 5)
    if kind <= 1:
        cidr = pick(choose, tuple(BLOCKS))
        return {"ipBlock": {"cidr": cidr, **({"except": BLOCKS[cidr][: choose.number(0, 2)]} if flag(choose) else {})}}
    if kind == 2:
        return {"podSelector": selector(choose, KEYS), **({"namespaceSelector": None} if flag(choose, 4) else {})}
    if kind == 3:
        return {"namespaceSelector": namespace_selector(choose)}
    return {"namespaceSelector": namespace_selector(choose), "podSelector": selector(choose, KEYS)}


def policy_rule(choose: Chooser, word: str) -> Obj:
    rule: Obj = {}
    if flag(choose, 3) is False:
        rule[word] = list(several(choose, 0, 2, peer))
    if flag(choose):
        rule["ports"] = list(several(choose, 0, 2, policy_port))
    return rule


def network_policy(choose: Chooser, index: int) -> Obj:
    spec: Obj = {}
    if flag(choose, 5) is False:
        spec["podSelector"] = pick(choose, (selector(choose, KEYS), selector(choose, KEYS), {}))
    types = pick(choose, (None, [], ["Ingress"], ["Egress"], ["Ingress", "Egress"], ["Egress", "Ingress"]))
    if types is not None:
        spec["policyTypes"] = types
    for side, word in (("ingress", "from"), ("egress", "to")):
        if flag(choose):
            spec[side] = [policy_rule(choose, word) for _ in range(choose.number(0, 2))] or None
    meta = {"name": f"np{index}", "namespace": pick(choose, SPACES)}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def scope(choose: Chooser) -> Obj:
    if flag(choose):
        return {"namespaces": namespace_selector(choose)}
    return {"pods": {"namespaceSelector": namespace_selector(choose), "podSelector": selector(choose, KEYS)}}


def admin_port(choose: Chooser) -> Obj:
    kind, protocol = choose.number(0, 3), pick(choose, ("TCP", "UDP", "SCTP"))
    if kind == 0:
        return {"namedPort": pick(choose, PORT_NAMES)}
    if kind == 1:
        return {"portNumber": {"protocol": protocol, "port": pick(choose, NUMBERS)}}
    low, high = sorted((pick(choose, NUMBERS), pick(choose, NUMBERS)))
    return {"portRange": {"start": low, "end": high, **({} if protocol == "TCP" else {"protocol": protocol})}}


def cluster_protocol(choose: Chooser) -> Obj:
    kind, protocol = choose.number(0, 3), pick(choose, ("tcp", "udp", "sctp"))
    if kind == 0:
        return {"destinationNamedPort": pick(choose, PORT_NAMES)}
    if kind == 1:
        return {protocol: {"destinationPort": {"number": pick(choose, NUMBERS)}}}
    low, high = sorted((pick(choose, NUMBERS), pick(choose, NUMBERS)))
    return {protocol: {"destinationPort": {"range": {"start": low, "end": high}}}}


def admin_rule(choose: Chooser, kind: str, word: str) -> Obj:
    actions = {"ClusterNetworkPolicy": ("Accept", "Deny", "Pass"), "BaselineAdminNetworkPolicy": ("Allow", "Deny")}
    rule: Obj = {"name": "some rule", "action": pick(choose, actions.get(kind, ("Allow", "Deny", "Pass")))}
    rule[word] = [scope(choose) for _ in range(choose.number(1, 2))]
    if word == "to" and flag(choose, 4):
        rule[word].append({"networks": [pick(choose, tuple(BLOCKS)) for _ in range(choose.number(1, 2))]})
    if flag(choose):
        field, make = ("protocols", cluster_protocol) if kind == "ClusterNetworkPolicy" else ("ports", admin_port)
        rule[field] = list(several(choose, 1, 2, make))
    return rule


def admin_policy(choose: Chooser, kind: str, name: str, priority: int) -> Obj:
    spec: Obj = {"subject": scope(choose)}
    version = "v1alpha2" if kind == "ClusterNetworkPolicy" else "v1alpha1"
    if kind != "BaselineAdminNetworkPolicy":
        spec["priority"] = priority
    if kind == "ClusterNetworkPolicy":
        spec["tier"] = pick(choose, ("Admin", "Baseline"))
    for side, word in (("ingress", "from"), ("egress", "to")):
        spec[side] = [admin_rule(choose, kind, word) for _ in range(choose.number(0, 3))]
    meta = {"name": name}
    return {"apiVersion": f"policy.networking.k8s.io/{version}", "kind": kind, "metadata": meta, "spec": spec}


def cluster(choose: Chooser) -> tuple[list[Source], dict[str, dict[str, str]], list[Obj], list[Obj]]:
    """Give files, namespaces with labels, pods and policies."""
    spaces = {name: labels(choose, SPACE_KEYS) for name in SPACES}
    objects: list[Obj] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": own}}
        for name, own in spaces.items()
    ]
    pods = []
    for index in range(choose.number(2, 5)):
        made, pod = workload(choose, index)
        objects += made
        pods.append(pod)
    policies = [network_policy(choose, index) for index in range(choose.number(0, 4))]
    priorities = list(range(choose.number(0, 3)))
    for index in priorities:
        kind = pick(choose, ("AdminNetworkPolicy", "ClusterNetworkPolicy"))
        policies.append(admin_policy(choose, kind, f"wide{index}", 7 * (len(priorities) - index)))
    if flag(choose, 3):
        policies.append(admin_policy(choose, "BaselineAdminNetworkPolicy", "default", 0))
    objects.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": []}})
    return sources(choose, objects + policies), spaces, pods, policies


def sources(choose: Chooser, objects: list[Obj]) -> list[Source]:
    cut = choose.number(0, len(objects))
    one, other = objects[:cut], objects[cut:]
    listed = {"apiVersion": "v1", "kind": "List", "items": other}
    text = json.dumps(listed, indent=1) if flag(choose) else yaml.dump(listed, Dumper=PlainDumper)
    return [Source("one.yaml", yaml.dump_all(one, Dumper=PlainDumper)), Source("two.json", text)]


class PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True
