"""The store's rows as the values that policy works on. Reads only; owns no decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from buckler.controller.grants import grants_of
from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.label import CLOSED, REMEDIATION
from buckler.model.pool import Host, Network, Outsider, ServiceAddress, Vm
from buckler.policy.claim import Grant, with_grants
from buckler.policy.form import document_from_dict, document_to_dict, origin_to_dict
from buckler.policy.language import Document, Kind, VmSpec
from buckler.policy.learned import Learned, learned_groups, patterns_of
from buckler.policy.naming import patterns_in
from buckler.policy.pool import (
    Pool,
    network_from_document,
    outsider_from_document,
    service_addresses,
    vm_from_document,
)
from buckler.ports.records import DocumentKey, NumberSpace, StoredDocument, VmRecord
from buckler.ports.store import Unit

QUARANTINE = "quarantine"
"""The VM attribute that holds the reason of a quarantine in force."""
QUARANTINE_ALLOW = "quarantine-allow"
"""What a quarantine in force leaves open: nothing, or ``remediation``."""
QUARANTINE_BY = "quarantine-by"
"""Who ordered it."""
QUARANTINE_REVISION = "quarantine-revision"
"""The revision with which it began, or began to allow less."""
QUARANTINE_RULE = "quarantine-rule"
"""The Response that ordered it; none: a person did."""
HOST = "host"
"""The name of the host that has the VM's domain."""
STATE = "state"
"""The domain's state as that host last said."""
PASSPORT = "passport"
"""The id of the key that signed the passport which the domain was last seen with."""


class Registered(msgspec.Struct, frozen=True):
    """A VM as registered: identity, pool value, and what is true of it now by attribute name.

    ``vm`` has the addresses of ``grants``, ``declared`` only those of its document.
    """

    record: VmRecord
    vm: Vm
    attributes: dict[str, str]
    declared: Vm
    grants: tuple[Grant, ...] = ()


Pairs = Mapping[str, tuple[StoredDocument, Document]]
"""Documents in force by key, as rows and as read."""


class Declared(msgspec.Struct, frozen=True):
    """What documents other than VMs' say."""

    documents: tuple[Document, ...]
    networks: tuple[Network, ...]
    outsiders: tuple[Outsider, ...]
    services: tuple[ServiceAddress, ...]


class State(msgspec.Struct, frozen=True):
    """One snapshot of what is declared."""

    stored: Pairs
    rest: tuple[Document, ...]
    """All documents but the VMs'."""
    registered: tuple[Registered, ...]
    pool: Pool
    hosts: tuple[Host, ...]
    """All that ever joined, the revoked ones too."""
    learned: tuple[Learned, ...] = ()
    """What VMs were answered for names: ``rest`` holds a group of them for each name that policies mean."""

    @property
    def documents(self) -> tuple[Document, ...]:
        """The VMs', and the rest."""
        return (*(document for _, document in self.stored.values() if document.kind is Kind.VM), *self.rest)

    def by_uuid(self, uuid: str) -> Registered | None:
        """Find a VM by libvirt's uuid."""
        return next((each for each in self.registered if each.vm.uuid == uuid), None)


def key_of(document: Document) -> DocumentKey:
    """Name a document as the store does."""
    return DocumentKey(document.kind.value, document.tenant, document.name)


def content_of(document: Document) -> str:
    """Write a document for the store, its origin beside it."""
    content = {"document": document_to_dict(document), "origin": origin_to_dict(document)}
    return msgspec.json.encode(content).decode()


def document_of(stored: StoredDocument) -> Document:
    """Read what ``content_of`` wrote."""
    return _parsed(stored.content)


@lru_cache(maxsize=65536)
def _parsed(content: str) -> Document:
    """Equal texts are equal documents, whatever revision they are of: nothing is parsed twice."""
    parts = msgspec.json.decode(content)
    return document_from_dict(parts["document"], parts["origin"])


def load_documents(unit: Unit) -> dict[str, tuple[StoredDocument, Document]]:
    """All documents in force by their policy key."""
    pairs = [(stored, document_of(stored)) for stored in unit.documents.all()]
    return {document.key: (stored, document) for stored, document in pairs}


def load_state(unit: Unit) -> State:
    """Read everything that resolving and compiling need."""
    pairs = load_documents(unit)
    registered = _registered(unit, tuple(document for _, document in pairs.values()))
    others = [document for _, document in pairs.values() if document.kind is not Kind.VM]
    declared, learned = declared_in(unit, others), load_learned(unit)
    rest = (*declared.documents, *learned_groups(declared.documents, learned))
    hosts = tuple(record.host for record in unit.hosts.all())
    vms = tuple(each.vm for each in registered)
    pool = Pool(declared.networks, vms, hosts, declared.outsiders, declared.services)
    return State(pairs, rest, registered, pool, hosts, learned)


def declared_in(unit: Unit, others: Iterable[Document]) -> Declared:
    """Put together what documents other than VMs' say."""
    rest = tuple(others)
    naming = tuple(document for document in rest if patterns_of(document))
    zones = unit.numbers.table(NumberSpace.ZONE)
    networks: list[Network] = []
    for document in rest:
        if document.kind is Kind.NETWORK:
            network = network_from_document(document, Zone(zones[zone_name(document)]))
            networks.append(msgspec.structs.replace(network, names=patterns_in(naming, network.tenant)))
    outsiders = tuple(outsider_from_document(each) for each in rest if each.kind is Kind.ENDPOINT)
    return Declared(rest, tuple(networks), outsiders, service_addresses(rest))


def load_learned(unit: Unit) -> tuple[Learned, ...]:
    """Read every answer that is kept."""
    return tuple(
        Learned(each.name, each.network, each.address, each.until, each.vm, each.resolver, each.at)
        for each in unit.names.all()
    )


def zone_name(network: Document) -> str:
    """Name a zone: a network that another tenant makes under an old name is another zone."""
    return f"{network.tenant}/{network.name}"


def attributes_now(unit: Unit, vm: VmId) -> dict[str, str]:
    """What is true of a VM now."""
    return {item.name: item.value for item in unit.vms.attributes(vm) if not item.valid_to}


def quarantine_label(attributes: Mapping[str, str]) -> str:
    """Say what the label of quarantine is of a VM with these attributes; empty: it has none."""
    if QUARANTINE not in attributes:
        return ""
    return REMEDIATION if attributes.get(QUARANTINE_ALLOW) == REMEDIATION else CLOSED


def merge_attributes(unit: Unit, vm: VmId, changes: dict[str, str], at: float) -> bool:
    """Make ``changes`` true of a VM, empty ones untrue; say whether anything changed."""
    now = attributes_now(unit, vm)
    after = {name: value for name, value in {**now, **changes}.items() if value}
    if after != now:
        unit.vms.set_attributes(vm, after, at)
    return after != now


def attributes_of(document: Document) -> dict[str, str]:
    """What a VM's document says, as attributes with validity."""
    if not isinstance(document.spec, VmSpec):
        return {}
    macs = ",".join(card.mac for card in document.spec.interfaces)
    labels = msgspec.json.encode(document.labels, order="sorted").decode() if document.labels else ""
    return {"uuid": document.spec.uuid, "macs": macs, "labels": labels, "mode": document.spec.mode.value}


def _registered(unit: Unit, documents: tuple[Document, ...]) -> tuple[Registered, ...]:
    records = {(vm.tenant, vm.name): vm for vm in unit.vms.all()}
    found, now = [], unit.vms.attributes_now()
    for document in documents:
        if document.kind is not Kind.VM:
            continue
        record = records[document.tenant, document.name]
        found.append(register(document, record, now.get(record.id, {})))
    return tuple(found)


def register(document: Document, record: VmRecord, attributes: dict[str, str]) -> Registered:
    """Lay beside each other what a VM's document says and what is true of it now."""
    vm = vm_from_document(document, record.id, VmNumber(record.number), quarantine=quarantine_label(attributes))
    grants = grants_of(record.id, attributes)
    return Registered(record, with_grants(vm, grants), attributes, declared=vm, grants=grants)
