"""A cluster's files → inventory and policies. Owns the order of things; each kind has its own file.

Tiers: administrators' policies stand in ``security`` at their priority, network policies in ``tenant``, baseline ones
in ``baseline``, and last of all stands that what no policy selects is open, as Kubernetes has it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from buckler.model.label import Operator, Selector
from buckler.policy.field import Place
from buckler.policy.importers.kubernetes.admin import AdminPolicy, read_admin_policy, settle_equals, settle_passes
from buckler.policy.importers.kubernetes.netpol import network_policy
from buckler.policy.importers.kubernetes.objects import Item, Objects, is_bounded, read_objects
from buckler.policy.importers.kubernetes.outside import Outside
from buckler.policy.importers.kubernetes.ports import numbers_label
from buckler.policy.importers.kubernetes.rules import spell_policy
from buckler.policy.importers.kubernetes.selectors import METADATA_NAME, in_namespace, namespace_key, pod_key, port_key
from buckler.policy.importers.kubernetes.workloads import WordsInUse, Workload, list_workloads
from buckler.policy.importers.naming import (
    document_name,
    label_value,
    made_mac,
    network_document,
    policy_document,
    vm_document,
)
from buckler.policy.importers.outcome import Effect, Import, LossBook, unreadable
from buckler.policy.importers.unclear import Teller, Unclear, mapping, text
from buckler.policy.language import Action, Document, EgressRule, IngressRule, InterfaceSpec, Tier
from buckler.policy.problem import Problem
from buckler.policy.source import Source

SOURCE = "kubernetes"
NETWORK = "cluster"
LAST_ORDER = 1_000_000


def import_kubernetes(sources: Iterable[Source], review: str) -> Import:
    """Carry a cluster over. ``review``: the date that every policy gets."""
    book = LossBook()
    objects, problems = read_objects(sources, book)
    if problems:
        return unreadable(SOURCE, problems)
    words = _words_in_use(objects)
    try:
        workloads = list_workloads(objects, words, book)
        labels = _vm_labels(objects, workloads, words, book)
    except Unclear as unclear:
        return unreadable(SOURCE, [Problem(unclear.place.file, unclear.place.line, unclear.place.path, unclear.what)])
    outside = Outside(objects.known.get("Node", []), workloads)
    policies = tuple(_policies(objects, outside, workloads, labels, words, review, book))
    network = network_document(NETWORK, severed={NETWORK} if outside.severs else ())
    return Import(SOURCE, (network, *_vms(workloads, labels, book)), policies, book.told())


def _words_in_use(objects: Objects) -> WordsInUse:
    found: dict[str, set[str]] = {"labels": set(), "spaces": set(), "lacking": set(), "ports": set()}
    for kind, group in objects.known.items():
        if kind.endswith("Policy"):
            before = found["spaces"]
            found["spaces"] = set()
            for item in group:
                _collect_words(item.place.raw.value, False, found)
            found["lacking"] |= found["spaces"] if kind != "NetworkPolicy" else set()
            found["spaces"] |= before
    known = {METADATA_NAME}
    return WordsInUse(
        frozenset(found["labels"]),
        frozenset(found["spaces"] - known),
        frozenset(found["lacking"] - known),
        frozenset(found["ports"]),
    )


def _collect_words(value: object, of_spaces: bool, found: dict[str, set[str]]) -> None:
    if isinstance(value, tuple):
        for each in value:
            _collect_words(each.value, of_spaces, found)
    elif isinstance(value, dict):
        labels = value["matchLabels"].value if "matchLabels" in value else None
        keys = set(labels) if isinstance(labels, dict) else set()
        keys |= {str(value["key"].value)} if "key" in value else set()
        found["labels"] |= keys
        found["spaces"] |= keys if of_spaces else set()
        if of_spaces and "operator" in value and value["operator"].value in {Operator.NOT_IN, Operator.DOES_NOT_EXIST}:
            found["lacking"] |= keys
        found["ports"] |= {
            str(value[each].value) for each in ("port", "namedPort", "destinationNamedPort") if each in value
        }
        for key, inner in value.items():
            _collect_words(inner.value, of_spaces or key in {"namespaceSelector", "namespaces"}, found)


def _vm_labels(
    objects: Objects, workloads: Sequence[Workload], words: WordsInUse, book: LossBook
) -> list[dict[str, str]]:
    """Give each workload's VM its labels. What may be about namespaces whose labels nobody knows closes them."""
    spaces = {item.name: item for item in objects.known.get("Namespace", [])}
    found = []
    for workload in workloads:
        labels = {pod_key(key): label_value(value) for key, value in workload.labels.items()}
        labels |= _namespace_labels(spaces.get(workload.namespace), workload, words, book)
        for (name, protocol), numbers in workload.ports.items():
            if name in words.ports:
                labels[port_key(name, protocol)] = numbers_label(numbers)
                if len(numbers) > 1:
                    what = f"its port {name}/{protocol} has the numbers {', '.join(map(str, numbers))}"
                    means = "rules that allow the name allow neither, others mean both"
                    Teller(book, workload.item.title).tell(workload.item.place, what, means)
        found.append(dict(sorted(labels.items())))
    return found


def _namespace_labels(item: Item | None, workload: Workload, words: WordsInUse, book: LossBook) -> dict[str, str]:
    """Give a namespace's labels, as its VMs have them; its name is always one of them. Raises Unclear."""
    own = {namespace_key(METADATA_NAME): workload.namespace}
    if item is None:
        what, means = "the namespace is not in the input", "it counts as having no label but its name's"
        if words.lacking:
            means = f"rules on {', '.join(sorted(words.lacking)[:3])} may mean it: its workloads are denied everything"
        effect = (
            Effect.TIGHTENED if words.lacking or (words.spaces and workload.namespace != "default") else Effect.NOTE
        )
        Teller(book, f"Namespace {workload.namespace}").tell(workload.item.place, what, means, effect)
        return own
    labels = mapping(item.metadata["labels"]) if "labels" in item.metadata else {}
    return {namespace_key(key): label_value(text(value, "")) for key, value in labels.items()} | own


def _vms(workloads: Sequence[Workload], labels: Sequence[dict[str, str]], book: LossBook) -> Iterable[Document]:
    owners: dict[str, str] = {}
    for workload in workloads:
        for address in workload.addresses:
            owners[address] = "" if address in owners else workload.title
    for workload, each in zip(workloads, labels, strict=True):
        name = document_name(workload.namespace, workload.name)
        if name != f"{workload.namespace}.{workload.name}":
            tell = Teller(book, workload.item.title)
            tell.tell(
                workload.item.place, f"{workload.title} is longer than a VM's name", f"its VM is {name}", Effect.NOTE
            )
        addresses = tuple(one for one in workload.addresses if owners[one] == workload.title and _is_hosts(one))
        card = InterfaceSpec(mac=made_mac(name), network=NETWORK, addresses=addresses)
        place = workload.item.place
        purpose = f"{workload.kind} {workload.title}"
        yield vm_document(name, each, [card], file=place.file, line=place.line, purpose=purpose)


def _is_hosts(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    odd = parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or address == "255.255.255.255"
    return not odd and not (parsed.version == 6 and ("%" in address or parsed.ipv4_mapped))


def _policies(
    objects: Objects,
    outside: Outside,
    workloads: Sequence[Workload],
    vms: Sequence[Mapping[str, str]],
    words: WordsInUse,
    review: str,
    book: LossBook,
) -> Iterable[Document]:
    kinds = ("AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "ClusterNetworkPolicy")
    read = [read_admin_policy(item, outside, book) for kind in kinds for item in objects.known.get(kind, [])]
    read = settle_passes(read, book)
    for each in settle_equals(read, [dict(labels) for labels in vms], book):
        yield from _admin_documents(each, vms, review)
    for item in objects.closing:
        yield _closed(item, review)
    for name in _nameless(objects, workloads, words):
        place = next(each.item.place for each in workloads if each.namespace == name)
        what = f"Namespace {name} is not in the input, and policies look at its labels"
        yield _closing(document_name("closed.namespace", name), what, in_namespace(name), place, review)
    for item in objects.known.get("NetworkPolicy", []):
        yield from network_policy(item, workloads, vms, review, book)
    yield policy_document(
        "kubernetes.open-otherwise",
        review=review,
        description="A workload that no policy selects is open, as in Kubernetes",
        tier=Tier.BASELINE,
        order=LAST_ORDER,
        subject=Selector(),
        ingress=[IngressRule("open", Action.ALLOW)],
        egress=[EgressRule("open", Action.ALLOW)],
    )


def _admin_documents(admin: AdminPolicy, vms: Sequence[Mapping[str, str]], review: str) -> list[Document]:
    place = admin.item.place
    return spell_policy(
        admin.policy,
        vms,
        review=review,
        description=admin.item.title,
        tier=admin.tier,
        order=admin.order,
        file=place.file,
        line=place.line,
    )


def _closed(item: Item, review: str) -> Document:
    """Deny everything that a policy which cannot be read may deny."""
    name = document_name("closed", item.version.partition("/")[0], item.kind.lower(), item.namespace, item.name)
    what = f"{item.version} {item.kind} {item.name} is not understood: everything it may bind is denied"
    subject = in_namespace(item.namespace) if is_bounded(item) else Selector()
    return _closing(name, what, subject, item.place, review)


def _closing(name: str, what: str, subject: Selector, place: Place, review: str) -> Document:
    return policy_document(
        name,
        review=review,
        description=what,
        tier=Tier.SECURITY,
        order=0,
        subject=subject,
        ingress=[IngressRule("closed", Action.DENY)],
        egress=[EgressRule("closed", Action.DENY)],
        file=place.file,
        line=place.line,
    )


def _nameless(objects: Objects, workloads: Sequence[Workload], words: WordsInUse) -> list[str]:
    """List the namespaces of workloads whose labels decide something and are not known."""
    known = {item.name for item in objects.known.get("Namespace", [])}
    return sorted({each.namespace for each in workloads} - known) if words.lacking else []
