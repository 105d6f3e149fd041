"""Files → the objects of a cluster, by kind; Lists taken apart. Owns which kinds matter, not what they say."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.kinds import Bearing, bearing_of, is_bounded_kind
from buckler.policy.importers.outcome import Effect, LossBook
from buckler.policy.importers.unclear import Teller, Unclear, items, mapping, root, text
from buckler.policy.problem import Problem
from buckler.policy.source import Source, read_source

TEMPLATED = {
    "Deployment": ("apps/v1", "apps/v1beta1", "apps/v1beta2", "extensions/v1beta1"),
    "ReplicaSet": ("apps/v1", "apps/v1beta2", "extensions/v1beta1"),
    "StatefulSet": ("apps/v1", "apps/v1beta1", "apps/v1beta2"),
    "DaemonSet": ("apps/v1", "apps/v1beta2", "extensions/v1beta1"),
    "ReplicationController": ("v1",),
    "Job": ("batch/v1",),
    "CronJob": ("batch/v1", "batch/v1beta1"),
}
READ = {
    "Namespace": ("v1",),
    "Node": ("v1",),
    "Pod": ("v1",),
    "NetworkPolicy": ("networking.k8s.io/v1", "extensions/v1beta1"),
    "AdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "BaselineAdminNetworkPolicy": ("policy.networking.k8s.io/v1alpha1",),
    "ClusterNetworkPolicy": ("policy.networking.k8s.io/v1alpha2",),
    **TEMPLATED,
}
_CLUSTER_WIDE = {"Namespace", "Node", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy"}


class Item(msgspec.Struct, frozen=True):
    """One object. ``namespace`` is empty for cluster-wide ones."""

    kind: str
    version: str
    name: str
    namespace: str
    place: Place
    fields: dict[str, Place]
    metadata: dict[str, Place]

    @property
    def title(self) -> str:
        """Name it for a person."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Objects(msgspec.Struct, frozen=True):
    """``known`` by kind; ``closing``: policies that cannot be read, whose reach is denied."""

    known: dict[str, list[Item]]
    closing: list[Item]


def read_objects(sources: Iterable[Source], book: LossBook) -> tuple[Objects, list[Problem]]:
    """Read all files. A file that is no YAML, or an object without kind or name, is a problem: nothing may be written."""
    found, problems = Objects({}, []), []
    for source in sources:
        raws, noted = read_source(source)
        problems += noted
        for raw in raws:
            try:
                for place, kind, version in _unlisted(root(raw, source.name)):
                    if kind:
                        _sort_in(_item(place, kind, version), found, book)
                    else:
                        what, means = "this is no object: it has no kind", "nothing of it is carried over"
                        Teller(book, source.name).tell(place, what, means, Effect.OMITTED)
            except Unclear as unclear:
                problems.append(Problem(source.name, unclear.place.line, unclear.place.path, unclear.what))
    problems += _twice(found)
    if not problems and not found.known:
        problems = [Problem("", 0, "", "no object of a cluster that this version reads is in the input")]
    return found, problems


def _unlisted(place: Place) -> Iterable[tuple[Place, str, str]]:
    """Take Lists apart; the items of a typed list may leave out what they are."""
    fields = mapping(place)
    kind = text(fields.get("kind"), "")
    version = text(fields.get("apiVersion"), "")
    if "items" in fields and kind.endswith("List"):
        for inner in items(fields["items"]):
            for each, inner_kind, inner_version in _unlisted(inner):
                yield each, inner_kind or kind.removesuffix("List"), inner_version or version
    else:
        yield place, kind, version


def _item(place: Place, kind: str, version: str) -> Item:
    fields = mapping(place)
    metadata = mapping(fields["metadata"]) if "metadata" in fields else {}
    name = text(metadata.get("name"), "") or text(metadata.get("generateName"), "")
    namespace = "" if kind in _CLUSTER_WIDE else text(metadata.get("namespace"), "") or "default"
    if not name and kind in READ:
        raise Unclear(place, f"a {kind} without a name")
    return Item(kind, version, name, namespace, place, fields, metadata)


def _sort_in(item: Item, found: Objects, book: LossBook) -> None:
    tell = Teller(book, item.title)
    if item.kind in READ and item.version in READ[item.kind]:
        found.known.setdefault(item.kind, []).append(item)
        return
    bearing = bearing_of(item.version.rpartition("/")[0], item.kind)
    if bearing is Bearing.MAY_DENY:
        reach = f"every workload of namespace {item.namespace}" if is_bounded(item) else "every workload"
        means = f"it may be a policy: {reach} is denied everything; leave it out of the input if it is none"
        tell.tell(item.place, f"{item.version or 'no version'} {item.kind} is not understood", means)
        found.closing.append(item)
    elif bearing is Bearing.OTHER:
        what = f"{item.version or 'no version'} {item.kind} is not known"
        means = "left out: it is not about traffic, but a workload in it is not carried over"
        tell.tell(item.place, what, means, Effect.OMITTED)


def is_bounded(item: Item) -> bool:
    """Say whether something that is not understood binds its own namespace only."""
    return "namespace" in item.metadata and is_bounded_kind(item.version.rpartition("/")[0], item.kind)


def _twice(found: Objects) -> Iterable[Problem]:
    for group in found.known.values():
        seen: dict[tuple[str, str], Item] = {}
        for item in group:
            first = seen.setdefault((item.namespace, item.name), item)
            if first is not item and "name" in item.metadata:
                where = f"first in {first.place.file} line {first.place.line}"
                yield Problem(item.place.file, item.place.line, "metadata.name", f"{item.title} is given twice", where)
