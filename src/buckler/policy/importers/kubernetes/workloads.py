"""Pods and what controls them → one workload each: labels, named ports, addresses. Owns no policy.

A workload is named after the resource at the top of its chain of controllers (meta/v1 OwnerReference, ``controller``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.objects import TEMPLATED, Item, Objects
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, flag, items, mapping, number, text

PROTOCOLS = ("TCP", "UDP", "SCTP")
NamedPort = tuple[str, str]
"""A port's name and its protocol."""


class Workload(msgspec.Struct, frozen=True):
    """What becomes one VM. A port's name has one number, unless the source is unclear about it."""

    namespace: str
    name: str
    kind: str
    labels: dict[str, str]
    ports: dict[NamedPort, tuple[int, ...]]
    addresses: tuple[str, ...]
    replicas: int
    item: Item

    @property
    def title(self) -> str:
        """Name it for a person, and as ``reach`` does."""
        return f"{self.namespace}/{self.name}"


class WordsInUse(msgspec.Struct, frozen=True):
    """The label keys and port names that any policy writes anywhere; more than it means is no harm."""

    labels: frozenset[str]
    spaces: frozenset[str]
    """Of them those of namespaces, but for their name's."""
    lacking: frozenset[str]
    """Of these the ones by whose lack something more may be allowed: a rule denies, or asks that there be none."""
    ports: frozenset[str]


class _Body(msgspec.Struct, frozen=True):
    """What a pod, or the template of pods, says."""

    labels: dict[str, str]
    ports: dict[NamedPort, tuple[int, ...]]
    on_host_network: bool


def list_workloads(objects: Objects, words: WordsInUse, book: LossBook) -> tuple[Workload, ...]:
    """List all workloads. Only in words that policies use may the pods of one workload not differ."""
    controllers = {
        (each.kind, each.namespace, each.name): each for kind in TEMPLATED for each in objects.known.get(kind, [])
    }
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in [*controllers.values(), *objects.known.get("Pod", [])]:
        groups.setdefault(_top(item, controllers), []).append(item)
    found: dict[tuple[str, str], Workload] = {}
    for key, members in sorted(groups.items()):
        for workload in _workloads(key, members, controllers.get(key), words, book):
            place = (workload.namespace, workload.name)
            if place in found:
                workload = _renamed(workload, found, book)
            found[workload.namespace, workload.name] = workload
    return tuple(found[place] for place in sorted(found))


def _renamed(workload: Workload, found: Mapping[tuple[str, str], Workload], book: LossBook) -> Workload:
    """Two kinds of resource may have one name in a namespace; a VM's name is one."""
    name = f"{workload.name}-{workload.kind.lower()}"
    while (workload.namespace, name) in found:
        name += "-x"
    what = f"{workload.namespace} has another workload named {workload.name}"
    Teller(book, workload.item.title).tell(workload.item.place, what, f"here it is {name}", Effect.NOTE)
    return msgspec.structs.replace(workload, name=name)


def _top(item: Item, controllers: Mapping[tuple[str, str, str], Item]) -> tuple[str, str, str]:
    """Climb to the topmost controller, known or only named; a ring of owners ends where it began."""
    key = (item.kind, item.namespace, item.name)
    seen = {key}
    current: Item | None = item
    while current is not None:
        owner = _controller(current)
        if owner is None:
            return _deployment_of(current, key, controllers)
        key = (owner[0], item.namespace, owner[1])
        if key in seen:
            return key
        seen.add(key)
        known = controllers.get(key)
        if known is None:
            return _deployment_of(current, key, controllers)
        current = known
    return key


def _deployment_of(
    member: Item, key: tuple[str, str, str], controllers: Mapping[tuple[str, str, str], Item]
) -> tuple[str, str, str]:
    """A ReplicaSet that ends in its pods' template hash was made by the Deployment before the hash."""
    kind, namespace, name = key
    if kind != "ReplicaSet" or key in controllers:
        return key
    made = mapping(member.metadata["labels"]).get("pod-template-hash") if "labels" in member.metadata else None
    ending = f"-{made.raw.value}" if made is not None else "-"
    return ("Deployment", namespace, name.removesuffix(ending)) if len(ending) > 1 and name.endswith(ending) else key


def _controller(item: Item) -> tuple[str, str] | None:
    for each in items(item.metadata.get("ownerReferences")):
        fields = mapping(each)
        if flag(fields.get("controller"), default=len(items(item.metadata.get("ownerReferences"))) == 1):
            kind, name = text(fields.get("kind"), ""), text(fields.get("name"), "")
            if kind and name and kind != "Node":
                return kind, name
    return None


def _workloads(
    key: tuple[str, str, str], members: list[Item], controller: Item | None, words: WordsInUse, book: LossBook
) -> Iterable[Workload]:
    """Make the workload of one controller, and one more for each pod that policies would tell apart from it."""
    kind, namespace, name = key
    pods = [each for each in members if each.kind == "Pod" and _is_alive(each, book)]
    first = controller or next((each for each in members if each.kind != "Pod"), None) or next(iter(pods), None)
    if first is None:
        return
    body = _body_or_lost(first, book)
    if body is None:
        return
    alike = []
    for pod in pods:
        own = body if pod is first else _body_or_lost(pod, book)
        if own is None:
            continue
        if _looks_alike(body, own, words):
            alike.append(pod)
            continue
        Teller(book, pod.title).tell(
            pod.place,
            f"differs from {kind} {namespace}/{name} in labels or ports that policies look at",
            "a VM of its own, named after the pod",
            Effect.OMITTED,
        )
        if not own.on_host_network:
            yield Workload(namespace, pod.name, "Pod", own.labels, own.ports, _addresses(pod, book), 1, pod)
    if not body.on_host_network:
        addresses = tuple(dict.fromkeys(address for pod in alike for address in _addresses(pod, book)))
        yield Workload(namespace, name, kind, body.labels, body.ports, addresses, len(alike), first)


def _looks_alike(one: _Body, other: _Body, words: WordsInUse) -> bool:
    def seen(body: _Body) -> tuple[object, ...]:
        labels = {key: value for key, value in body.labels.items() if key in words.labels}
        ports = {key: value for key, value in body.ports.items() if key[0] in words.ports}
        return labels, ports, body.on_host_network

    return seen(one) == seen(other)


def _is_alive(pod: Item, book: LossBook) -> bool:
    status = mapping(pod.fields["status"]) if "status" in pod.fields else {}
    phase = text(status.get("phase"), "")
    if phase in {"Succeeded", "Failed"}:
        Teller(book, pod.title).tell(pod.place, f"its phase is {phase}", "left out: it speaks no more", Effect.NOTE)
        return False
    return True


def _body_or_lost(item: Item, book: LossBook) -> _Body | None:
    tell = Teller(book, item.title)
    try:
        body = _body(item)
    except Unclear as unclear:
        tell.tell(unclear.place, unclear.what, "the workload is left out, so nothing is allowed to it", Effect.OMITTED)
        return None
    if body.on_host_network:
        means = "left out: it speaks with its node's addresses, and policies do not bind it"
        tell.tell(item.place, "hostNetwork is true", means, Effect.OMITTED)
    return body


def _body(item: Item) -> _Body:
    path = {"Pod": (), "CronJob": ("spec", "jobTemplate", "spec", "template")}.get(item.kind, ("spec", "template"))
    fields = item.fields
    for step in path:
        if step not in fields:
            raise Unclear(item.place, f"{'.'.join(path)} is missing")
        fields = mapping(fields[step])
    metadata = mapping(fields["metadata"]) if "metadata" in fields else {}
    labels = (
        {key: text(value, "") for key, value in mapping(metadata["labels"]).items()} if "labels" in metadata else {}
    )
    spec = mapping(fields["spec"]) if "spec" in fields else {}
    sidecars = [each for each in items(spec.get("initContainers")) if _stays(each)]
    return _Body(labels, _ports([*items(spec.get("containers")), *sidecars]), flag(spec.get("hostNetwork")))


def _stays(container: Place) -> bool:
    """Say whether an init container runs as long as the pod (core/v1 Container, ``restartPolicy``)."""
    return text(mapping(container).get("restartPolicy"), "") == "Always"


def _ports(containers: list[Place]) -> dict[NamedPort, tuple[int, ...]]:
    """Find the numbers of each named port (core/v1 ContainerPort)."""
    found: dict[NamedPort, tuple[int, ...]] = {}
    for container in containers:
        for port in items(mapping(container).get("ports")):
            fields = mapping(port)
            name, protocol = text(fields.get("name"), ""), text(fields.get("protocol"), "TCP")
            if not name or protocol not in PROTOCOLS or "containerPort" not in fields:
                continue
            value = number(fields["containerPort"], 1, 65535)
            known = found.get((name, protocol), ())
            found[name, protocol] = known if value in known else tuple(sorted((*known, value)))
    return found


def _addresses(pod: Item, book: LossBook) -> tuple[str, ...]:
    status = mapping(pod.fields["status"]) if "status" in pod.fields else {}
    given = [status["podIP"]] if "podIP" in status else []
    given += [mapping(each)["ip"] for each in items(status.get("podIPs")) if "ip" in mapping(each)]
    found: dict[str, None] = {}
    for place in given:
        try:
            found.setdefault(str(ipaddress.ip_address(text(place, ""))))
        except ValueError:
            Teller(book, pod.title).tell(place, "is no address", "the pod's address counts as not known", Effect.NOTE)
    return tuple(found)
