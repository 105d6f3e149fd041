"""What a change that is not made would do to the matrix. Allocates nothing."""

from __future__ import annotations

from collections.abc import Iterable

from buckler.controller.grants import grants_of
from buckler.controller.numbering import read_numbers
from buckler.controller.pool_state import State, load_learned, quarantine_label, zone_name
from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.operatorapi.documents import DiffResult
from buckler.model.pool import Network, Vm
from buckler.policy.claim import with_grants
from buckler.policy.documentdiff import diff_documents
from buckler.policy.draft import Draft
from buckler.policy.language import Document, Kind
from buckler.policy.learned import learned_groups
from buckler.policy.pool import (
    Pool,
    network_from_document,
    outsider_from_document,
    service_addresses,
    vm_from_document,
)
from buckler.policy.reachdiff import diff_reach
from buckler.policy.timing import active
from buckler.ports.records import NumberSpace
from buckler.ports.store import Unit


def imagine(unit: Unit, documents: tuple[Document, ...], now: float) -> Draft:
    """Make of documents what the pool would be with them now: quarantines, granted addresses and learned names stay."""
    told = active((*documents, *learned_groups(documents, load_learned(unit))), now)
    return Draft(imagined_pool(unit, documents), told.documents, read_numbers(unit), told.over)


def imagine_known(
    unit: Unit, state: State, documents: tuple[Document, ...], now: float
) -> tuple[Pool, tuple[Document, ...], tuple[Document, ...]]:
    """What ``imagine`` says without numbers, in less time: the pool, all documents but VMs', and those that are over.

    VMs are taken as registered where ``state`` has their documents.
    """
    rest = [each for each in documents if each.kind is not Kind.VM]
    told = active((*rest, *learned_groups(rest, state.learned)), now)
    registered = {(each.record.tenant, each.record.name): each for each in state.registered}
    kept = {id(document) for _, document in state.stored.values()}
    vms = []
    for document in documents:
        if document.kind is Kind.VM:
            known = registered.get((document.tenant, document.name))
            if known is None or id(document) not in kept:
                held = known.attributes if known else {}
                name = known.record.id if known else VmId(document.key)
                made = vm_from_document(document, name, VmNumber(1), quarantine=quarantine_label(held))
                vms.append(with_grants(made, grants_of(name, held)))
            else:
                vms.append(known.vm)
    outsiders = tuple(outsider_from_document(each) for each in rest if each.kind is Kind.ENDPOINT)
    pool = Pool(_networks(unit, rest), tuple(vms), state.hosts, outsiders, service_addresses(rest))
    return pool, told.documents, told.over


def _networks(unit: Unit, documents: Iterable[Document]) -> tuple[Network, ...]:
    zones = unit.numbers.table(NumberSpace.ZONE)
    unknown = max(zones.values(), default=0) + 1
    found: list[Network] = []
    for document in documents:
        if document.kind is Kind.NETWORK:
            zone = zones.get(zone_name(document), unknown + len(found))
            found.append(network_from_document(document, Zone(zone)))
    return tuple(found)


def compare_documents(unit: Unit, before: tuple[Document, ...], after: tuple[Document, ...], now: float) -> DiffResult:
    """Say what is another in ``after``, in documents and in who may reach whom now."""
    delta = diff_reach(imagine(unit, before, now), imagine(unit, after, now))
    return DiffResult(diff_documents(before, after), delta.pairs, count=delta.count)


def imagined_pool(unit: Unit, documents: tuple[Document, ...]) -> Pool:
    """The pool as it would be with these documents; what is not registered yet gets names in place of ids."""
    records, attributes = {(vm.tenant, vm.name): vm for vm in unit.vms.all()}, unit.vms.attributes_now()
    vms: list[Vm] = []
    for document in documents:
        if document.kind is Kind.VM:
            record = records.get((document.tenant, document.name))
            vm = record.id if record else VmId(document.key)
            held = attributes.get(vm, {})
            number = VmNumber(len(vms) + 1)
            made = vm_from_document(document, vm, number, quarantine=quarantine_label(held))
            vms.append(with_grants(made, grants_of(vm, held)))
    return Pool(
        networks=_networks(unit, documents),
        vms=tuple(vms),
        hosts=tuple(record.host for record in unit.hosts.all()),
        outsiders=tuple(outsider_from_document(each) for each in documents if each.kind is Kind.ENDPOINT),
        services=service_addresses(documents),
    )
